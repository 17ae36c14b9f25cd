//! Indices of extremes, and extremes together with their indices.

use super::Plan;
use crate::autograd::Flow;
use crate::autograd::record_many;
use crate::cpu::reduce as cpu;
use crate::device::Kind;
use crate::kernels::reduce as kernels;
use crate::kernels::reduce::Axis;
use crate::layout::Layout;
use crate::ops::view;
use crate::{DType, Error, Result, Tensor};

/// Index of the first largest (or smallest) element along `dim`.
pub(crate) fn arg(op: &'static str, largest: bool, x: &Tensor, dim: isize, keepdim: bool) -> Result<Tensor> {
    let dim = x.dim(op, dim)?;
    let plan = Plan::resolved(op, x, vec![dim], keepdim)?;
    plan.expect_elements(op, x)?;
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a float or integer dtype (use cast)" });
    }
    if plan.out.elements() == 0 {
        return Tensor::zeros(&plan.out, DType::U32, x.device());
    }
    let dense = view::contiguous(&x.detach())?;
    let shape = x.shape();
    let axis = Axis { outer: shape[..dim].iter().product(), n: shape[dim], inner: shape[dim + 1..].iter().product() };
    let out = match x.device().kind() {
        Kind::Cpu(_) if x.dtype().is_half() => cpu::arg(op, largest, &dense.cast(DType::F32)?, axis)?,
        Kind::Cpu(_) => cpu::arg(op, largest, &dense, axis)?,
        Kind::Gpu(_) => kernels::arg(op, largest, &dense, axis)?,
    };
    Ok(out.with_layout(Layout::row_major(plan.out)))
}

/// Extremes along `dim` and the indices of the elements that they are; the gradient goes to those alone.
pub(crate) fn extreme_dim(
    op: &'static str,
    largest: bool,
    x: &Tensor,
    dim: isize,
    keepdim: bool,
) -> Result<(Tensor, Tensor)> {
    let d = x.dim(op, dim)? as isize;
    let kept = arg(op, largest, x, d, true)?;
    let values = x.detach().gather(d, &kept)?;
    let drop = |t: Tensor| if keepdim { Ok(t) } else { view::squeeze(&t, d) };
    let (indices, shape, dtype) = (kept.clone(), x.dims(), x.dtype());
    let backward = move |grads: &[Option<Tensor>], _: &[bool]| {
        let dx = match &grads[0] {
            None => None,
            Some(dy) => {
                let dy = view::reshape_to(dy, indices.dims())?;
                let zeros = Tensor::zeros(&shape, dtype, dy.device())?;
                Some(zeros.scatter_add(d, &indices, &dy)?)
            }
        };
        Ok(Flow { inputs: vec![dx], captured: Vec::new() })
    };
    let mut outputs = record_many(op, vec![drop(values)?, drop(kept)?], &[x], backward).into_iter();
    match (outputs.next(), outputs.next()) {
        (Some(values), Some(indices)) => Ok((values, indices)),
        _ => Err(Error::argument(op, "an operation with two outputs recorded fewer")),
    }
}
