//! Choosing between elements by a condition: where, masks, triangles; and gated linear units.

use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::kernels::elementwise as kernels;
use crate::kernels::window::piecewise;
use crate::layout::broadcast_shape;
use crate::ops::elementwise::binary::{Binary, binary, broadcast, sum_to};
use crate::{DType, Error, Result, Tensor};

/// `condition ? a : b`, all three broadcast.
pub(crate) fn where_cond(name: &'static str, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    condition.expect_dtype(name, DType::Bool, "a bool condition")?;
    condition.expect_same_device(name, a)?;
    a.expect_like(name, b)?;
    let shape = broadcast_shape(name, condition.shape(), &broadcast_shape(name, a.shape(), b.shape())?)?;
    a.device().expect_room(name, shape.elements(), a.dtype())?;
    let view = |x: &Tensor| broadcast(name, &x.detach(), &shape);
    let (c, x, y) = (view(condition)?, view(a)?, view(b)?);
    let out = match a.device().kind() {
        Kind::Cpu(_) => cpu::select(name, &c, &x, &y)?,
        Kind::Gpu(_) => {
            let output = (shape, x.dtype());
            piecewise(name, &[&c, &x, &y], output, x.rank(), &|x| kernels::select(name, &x[0], &x[1], &x[2]))?
        }
    };
    let (a_shape, b_shape) = (a.dims(), b.dims());
    Ok(record(name, out, &[a, b], move |dy, needs| {
        let zero = Tensor::scalar(0.0, dy.dtype(), dy.device())?;
        let da = if needs[0] { Some(sum_to(&where_cond(name, &c, dy, &zero)?, a_shape)?) } else { None };
        let db = if needs[1] { Some(sum_to(&where_cond(name, &c, &zero, dy)?, b_shape)?) } else { None };
        Ok(vec![da, db])
    }))
}

/// `mask ? value : x`; the mask broadcasts to x.
pub(crate) fn masked_fill(x: &Tensor, mask: &Tensor, value: f64) -> Result<Tensor> {
    let name = "masked_fill";
    if broadcast_shape(name, mask.shape(), x.shape())? != x.dims() {
        let message = format!("mask of shape {:?} does not broadcast to {:?}", mask.shape(), x.shape());
        return Err(Error::shape(name, message));
    }
    where_cond(name, mask, &Tensor::scalar(value, x.dtype(), x.device())?, x)
}

/// Which of the two triangles stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Triangle {
    Lower,
    Upper,
}

/// The last two dimensions with zeros on one side of a diagonal.
pub(crate) fn triangle(name: &'static str, x: &Tensor, diagonal: i64, keep: Triangle) -> Result<Tensor> {
    let &[.., rows, columns] = x.shape() else {
        return Err(Error::shape(name, format!("needs at least two dimensions, got shape {:?}", x.shape())));
    };
    // Diagonals beyond the matrix are all alike; bounding them keeps i32 indices in range.
    let diagonal = diagonal.clamp(-(rows as i64) - 1, columns as i64 + 1);
    let row = Tensor::arange(diagonal, diagonal + rows as i64, DType::I32, x.device())?.unsqueeze(-1)?;
    let column = Tensor::arange(0, columns as i64, DType::I32, x.device())?;
    let side = if keep == Triangle::Lower { Binary::Le } else { Binary::Ge };
    let mask = binary(name, &column, &row, side)?;
    where_cond(name, &mask, x, &Tensor::scalar(0.0, x.dtype(), x.device())?)
}

/// `p * sigmoid(q)` for the halves p, q of one dimension.
pub(crate) fn glu(x: &Tensor, dim: isize) -> Result<Tensor> {
    let name = "glu";
    x.expect_float(name)?;
    let d = x.dim(name, dim)?;
    let size = x.shape()[d];
    if !size.is_multiple_of(2) {
        return Err(Error::shape(name, format!("dimension {d} of size {size} does not split into two halves")));
    }
    let (p, q) = (x.narrow(d as isize, 0, size / 2)?, x.narrow(d as isize, size / 2, size / 2)?);
    p.mul(&q.sigmoid()?)
}
