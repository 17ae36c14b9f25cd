//! Functions of two views.

use bytemuck::{Pod, Zeroable};

use super::strided::Views;
use super::{copy, flag, gpu_of, size, spread};
use crate::device::gpu::{Bind, Launch};
use crate::ops::elementwise::Binary;
use crate::{DType, Result, Tensor};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    shape: [u32; 4],
    magic: [u32; 4],
    strides: [[u32; 4]; 2],
    shifts: u32,
    count: u32,
    offsets: [u32; 2],
}

/// `f(a, b)` of two views of one shape.
pub(crate) fn binary(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    let dtype = if f.is_comparison() { DType::Bool } else { a.dtype() };
    let out = Tensor::gpu_uninit(op, a.dims(), dtype, a.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let Some(views) = Views::of(op, [*a.layout(), *b.layout()])? else {
        return binary(op, &copy(op, a)?, &copy(op, b)?, f);
    };
    let Views { shape, magic, shifts, strides, offsets, access, deep } = views;
    let params = Params { shape, magic, strides, shifts, count: size(op, out.elements())?, offsets };
    let gpu = gpu_of(op, &out)?;
    let ([workgroup, fours], groups) = spread(gpu, params.count.div_ceil(4));
    gpu.run(Launch {
        kernel: "elementwise/binary",
        elems: &[("a", a.dtype()), ("b", b.dtype()), ("y", dtype)],
        constants: &[
            ("OP", f64::from(f as u32)),
            ("A_ACCESS", access[0].constant()),
            ("B_ACCESS", access[1].constant()),
            ("DEEP", deep),
            ("INTEGER", flag(a.dtype().is_int())),
            ("SIGNED", flag(a.dtype() == DType::I32)),
            workgroup,
            fours,
        ],
        bind: &[Bind::Read(a.gpu_buffer(op)?), Bind::Read(b.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}
