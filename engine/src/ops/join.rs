//! Joining, padding and repeating. One kernel joins; the rest is views, joins, and selections by indices made here.

use crate::autograd::record;
use crate::cpu::join as cpu;
use crate::device::Kind;
use crate::kernels::join as kernels;
use crate::layout::{Dims, Layout};
use crate::ops::{index, view};
use crate::{Error, Result, Tensor};

/// How [`Tensor::pad`] fills what it adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadMode {
    /// With one value.
    Constant(f64),
    /// With the values mirrored at the edge, which itself is not repeated: `c b | a b c | b a`.
    Reflect,
    /// With the value at the edge: `a a | a b c | c c`.
    Replicate,
}

pub(crate) fn concat(op: &'static str, parts: &[&Tensor], dim: isize) -> Result<Tensor> {
    let first = parts.first().ok_or_else(|| Error::argument(op, "needs at least one tensor"))?;
    let d = first.dim(op, dim)?;
    let mut shape = first.dims();
    let mut total = 0usize;
    for part in parts {
        first.expect_like(op, part)?;
        let mut expected = part.dims();
        if part.rank() == first.rank() {
            expected[d] = shape[d];
        }
        if expected != shape {
            let (a, b) = (first.shape(), part.shape());
            return Err(Error::shape(op, format!("shapes {a:?} and {b:?} differ in more than dimension {d}")));
        }
        total = total.saturating_add(part.shape()[d]);
    }
    shape[d] = total;
    let elements = Layout::contiguous(op, &shape)?.elements();
    first.device().expect_room(op, elements, first.dtype())?;
    let sizes: Vec<usize> = parts.iter().map(|part| part.shape()[d]).collect();
    let (dense, widths): (Vec<Tensor>, Vec<usize>) = parts
        .iter()
        .filter(|part| part.elements() > 0)
        .map(|part| Ok((part.detach().contiguous()?, part.shape()[d..].iter().product())))
        .collect::<Result<Vec<(Tensor, usize)>>>()?
        .into_iter()
        .unzip();
    let outer = shape[..d].iter().product();
    let out = match first.device().kind() {
        _ if dense.is_empty() => Tensor::zeros(&shape, first.dtype(), first.device())?,
        Kind::Cpu(_) => cpu::concat(op, &dense, &widths, outer, shape)?,
        Kind::Gpu(_) => kernels::concat(op, &dense, &widths, outer, shape)?,
    };
    Ok(record(op, out, parts, move |dy, needs| {
        let mut start = 0;
        let piece = |(&size, &need): (&usize, &bool)| {
            let from = start;
            start += size;
            if need { Ok(Some(view::slice(op, dy, d as isize, from, start, 1)?)) } else { Ok(None) }
        };
        sizes.iter().zip(needs).map(piece).collect()
    }))
}

pub(crate) fn stack(parts: &[&Tensor], dim: isize) -> Result<Tensor> {
    let op = "stack";
    let first = parts.first().ok_or_else(|| Error::argument(op, "needs at least one tensor"))?;
    if let Some(other) = parts.iter().find(|part| part.shape() != first.shape()) {
        return Err(Error::shape(op, format!("shapes {:?} and {:?} differ", first.shape(), other.shape())));
    }
    let rank = first.rank() as isize + 1;
    let at = if dim < 0 { dim + rank } else { dim };
    if at < 0 || at >= rank {
        return Err(Error::Dim { op, dim, rank: rank as usize });
    }
    let wide: Vec<Tensor> = parts.iter().map(|part| part.unsqueeze(at)).collect::<Result<_>>()?;
    concat(op, &wide.iter().collect::<Vec<_>>(), at)
}

pub(crate) fn pad(x: &Tensor, pads: &[(isize, isize)], mode: PadMode) -> Result<Tensor> {
    let op = "pad";
    if pads.len() != x.rank() {
        let message = format!("{} pairs for {} dimensions, expected one pair each", pads.len(), x.rank());
        return Err(Error::argument(op, message));
    }
    let mut out = x.clone();
    for (d, &(before, after)) in pads.iter().enumerate() {
        if (before, after) != (0, 0) {
            out = pad_dim(op, &out, d, before, after, mode)?;
        }
    }
    Ok(out)
}

