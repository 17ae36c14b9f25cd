//! Functions of two views: the ways in which the kernel finds the operands' elements.

use bytemuck::{Pod, Zeroable};

use super::copy::{copy, to_four};
use super::{aligned, gpu_of, small, workgroup};
use crate::device::gpu::{Bind, Launch};
use crate::layout::collapse;
use crate::ops::elementwise::Binary;
use crate::{DType, Result, Tensor};

/// The modes of `shaders/elementwise/binary.wgsl`.
#[derive(Clone, Copy, PartialEq)]
#[repr(u32)]
enum Mode {
    Dense = 0,
    Scalar = 1,
    Row = 2,
    Column = 3,
    Strided = 4,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    shape: [u32; 4],
    a_strides: [u32; 4],
    b_strides: [u32; 4],
    count: u32,
    a_offset: u32,
    b_offset: u32,
    pad: u32,
}

/// `f(a, b)` of two views of one shape.
pub(crate) fn binary(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    let dtype = if f.is_comparison() { DType::Bool } else { a.dtype() };
    let out = Tensor::gpu_uninit(op, a.dims(), dtype, a.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let (shape, strides) = collapse(&[*a.layout(), *b.layout()]);
    if shape.len() > 4 {
        return binary(op, &copy(op, a)?, &copy(op, b)?, f);
    }
    let mode_of = |x: &Tensor, strides: &[usize]| mode(&shape, strides, x.layout().offset);
    let (a_mode, b_mode) = (mode_of(a, &strides[0]), mode_of(b, &strides[1]));
    // A dense operand that starts between fours is worth a copy rather than the slow path for both.
    if a_mode == Mode::Strided && a.is_contiguous() {
        return binary(op, &aligned(op, a)?, b, f);
    }
    if b_mode == Mode::Strided && b.is_contiguous() {
        return binary(op, a, &aligned(op, b)?, f);
    }
    let offset = |x: &Tensor, mode| {
        let whole = matches!(mode, Mode::Dense | Mode::Row);
        small(op, if whole { x.layout().offset / 4 } else { x.layout().offset })
    };
    let params = Params {
        shape: to_four(op, &shape, 1)?,
        a_strides: to_four(op, &strides[0], 0)?,
        b_strides: to_four(op, &strides[1], 0)?,
        count: small(op, out.elements())?,
        a_offset: offset(a, a_mode)?,
        b_offset: offset(b, b_mode)?,
        pad: 0,
    };
    let gpu = gpu_of(op, &out)?;
    let group = workgroup(gpu);
    gpu.run(Launch {
        kernel: "elementwise/binary",
        elems: &[("a", a.dtype()), ("b", b.dtype()), ("y", dtype)],
        constants: &[
            ("OP", f64::from(f as u32)),
            ("A_MODE", f64::from(a_mode as u32)),
            ("B_MODE", f64::from(b_mode as u32)),
            ("INTEGER", f64::from(u8::from(a.dtype().is_int()))),
            ("SIGNED", f64::from(u8::from(a.dtype() == DType::I32))),
            ("WORKGROUP", f64::from(group)),
        ],
        bind: &[Bind::Read(a.gpu_buffer(op)?), Bind::Read(b.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(params.count.div_ceil(4).div_ceil(group)),
    })?;
    Ok(out)
}

/// How an operand with these strides over the merged shape is read. Rows and columns are read in fours, which must be whole.
fn mode(shape: &[usize], strides: &[usize], offset: usize) -> Mode {
    let mut row_major = 1;
    let dense = shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = stride == row_major;
        row_major *= size;
        fits
    });
    match (shape, strides) {
        ([], _) | ([_], [0]) => Mode::Scalar,
        _ if dense && offset.is_multiple_of(4) => Mode::Dense,
        ([_, columns], [0, 1]) if offset.is_multiple_of(4) && columns % 4 == 0 => Mode::Row,
        ([_, columns], [_, 0]) if columns % 4 == 0 => Mode::Column,
        _ => Mode::Strided,
    }
}
