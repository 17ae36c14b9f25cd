//! Kernels that move elements as bits: dense copies, blocks among zeros, choices.

use bytemuck::{Pod, Zeroable};

use super::{gpu_of, small, workgroup};
use crate::device::gpu::{Bind, Launch};
use crate::layout::{Dims, collapse};
use crate::ops::elementwise::Place;
use crate::{Error, Result, Tensor};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CopyParams {
    outer_shape: [u32; 4],
    shape: [u32; 4],
    outer_strides: [u32; 4],
    strides: [u32; 4],
    count: u32,
    offset: u32,
    inner: u32,
    pad: u32,
}

/// A dense copy of any view: by the copy engine where it is dense already, else by a kernel.
pub(crate) fn copy(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let gpu = gpu_of(op, &out)?;
    let (source, target) = (x.gpu_buffer(op)?, out.gpu_buffer(op)?);
    let offset = x.layout().offset;
    let whole_words = !x.dtype().is_half() || offset.is_multiple_of(2);
    if x.is_contiguous() && whole_words {
        let (start, bytes) = (x.dtype().gpu_bytes(offset), x.dtype().gpu_bytes(x.elements()));
        gpu.copy(&source, start, &target, 0, bytes)?;
        return Ok(out);
    }
    let (shape, strides) = collapse(&[*x.layout()]);
    let strides = strides.first().map_or(&[][..], |s| s);
    let split = shape.len().saturating_sub(4);
    let params = CopyParams {
        outer_shape: to_four(op, &shape[..split], 1)?,
        shape: to_four(op, &shape[split..], 1)?,
        outer_strides: to_four(op, &strides[..split], 0)?,
        strides: to_four(op, &strides[split..], 0)?,
        count: small(op, out.elements())?,
        offset: small(op, offset)?,
        inner: small(op, shape[split..].iter().product())?,
        pad: 0,
    };
    let group = workgroup(gpu);
    gpu.run(Launch {
        kernel: "elementwise/copy",
        elems: &[],
        constants: &[("HALF", flag(x.dtype().is_half())), ("DEEP", flag(split > 0)), ("WORKGROUP", f64::from(group))],
        bind: &[Bind::Read(source), Bind::Write(target)],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(params.count.div_ceil(4).div_ceil(group)),
    })?;
    Ok(out)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct EmbedParams {
    count: u32,
    inner: u32,
    size: u32,
    length: u32,
    start: u32,
    step: u32,
    offset: u32,
}

/// Zeros with the contiguous `x` in their midst.
pub(crate) fn embed(op: &'static str, x: &Tensor, shape: Dims, place: Place) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, shape, x.dtype(), x.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let gpu = gpu_of(op, &out)?;
    let params = EmbedParams {
        count: small(op, out.elements())?,
        inner: small(op, place.inner)?,
        size: small(op, place.size)?,
        length: small(op, place.length)?,
        start: small(op, place.start)?,
        step: small(op, place.step)?,
        offset: small(op, x.layout().offset)?,
    };
    let group = workgroup(gpu);
    gpu.run(Launch {
        kernel: "elementwise/embed",
        elems: &[],
        constants: &[("HALF", flag(x.dtype().is_half())), ("WORKGROUP", f64::from(group))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(params.count.div_ceil(4).div_ceil(group)),
    })?;
    Ok(out)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SelectParams {
    shape: [u32; 4],
    c_strides: [u32; 4],
    a_strides: [u32; 4],
    b_strides: [u32; 4],
    count: u32,
    c_offset: u32,
    a_offset: u32,
    b_offset: u32,
}

/// `condition ? a : b` of three views of one shape.
pub(crate) fn select(op: &'static str, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, a.dims(), a.dtype(), a.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let (shape, strides) = collapse(&[*condition.layout(), *a.layout(), *b.layout()]);
    if shape.len() > 4 {
        return select(op, &copy(op, condition)?, &copy(op, a)?, &copy(op, b)?);
    }
    let gpu = gpu_of(op, &out)?;
    let params = SelectParams {
        shape: to_four(op, &shape, 1)?,
        c_strides: to_four(op, &strides[0], 0)?,
        a_strides: to_four(op, &strides[1], 0)?,
        b_strides: to_four(op, &strides[2], 0)?,
        count: small(op, out.elements())?,
        c_offset: small(op, condition.layout().offset)?,
        a_offset: small(op, a.layout().offset)?,
        b_offset: small(op, b.layout().offset)?,
    };
    let group = workgroup(gpu);
    gpu.run(Launch {
        kernel: "elementwise/select",
        elems: &[],
        constants: &[
            ("HALF", flag(a.dtype().is_half())),
            ("LINEAR", flag(shape.len() <= 1)),
            ("WORKGROUP", f64::from(group)),
        ],
        bind: &[
            Bind::Read(condition.gpu_buffer(op)?),
            Bind::Read(a.gpu_buffer(op)?),
            Bind::Read(b.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::bytes_of(&params),
        groups: u64::from(params.count.div_ceil(4).div_ceil(group)),
    })?;
    Ok(out)
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// Up to four sizes or strides, at the end; `fill` before them.
pub(super) fn to_four(op: &'static str, values: &[usize], fill: u32) -> Result<[u32; 4]> {
    let mut out = [fill; 4];
    let start = 4usize.checked_sub(values.len()).ok_or_else(|| Error::shape(op, "more than four dimensions"))?;
    for (to, &value) in out[start..].iter_mut().zip(values) {
        *to = small(op, value)?;
    }
    Ok(out)
}
