//! Elementwise kernels: each invocation makes four elements.

mod binary;
mod copy;

pub(crate) use binary::binary;
pub(crate) use copy::{copy, embed, select};

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::device::gpu::{Bind, Gpu, Launch};
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
    let group = workgroup(gpu_of(op, &out)?);
    gpu_of(op, &out)?.run(Launch {
        kernel: "elementwise/arange",
        elems: &[("y", dtype)],
        constants: &[("WORKGROUP", f64::from(group))],
        bind: &[Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[count as i32, first]),
        groups: u64::from(count.div_ceil(group)),
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
    let group = workgroup(gpu);
    gpu.run(Launch {
        kernel: "elementwise/cast",
        elems: &[("x", x.dtype()), ("y", dtype)],
        constants: &[("FROM", from), ("TO", kind(dtype)), ("WORKGROUP", f64::from(group))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[count, offset_fours(op, &x)?]),
        groups: u64::from(count.div_ceil(group)),
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
    let group = workgroup(gpu);
    let params = UnaryParams { count, offset: offset_fours(op, &x)?, a: f.a as f32, b: f.b as f32 };
    gpu.run(Launch {
        kernel: "elementwise/unary",
        elems: &[("x", x.dtype()), ("y", x.dtype())],
        constants: &[("OP", f64::from(f.op as u32)), ("WORKGROUP", f64::from(group))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(count.div_ceil(group)),
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
    let group = workgroup(gpu);
    let (x_offset, dy_offset) = (offset_fours(op, &x)?, offset_fours(op, &dy)?);
    let params = UnaryGradParams { count, x_offset, dy_offset, a: f.a as f32, b: f.b as f32 };
    gpu.run(Launch {
        kernel: "elementwise/unary_grad",
        elems: &[("x", x.dtype()), ("dy", x.dtype()), ("dx", x.dtype())],
        constants: &[("OP", f64::from(f.op as u32)), ("WORKGROUP", f64::from(group))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Read(dy.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(count.div_ceil(group)),
    })?;
    Ok(out)
}

fn gpu_of<'a>(op: &'static str, x: &'a Tensor) -> Result<&'a Gpu> {
    let gpu = x.device().gpu_ref().map(|gpu| &**gpu);
    gpu.ok_or_else(|| Error::argument(op, "a GPU kernel asked for on a CPU device"))
}

/// Invocations of a workgroup; a software driver runs small ones faster.
fn workgroup(gpu: &Gpu) -> u32 {
    if gpu.caps().software { 64 } else { 256 }
}

/// Kernels count in 32 bits.
fn small(op: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::argument(op, format!("{value} exceeds what a kernel can count to, 2^32 - 1")))
}

/// Groups of four elements of a tensor.
fn fours(op: &'static str, x: &Tensor) -> Result<u32> {
    small(op, x.elements().div_ceil(4))
}

/// Offset of an aligned tensor in groups of four elements.
fn offset_fours(op: &'static str, x: &Tensor) -> Result<u32> {
    small(op, x.layout().offset / 4)
}

/// The tensor itself if it is contiguous from a multiple of four elements on, else a copy.
fn aligned(op: &'static str, x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() && x.layout().offset.is_multiple_of(4) { Ok(x.clone()) } else { copy(op, x) }
}