fn pad_dim(op: &'static str, x: &Tensor, d: usize, before: isize, after: isize, mode: PadMode) -> Result<Tensor> {
    let size = x.shape()[d];
    // Negative numbers crop.
    let crop = |n: isize| n.min(0).unsigned_abs();
    let (start, stop) = (crop(before), size.checked_sub(crop(after)));
    let Some(stop) = stop.filter(|&stop| start <= stop) else {
        return Err(Error::argument(op, format!("({before}, {after}) crops more than the {size} of dimension {d}")));
    };
    let x = view::slice(op, x, d as isize, start, stop, 1)?;
    let (size, before, after) = (stop - start, before.max(0) as usize, after.max(0) as usize);
    let mut shape = x.dims();
    shape[d] = size.saturating_add(before).saturating_add(after);
    Layout::contiguous(op, &shape)?;
    if u32::try_from(shape[d]).is_err() {
        return Err(Error::argument(op, format!("({before}, {after}) makes dimension {d} longer than 2^32 - 1")));
    }
    if let PadMode::Constant(value) = mode {
        let filler = |n: usize| {
            let mut part = shape;
            part[d] = n;
            Tensor::full(value, &part, x.dtype(), x.device())
        };
        return concat(op, &[&filler(before)?, &x, &filler(after)?], d as isize);
    }
    let fits = match mode {
        PadMode::Reflect => before < size && after < size,
        _ => size > 0,
    };
    if !fits && before + after > 0 {
        let message = format!("({before}, {after}) with {mode:?} needs more than the {size} of dimension {d}");
        return Err(Error::argument(op, message));
    }
    let end = size as isize - 1;
    let source = |i: isize| match mode {
        PadMode::Reflect => end - (end - i.abs()).abs(),
        _ => i.clamp(0, end),
    };
    select(&x, d, (0..shape[d]).map(|i| source(i as isize - before as isize) as usize))
}

/// Slices along a dimension, by indices known here.
fn select(x: &Tensor, d: usize, sources: impl Iterator<Item = usize>) -> Result<Tensor> {
    let sources: Vec<u32> = sources.map(|i| i as u32).collect();
    let count = sources.len();
    index::index_select(x, d as isize, &Tensor::from_vec(sources, &[count], x.device())?)
}

pub(crate) fn flip(x: &Tensor, dims: &[isize]) -> Result<Tensor> {
    let mut out = x.clone();
    for d in x.dims_of("flip", dims)? {
        if x.shape()[d] > 1 {
            out = select(&out, d, (0..x.shape()[d]).rev())?;
        }
    }
    Ok(out)
}

pub(crate) fn roll(x: &Tensor, shift: isize, dim: isize) -> Result<Tensor> {
    let op = "roll";
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if size == 0 {
        return Ok(x.clone());
    }
    let first = shift.rem_euclid(size as isize) as usize;
    let cut = |start: usize, stop: usize| view::slice(op, x, d as isize, start, stop, 1);
    concat(op, &[&cut(size - first, size)?, &cut(0, size - first)?], d as isize)
}

pub(crate) fn repeat(x: &Tensor, repeats: &[usize]) -> Result<Tensor> {
    let op = "repeat";
    if repeats.len() < x.rank() {
        let message = format!("{} numbers for {} dimensions, expected at least one each", repeats.len(), x.rank());
        return Err(Error::argument(op, message));
    }
    let lead = repeats.len() - x.rank();
    let shape = [vec![1; lead].as_slice(), x.shape()].concat();
    let mut out = view::reshape_to(x, Dims::new(op, &shape)?)?;
    for (d, &n) in repeats.iter().enumerate() {
        out = spread(op, &out, d, d, n)?;
    }
    Ok(out)
}

pub(crate) fn repeat_interleave(x: &Tensor, n: usize, dim: isize) -> Result<Tensor> {
    let op = "repeat_interleave";
    let d = x.dim(op, dim)?;
    spread(op, x, d, d + 1, n)
}

/// Repeats `n` times along a new dimension at `at`, and joins that with dimension `d`. What is before and behind
/// is flattened meanwhile, so that any rank fits.
fn spread(op: &'static str, x: &Tensor, d: usize, at: usize, n: usize) -> Result<Tensor> {
    let mut shape = x.dims();
    if n == 1 {
        return Ok(x.clone());
    }
    shape[d] = shape[d].saturating_mul(n);
    Layout::contiguous(op, &shape)?;
    let (outer, size, inner): (usize, _, usize) =
        (x.shape()[..d].iter().product(), x.shape()[d], x.shape()[d + 1..].iter().product());
    let (narrow, wide) = match at == d {
        true => ([outer, 1, size, inner], [outer, n, size, inner]),
        false => ([outer, size, 1, inner], [outer, size, n, inner]),
    };
    let block = view::reshape_to(x, Dims::new(op, &narrow)?)?;
    view::reshape_to(&view::expand(&block, &wide)?, shape)
}
