//! Copies, conversions between dtypes, and zeros around a block.

use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::device::gpu::Gpu;
use crate::kernels::elementwise as kernels;
use crate::kernels::window::{self, piecewise};
use crate::layout::{Dims, Layout};
use crate::{DType, Result, Tensor};

/// A dense copy of any view.
pub(crate) fn copy(op: &'static str, x: &Tensor) -> Result<Tensor> {
    x.device().expect_room(op, x.elements(), x.dtype())?;
    let out = match x.device().kind() {
        Kind::Cpu(_) => cpu::copy(op, &x.detach())?,
        // The copy engine takes any size, in whole words.
        Kind::Gpu(_) if x.is_contiguous() && !(x.dtype().is_half() && x.layout().offset % 2 == 1) => {
            kernels::copy(op, &x.detach())?
        }
        Kind::Gpu(_) => piecewise(op, &[x], (x.dims(), x.dtype()), x.rank(), &|x| kernels::copy(op, &x[0]))?,
    };
    Ok(record(op, out, &[x], |dy, _| Ok(vec![Some(dy.clone())])))
}

/// The same values in another dtype.
pub(crate) fn cast(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    x.device().expect_dtype(op, dtype)?;
    let dense = x.detach().contiguous()?;
    let out = match x.device().kind() {
        Kind::Cpu(_) => cpu::cast(op, &dense, dtype)?,
        Kind::Gpu(_) => piecewise(op, &[&dense], (x.dims(), dtype), x.rank(), &|x| kernels::cast(op, &x[0], dtype))?,
    };
    if !dtype.is_float() {
        return Ok(out);
    }
    let old = x.dtype();
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(cast(op, dy, old)?)])))
}

/// Zeros of `shape` with `x` at `start, start + step, ...` of dimension `dim`: what slicing undoes.
pub(crate) fn embed(
    op: &'static str,
    x: &Tensor,
    shape: Dims,
    dim: usize,
    start: usize,
    step: usize,
) -> Result<Tensor> {
    let dense = x.detach().contiguous()?;
    let length = x.shape()[dim];
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    let place = Place {
        outer: shape[..dim].iter().product(),
        inner: shape[dim + 1..].iter().product(),
        size: shape[dim],
        length,
        start,
        step,
    };
    let out = match x.device().kind() {
        Kind::Cpu(_) => cpu::embed(op, &dense, shape, place)?,
        Kind::Gpu(gpu) => embed_in_pieces(op, gpu, &dense, place)?.with_layout(Layout::row_major(shape)),
    };
    Ok(record(op, out, &[x], move |dy, _| {
        let view = dy.layout().slice(dim, start, length, step);
        Ok(vec![Some(dy.with_layout(view))])
    }))
}

/// [outer, size, inner] on a GPU, from pieces of it where a binding does not hold all.
fn embed_in_pieces(op: &'static str, gpu: &Gpu, x: &Tensor, place: Place) -> Result<Tensor> {
    let Place { outer, inner, size, length, start, step } = place;
    let shape = Dims::new(op, &[outer, size, inner])?;
    let output = (shape, x.dtype());
    if let Some(x) = window::windows(gpu, std::slice::from_ref(x), &[output]) {
        return kernels::embed(op, &x[0], shape, place);
    }
    let x = window::shaped(op, x, &[outer, length, inner])?;
    let d = if outer > 1 { 0 } else { 1 };
    if shape[d] == 1 {
        // A single row: that of x, or zeros.
        return match length {
            0 => Tensor::zeros(&shape, x.dtype(), x.device()),
            _ => copy(op, &x),
        };
    }
    let each = window::length(gpu, shape[d], x.dtype().gpu_bytes(shape.elements()));
    window::one_side_by_side(op, x.device(), output, d, each, &mut |first, count| {
        if d == 0 {
            return embed_in_pieces(op, gpu, &window::slice(&x, 0, first, count), Place { outer: count, ..place });
        }
        // The rows of x that come to lie before a row.
        let before = |row: usize| row.saturating_sub(start).div_ceil(step).min(length);
        let (from, to) = (before(first), before(first + count));
        let part = window::slice(&x, 1, from, to - from);
        let start = (start + from * step).saturating_sub(first);
        embed_in_pieces(op, gpu, &part, Place { size: count, length: to - from, start, ..place })
    })
}

/// Where a block lies in a larger one, in three dimensions: outer, the one that differs, inner.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub outer: usize,
    pub inner: usize,
    /// Size of the middle dimension.
    pub size: usize,
    /// Its size in the block.
    pub length: usize,
    pub start: usize,
    pub step: usize,
}
