//! Elementwise kernels, four elements at a time.

mod binary;
mod copy;
mod gated;
mod strided;
mod transpose;

pub(crate) use binary::binary;
pub(crate) use copy::{copy, embed, select};
pub(crate) use gated::{gated, gated_grad};

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use super::{bits, flag, gpu_of, size, spread};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::elementwise::Unary;
use crate::{DType, Device, Error, Result, Tensor};

pub(crate) fn full(op: &'static str, value: f64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, shape, dtype, device)?;
    let twice = |bits: u16| u32::from(bits) * 0x1_0001;
    let word = match dtype {
        DType::F32 => (value as f32).to_bits(),
        DType::F16 => twice(f16::from_f64(value).to_bits()),
        DType::BF16 => twice(bf16::from_f64(value).to_bits()),
        DType::I32 => value as i32 as u32,
        DType::U32 => value as u32,
        DType::Bool => u32::from(value != 0.0),
        DType::F64 => return Err(Error::DType { op, got: dtype, expected: "a dtype of the GPU" }),
    };
    gpu_of(op, &out)?.fill(out.gpu_storage(op)?, word)?;
    Ok(out)
}

pub(crate) fn arange(op: &'static str, start: i64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, shape, dtype, device)?;
    let count = fours(op, &out)?;
    let first = i32::try_from(start).ok().filter(|first| first.checked_add_unsigned(4 * count).is_some());
    let Some(first) = first else {
        let message = format!("{} integers from {start} on do not all fit into i32", out.elements());
        return Err(Error::argument(op, message));
    };
    let gpu = gpu_of(op, &out)?;
    let (spread, groups) = spread(gpu, count);
    gpu.run(Launch {
        kernel: "elementwise/arange",
        elems: &[("y", dtype)],
        constants: &spread,
        bind: &[Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[count as i32, first]),
        groups,
    })?;
    Ok(out)
}

/// `x` in another dtype.
pub(crate) fn cast(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let kind = |dtype| match dtype {
        DType::I32 => 1.0,
        DType::U32 => 2.0,
        DType::Bool => 3.0,
        _ => 0.0,
    };
    // Truth values are stored as u32.
    let from = if x.dtype() == DType::Bool { 2.0 } else { kind(x.dtype()) };
    let x = aligned(op, x)?;
    let out = Tensor::gpu_uninit(op, x.dims(), dtype, x.device())?;
    let (gpu, count) = (gpu_of(op, &out)?, fours(op, &out)?);
    let ([workgroup, fours], groups) = spread(gpu, count);
    gpu.run(Launch {
        kernel: "elementwise/cast",
        elems: &[("x", x.dtype()), ("y", dtype)],
        constants: &[("FROM", from), ("TO", kind(dtype)), workgroup, fours],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[count, offset_fours(op, &x)?]),
        groups,
    })?;
    Ok(out)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct UnaryParams {
    count: u32,
    offset: u32,
    a: f32,
    b: f32,
}

/// `f(x)`.
pub(crate) fn unary(op: &'static str, x: &Tensor, f: Unary) -> Result<Tensor> {
    let x = aligned(op, x)?;
    let out = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let (gpu, count) = (gpu_of(op, &out)?, fours(op, &out)?);
    let ([workgroup, fours], groups) = spread(gpu, count);
    let params = UnaryParams { count, offset: offset_fours(op, &x)?, a: f.a as f32, b: f.b as f32 };
    gpu.run(Launch {
        kernel: "elementwise/unary",
        elems: &[("x", x.dtype()), ("y", x.dtype())],
        constants: &[("OP", f64::from(f.op as u32)), workgroup, fours],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct UnaryGradParams {
    count: u32,
    x_offset: u32,
    dy_offset: u32,
    a: f32,
    b: f32,
}

/// `dy f'(x)`.
pub(crate) fn unary_grad(op: &'static str, x: &Tensor, dy: &Tensor, f: Unary) -> Result<Tensor> {
    let (x, dy) = (aligned(op, x)?, aligned(op, dy)?);
    let out = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let (gpu, count) = (gpu_of(op, &out)?, fours(op, &out)?);
    let ([workgroup, fours], groups) = spread(gpu, count);
    let (x_offset, dy_offset) = (offset_fours(op, &x)?, offset_fours(op, &dy)?);
    let params = UnaryGradParams { count, x_offset, dy_offset, a: f.a as f32, b: f.b as f32 };
    gpu.run(Launch {
        kernel: "elementwise/unary_grad",
        elems: &[("x", x.dtype()), ("dy", x.dtype()), ("dx", x.dtype())],
        constants: &[("OP", f64::from(f.op as u32)), workgroup, fours],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Read(dy.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}

/// Groups of four elements of a tensor.
fn fours(op: &'static str, x: &Tensor) -> Result<u32> {
    size(op, x.elements().div_ceil(4))
}

/// Offset of an aligned tensor in groups of four elements.
fn offset_fours(op: &'static str, x: &Tensor) -> Result<u32> {
    size(op, x.layout().offset / 4)
}

/// The tensor itself if it is contiguous from a multiple of four elements on, else a copy.
pub(super) fn aligned(op: &'static str, x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() && x.layout().offset.is_multiple_of(4) { Ok(x.clone()) } else { copy(op, x) }
}
