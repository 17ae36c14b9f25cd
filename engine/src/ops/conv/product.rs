//! A convolution and its two adjoints, on matrix products or on kernels that read windows in place.

use super::windows::{Piece, Windows, fold, unfold};
use crate::cpu::conv as cpu;
use crate::device::Kind;
use crate::kernels::conv as kernels;
use crate::layout::Dims;
use crate::ops::join;
use crate::ops::rows::{narrowed, prepared, wide};
use crate::ops::view::reshape_to;
use crate::{DType, Error, PadMode, Result, Tensor};

/// `[.., groups * width]` as `[groups, rows, width]`.
fn by_group(op: &'static str, x: &Tensor, groups: usize) -> Result<Tensor> {
    let width = x.shape().last().copied().unwrap_or(1) / groups;
    let rows = x.elements() / (groups * width).max(1);
    reshape_to(x, Dims::new(op, &[rows, groups, width])?)?.permute(&[1, 0, 2])
}

/// The inverse of [`by_group`]: `[rows, groups * width]`.
fn from_groups(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let &[groups, rows, width] = x.shape() else {
        return Err(Error::shape(op, format!("a product of shape {:?}", x.shape())));
    };
    reshape_to(&x.permute(&[1, 0, 2])?, Dims::new(op, &[rows, groups * width])?)
}

/// The weight as a matrix for each group: `[groups, outputs, channels * taps]`.
fn matrices(op: &'static str, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    let shape = [plan.groups, plan.outputs / plan.groups, plan.channels / plan.groups * plan.taps()];
    reshape_to(weight, Dims::new(op, &shape)?)
}

/// `y [n, outputs, out]` as rows: `[n, places, outputs]`.
fn output_rows(op: &'static str, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let shape = [y.shape()[0], plan.places(), plan.outputs];
    reshape_to(&y.permute(&[0, 2, 3, 1])?, Dims::new(op, &shape)?)
}

fn joined(op: &'static str, parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [one] => Ok(one.clone()),
        parts => join::concat(op, &parts.iter().collect::<Vec<_>>(), 0),
    }
}

/// The images of a piece, and of them the rows that its windows see.
fn seen(x: &Tensor, piece: Piece, plan: &Windows, row: usize) -> Result<Tensor> {
    x.narrow(0, piece.first, piece.images)?.narrow(2, row, plan.size[0])
}

/// `y [n, channels, size]` with its bias, as `dtype`: a half is rounded once, after the bias.
fn finished(y: &Tensor, bias: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    let Some(bias) = bias else { return narrowed(y, dtype) };
    narrowed(&y.add(&narrowed(bias, y.dtype())?.reshape(&[-1, 1, 1])?)?, dtype)
}

/// The convolution of `x [n, channels, size]`: `[n, outputs, out]`, maybe with the channels last in memory. All detached.
pub(super) fn forward(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    plan: &Windows,
) -> Result<Tensor> {
    let (n, dtype) = (x.shape()[0], x.dtype());
    let shape = Dims::new(op, &plan.y_shape(n))?;
    x.device().expect_room(op, shape.elements(), dtype)?;
    if shape.elements() == 0 || x.elements() == 0 {
        return finished(&Tensor::zeros(&shape, dtype, x.device())?, bias, dtype);
    }
    // A product of several groups has no bias of its own: it gives f32, to which the bias is added.
    let take = if plan.groups > 1 && bias.is_some() && !plan.is_thin() { wide } else { prepared };
    let (x, weight) = (take(x)?, take(weight)?.contiguous()?);
    let pieces = plan.pieces(n, x.device()).into_iter();
    if plan.is_thin() {
        let sums = if bias.is_some() { DType::F32 } else { dtype };
        let part = |Piece { first, images, .. }| {
            let x = x.narrow(0, first, images)?;
            match x.device().kind() {
                Kind::Cpu(_) => cpu::direct(op, &x, &weight, plan),
                Kind::Gpu(_) => kernels::direct(op, &x, &weight, plan, sums),
            }
        };
        return finished(&joined(op, &pieces.map(part).collect::<Result<Vec<_>>>()?)?, bias, dtype);
    }
    let matrices = matrices(op, &weight, plan)?;
    let bias_of_rows = bias.filter(|_| plan.groups == 1).map(prepared).transpose()?;
    let part = |piece: Piece| {
        let (plan, row) = plan.of(piece);
        let rows = unfold(op, &seen(&x, piece, &plan, row)?, &plan)?;
        if plan.groups == 1 {
            return rows.flatten(0, 1)?.linear(&matrices.squeeze(0)?, bias_of_rows.as_ref());
        }
        from_groups(op, &by_group(op, &rows, plan.groups)?.matmul(&matrices.transpose(1, 2)?)?)
    };
    let rows = joined(op, &pieces.map(part).collect::<Result<Vec<_>>>()?)?;
    let y = reshape_to(&rows, Dims::new(op, &[n, plan.out[0], plan.out[1], plan.outputs])?)?.permute(&[0, 3, 1, 2])?;
    finished(&y, bias.filter(|_| plan.groups > 1), dtype)
}

