//! Kernels that move elements as bits: dense copies, blocks among zeros, choices.

use bytemuck::{Pod, Zeroable};

use super::strided::{Access, Views, to_four};
use super::transpose::Transpose;
use super::{bits, flag, gpu_of, size, spread};
use crate::device::gpu::{Bind, Launch};
use crate::kernels::divisor::{Divisor, divisors};
use crate::layout::{Dims, collapse};
use crate::ops::elementwise::Place;
use crate::{DType, Result, Tensor};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CopyParams {
    shape: [u32; 4],
    magic: [u32; 4],
    strides: [u32; 4],
    outer_shape: [u32; 4],
    outer_magic: [u32; 4],
    outer_strides: [u32; 4],
    shifts: u32,
    outer_shifts: u32,
    count: u32,
    offset: u32,
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
    let (mut view, mut elem) =
        (View { shape, strides: strides.to_vec(), offset, count: out.elements() }, bits(x.dtype()));
    if x.dtype().is_half()
        && let Some(words) = view.in_pairs()
    {
        (view, elem) = (words, DType::U32);
    }
    let View { shape, strides, offset, count } = view;
    // Software drivers have no memory that reads along rows spare, and pay for the barrier.
    if elem == DType::U32
        && !gpu.caps().software
        && let Some(transpose) = Transpose::of(&shape, &strides, offset)
    {
        transpose.run(op, source, &out)?;
        return Ok(out);
    }
    let split = shape.len().saturating_sub(4);
    let (outer_shape, shape_) = (to_four(op, &shape[..split], 1)?, to_four(op, &shape[split..], 1)?);
    let (outer_magic, outer_shifts) = divisors(outer_shape);
    let (magic, shifts) = divisors(shape_);
    let params = CopyParams {
        shape: shape_,
        magic,
        strides: to_four(op, &strides[split..], 0)?,
        outer_shape,
        outer_magic,
        outer_strides: to_four(op, &strides[..split], 0)?,
        shifts,
        outer_shifts,
        count: size(op, count)?,
        offset: size(op, offset)?,
    };
    // Nothing dense comes here but halves from between two words.
    let access = match Access::of(&shape, &strides, offset) {
        Access::Four => Access::Four,
        Access::Splat | Access::Scalar => Access::Splat,
        _ => Access::Gather,
    };
    let ([workgroup, fours], groups) = spread(gpu, params.count.div_ceil(4));
    gpu.run(Launch {
        kernel: "elementwise/copy",
        elems: &[("x", elem), ("y", elem)],
        constants: &[
            ("ACCESS", access.constant()),
            ("DEEP", flag(shape.len() > 2)),
            ("OUTER", flag(split > 0)),
            workgroup,
            fours,
        ],
        bind: &[Bind::Read(source), Bind::Write(target)],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}

/// A view with merged dimensions.
struct View {
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    count: usize,
}

impl View {
    /// A view of halves as one of words, where neighbours share words throughout.
    fn in_pairs(&self) -> Option<View> {
        let (row, outer) = (*self.shape.last()?, self.strides.split_last().filter(|last| *last.0 == 1)?.1);
        if row % 2 + self.offset % 2 + outer.iter().map(|stride| stride % 2).sum::<usize>() > 0 {
            return None;
        }
        let mut words = View {
            shape: self.shape.clone(),
            strides: self.strides.iter().map(|stride| stride.div_ceil(2)).collect(),
            offset: self.offset / 2,
            count: self.count / 2,
        };
        *words.shape.last_mut()? = row / 2;
        Some(words)
    }
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
    divisors: [[u32; 2]; 3],
}

/// Zeros with the contiguous `x` in their midst.
pub(crate) fn embed(op: &'static str, x: &Tensor, shape: Dims, place: Place) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, shape, x.dtype(), x.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let gpu = gpu_of(op, &out)?;
    let stepped = place.step > 1;
    // Without steps, the last two dimensions are one.
    let (inner, times) = if stepped { (place.inner, 1) } else { (1, place.inner) };
    let (middle, length, start) = (place.size * times, place.length * times, place.start * times);
    let offset = x.layout().offset;
    let whole = if stepped { inner % 4 } else { middle % 4 + length % 4 + start % 4 };
    let sizes = [size(op, inner)?, size(op, middle)?, size(op, place.step)?];
    let params = EmbedParams {
        count: size(op, out.elements())?,
        inner: sizes[0],
        size: sizes[1],
        length: size(op, length)?,
        start: size(op, start)?,
        step: sizes[2],
        offset: size(op, offset)?,
        divisors: sizes.map(Divisor::new).map(|d| [d.magic, d.shift]),
    };
    let ([workgroup, fours], groups) = spread(gpu, params.count.div_ceil(4));
    let elem = bits(x.dtype());
    gpu.run(Launch {
        kernel: "elementwise/embed",
        elems: &[("x", elem), ("y", elem)],
        constants: &[("STEPPED", flag(stepped)), ("ALIGNED", flag(whole + offset % 4 == 0)), workgroup, fours],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SelectParams {
    shape: [u32; 4],
    magic: [u32; 4],
    strides: [[u32; 4]; 3],
    shifts: u32,
    count: u32,
    offsets: [u32; 3],
    pad: [u32; 3],
}

/// `condition ? a : b` of three views of one shape.
pub(crate) fn select(op: &'static str, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, a.dims(), a.dtype(), a.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let Some(views) = Views::of(op, [*condition.layout(), *a.layout(), *b.layout()])? else {
        return select(op, &copy(op, condition)?, &copy(op, a)?, &copy(op, b)?);
    };
    let gpu = gpu_of(op, &out)?;
    let Views { shape, magic, shifts, strides, offsets, access, deep } = views;
    let params = SelectParams { shape, magic, strides, shifts, count: size(op, out.elements())?, offsets, pad: [0; 3] };
    let ([workgroup, fours], groups) = spread(gpu, params.count.div_ceil(4));
    let elem = bits(a.dtype());
    gpu.run(Launch {
        kernel: "elementwise/select",
        elems: &[("a", elem), ("b", elem), ("y", elem)],
        constants: &[
            ("C_ACCESS", access[0].constant()),
            ("A_ACCESS", access[1].constant()),
            ("B_ACCESS", access[2].constant()),
            ("DEEP", deep),
            workgroup,
            fours,
        ],
        bind: &[
            Bind::Read(condition.gpu_buffer(op)?),
            Bind::Read(a.gpu_buffer(op)?),
            Bind::Read(b.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::bytes_of(&params),
        groups,
    })?;
    Ok(out)
}
