//! Views and their gradients. A view costs nothing; its gradient is the inverse view, or zeros around it.

use crate::autograd::record;
use crate::layout::{Dims, Layout};
use crate::ops::elementwise;
use crate::{Error, Result, Tensor};

pub(crate) fn reshape(x: &Tensor, shape: &[isize]) -> Result<Tensor> {
    let op = "reshape";
    let n = x.elements();
    let refuse = || Error::shape(op, format!("shape {:?} with {n} elements does not fit {shape:?}", x.shape()));
    let mut sizes = Vec::with_capacity(shape.len());
    let (mut open, mut known) = (None, 1usize);
    for (i, &size) in shape.iter().enumerate() {
        match size {
            -1 if open.is_none() => open = Some(i),
            0.. => known = known.checked_mul(size as usize).ok_or_else(refuse)?,
            _ => return Err(refuse()),
        }
        sizes.push(size.max(0) as usize);
    }
    if let Some(i) = open {
        if known == 0 || !n.is_multiple_of(known) {
            return Err(refuse());
        }
        sizes[i] = n / known;
    } else if known != n {
        return Err(refuse());
    }
    reshape_to(x, Dims::new(op, &sizes)?)
}

/// Reshape to sizes known to hold as many elements.
pub(crate) fn reshape_to(x: &Tensor, shape: Dims) -> Result<Tensor> {
    if shape == x.dims() {
        return Ok(x.clone());
    }
    let old = x.dims();
    let out = match x.layout().reshape(shape) {
        Some(layout) => x.with_layout(layout),
        None => elementwise::copy("reshape", &x.detach())?.with_layout(Layout::row_major(shape)),
    };
    Ok(record("reshape", out, &[x], move |dy, _| Ok(vec![Some(reshape_to(dy, old)?)])))
}

pub(crate) fn permute(op: &'static str, x: &Tensor, axes: &[isize]) -> Result<Tensor> {
    let resolved: Vec<usize> = axes.iter().map(|&a| x.dim(op, a)).collect::<Result<_>>()?;
    let mut inverse = vec![usize::MAX; x.rank()];
    for (to, &from) in resolved.iter().enumerate() {
        inverse[from] = to;
    }
    if resolved.len() != x.rank() || inverse.contains(&usize::MAX) {
        return Err(Error::argument(op, format!("{axes:?} is not a permutation of {} dimensions", x.rank())));
    }
    let out = x.with_layout(x.layout().permute(&resolved));
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(dy.with_layout(dy.layout().permute(&inverse)))])))
}

pub(crate) fn transpose(x: &Tensor, a: isize, b: isize) -> Result<Tensor> {
    let op = "transpose";
    let (a, b) = (x.dim(op, a)?, x.dim(op, b)?);
    let mut axes: Vec<isize> = (0..x.rank() as isize).collect();
    axes.swap(a, b);
    permute(op, x, &axes)
}

pub(crate) fn slice(
    op: &'static str,
    x: &Tensor,
    dim: isize,
    start: usize,
    stop: usize,
    step: usize,
) -> Result<Tensor> {
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if step == 0 || start > stop || stop > size {
        let message = format!("{start}..{stop} step {step} does not fit dimension {d} of size {size}");
        return Err(Error::argument(op, message));
    }
    let length = (stop - start).div_ceil(step);
    let out = x.with_layout(x.layout().slice(d, start, length, step));
    let shape = x.dims();
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(elementwise::embed(op, dy, shape, d, start, step)?)])))
}

pub(crate) fn select(x: &Tensor, dim: isize, index: usize) -> Result<Tensor> {
    let op = "select";
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if index >= size {
        return Err(Error::Index { op, index: index as i64, size });
    }
    squeeze(&slice(op, x, dim, index, index + 1, 1)?, d as isize)
}

pub(crate) fn expand(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let op = "expand";
    let out = x.with_layout(x.layout().broadcast_to(op, shape)?);
    let old = x.dims();
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(dy.sum_to(&old)?)])))
}

pub(crate) fn unsqueeze(x: &Tensor, dim: isize) -> Result<Tensor> {
    let op = "unsqueeze";
    let rank = x.rank();
    let at = if dim < 0 { dim + rank as isize + 1 } else { dim };
    if at < 0 || at > rank as isize {
        return Err(Error::Dim { op, dim, rank });
    }
    let mut shape = x.shape().to_vec();
    shape.insert(at as usize, 1);
    reshape_to(x, Dims::new(op, &shape)?)
}

pub(crate) fn squeeze(x: &Tensor, dim: isize) -> Result<Tensor> {
    let op = "squeeze";
    let d = x.dim(op, dim)?;
    let mut shape = x.shape().to_vec();
    if shape[d] != 1 {
        return Err(Error::shape(op, format!("dimension {d} of {shape:?} is not of size 1")));
    }
    shape.remove(d);
    reshape_to(x, Dims::new(op, &shape)?)
}

pub(crate) fn flatten(x: &Tensor, first: isize, last: isize) -> Result<Tensor> {
    let op = "flatten";
    if x.rank() == 0 {
        return reshape(x, &[1]);
    }
    let (first, last) = (x.dim(op, first)?, x.dim(op, last)?);
    if first > last {
        return Err(Error::argument(op, format!("first dimension {first} is behind last dimension {last}")));
    }
    let joined = x.shape()[first..=last].iter().product();
    let shape: Vec<usize> = [&x.shape()[..first], &[joined], &x.shape()[last + 1..]].concat();
    reshape_to(x, Dims::new(op, &shape)?)
}

pub(crate) fn split(x: &Tensor, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>> {
    let op = "split";
    let d = x.dim(op, dim)?;
    let total: usize = sizes.iter().fold(0usize, |sum, &s| sum.saturating_add(s));
    if total != x.shape()[d] {
        let size = x.shape()[d];
        return Err(Error::argument(op, format!("sizes {sizes:?} do not add up to {size}, dimension {d}'s size")));
    }
    let mut start = 0;
    let piece = |&size: &usize| {
        let piece = slice(op, x, d as isize, start, start + size, 1);
        start += size;
        piece
    };
    sizes.iter().map(piece).collect()
}

pub(crate) fn chunk(x: &Tensor, pieces: usize, dim: isize) -> Result<Vec<Tensor>> {
    let op = "chunk";
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if pieces == 0 || !size.is_multiple_of(pieces) {
        return Err(Error::argument(op, format!("size {size} of dimension {d} does not divide into {pieces} pieces")));
    }
    split(x, &vec![size / pieces; pieces], dim)
}

pub(crate) fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() {
        return Ok(x.clone());
    }
    elementwise::copy("contiguous", x)
}