/// The adjoint of [`forward`] in x, with a bias where it is a layer: of `y [n, outputs, out]` the `[n, channels, size]`. Sums are
/// rounded to a half once, at the end.
pub(super) fn input(
    op: &'static str,
    y: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    plan: &Windows,
) -> Result<Tensor> {
    let (n, dtype) = (y.shape()[0], y.dtype());
    let shape = Dims::new(op, &plan.x_shape(n))?;
    y.device().expect_room(op, shape.elements(), dtype)?;
    if shape.elements() == 0 || y.elements() == 0 {
        return finished(&Tensor::zeros(&shape, dtype, y.device())?, bias, dtype);
    }
    let pieces = plan.pieces(n, y.device()).into_iter();
    if plan.is_thin() {
        let (y, weight) = (prepared(y)?, prepared(weight)?.contiguous()?);
        let sums = if bias.is_some() { DType::F32 } else { dtype };
        let part = |Piece { first, images, .. }| {
            let y = y.narrow(0, first, images)?;
            match y.device().kind() {
                Kind::Cpu(_) => cpu::direct_input(op, &y, &weight, plan),
                Kind::Gpu(_) => kernels::direct_input(op, &y, &weight, plan, sums),
            }
        };
        return finished(&joined(op, &pieces.map(part).collect::<Result<Vec<_>>>()?)?, bias, dtype);
    }
    let (y, matrices) = (wide(y)?, matrices(op, &wide(weight)?, plan)?);
    let mut parts: Vec<Tensor> = Vec::new();
    for piece in pieces {
        let (part, row) = plan.of(piece);
        let y = y.narrow(0, piece.first, piece.images)?.narrow(2, piece.row, piece.rows)?;
        let windows = by_group(op, &output_rows(op, &y, &part)?, plan.groups)?.matmul(&matrices)?;
        let shape = [piece.images, part.places(), plan.channels * plan.taps()];
        let rows = reshape_to(&from_groups(op, &windows)?, Dims::new(op, &shape)?)?;
        let x = fold(op, &rows, &part)?;
        // Bands of one image overlap: each is added to those before.
        let around = (row as isize, (plan.size[0] - row - part.size[0]) as isize);
        let x = x.pad(&[(0, 0), (0, 0), around, (0, 0)], PadMode::Constant(0.0))?;
        let x = match parts.pop_if(|_| piece.row > 0) {
            Some(above) => above.add(&x)?,
            None => x,
        };
        parts.push(x);
    }
    finished(&joined(op, &parts)?, bias, dtype)
}

/// The adjoint of [`forward`] in the weight, of `x [n, channels, size]` and `y [n, outputs, out]`.
pub(super) fn weight(op: &'static str, x: &Tensor, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let (n, dtype) = (x.shape()[0], x.dtype());
    let shape = Dims::new(op, &plan.weight_shape())?;
    if shape.elements() == 0 || x.elements() == 0 || y.elements() == 0 {
        return Tensor::zeros(&shape, dtype, x.device());
    }
    let (x, y) = (prepared(x)?, prepared(y)?);
    let part = |piece: Piece| {
        let (plan, row) = plan.of(piece);
        let x = seen(&x, piece, &plan, row)?;
        let y = y.narrow(0, piece.first, piece.images)?.narrow(2, piece.row, piece.rows)?;
        if plan.is_thin() {
            return match x.device().kind() {
                Kind::Cpu(_) => cpu::direct_weight(op, &x, &y, &plan),
                Kind::Gpu(_) => kernels::direct_weight(op, &x, &y, &plan),
            };
        }
        let rows = by_group(op, &output_rows(op, &y, &plan)?, plan.groups)?;
        rows.transpose(1, 2)?.matmul(&by_group(op, &unfold(op, &x, &plan)?, plan.groups)?)
    };
    let mut sum: Option<Tensor> = None;
    for piece in plan.pieces(n, x.device()) {
        let part = part(piece)?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| Error::argument(op, "a batch without pieces"))?;
    reshape_to(&narrowed(&sum, dtype)?, shape)
}
