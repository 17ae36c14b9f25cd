//! Variance, deviation, norms and logsumexp: compositions of folds, with gradients that need no graph.

use super::{Fold, Plan, fold, spread};
use crate::autograd::record;
use crate::layout::Dims;
use crate::{DType, Error, Result, Tensor};

/// Computes halves in f32: hands `f` the widened tensor and returns its result in the dtype of `x`.
fn widened(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let x = x.detach();
    if x.dtype().is_half() { f(&x.cast(DType::F32)?)?.cast(x.dtype()) } else { f(&x) }
}

/// `x - mean(x)` over the dimensions of `plan`. Subtracting first keeps the small difference of large numbers exact.
fn centred(op: &'static str, x: &Tensor, plan: &Plan) -> Result<Tensor> {
    let mean = fold(op, Fold::Sum, x, plan, 1.0 / plan.n.max(1) as f64)?;
    x.sub(&spread(&mean, plan, x.dims())?)
}

fn degrees(op: &'static str, plan: &Plan, correction: f64) -> Result<f64> {
    let free = plan.n as f64 - correction;
    if free > 0.0 {
        return Ok(free);
    }
    let n = plan.n;
    Err(Error::argument(op, format!("{n} elements with a correction of {correction} leave no degree of freedom")))
}

fn variance(op: &'static str, x: &Tensor, plan: &Plan, free: f64) -> Result<Tensor> {
    fold(op, Fold::SumSquares, &centred(op, x, plan)?, plan, 1.0 / free)
}

pub(crate) fn var(op: &'static str, x: &Tensor, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    let free = degrees(op, &plan, correction)?;
    let out = widened(x, |x| variance(op, x, &plan, free))?;
    let saved = x.detach();
    Ok(record(op, out, &[x], move |dy, _| {
        let dx = centred(op, &saved, &plan)?.mul(&spread(&dy.mul_scalar(2.0 / free)?, &plan, saved.dims())?)?;
        Ok(vec![Some(dx)])
    }))
}

/// The gradient of a deviation of 0 is 0.
pub(crate) fn std(op: &'static str, x: &Tensor, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    let free = degrees(op, &plan, correction)?;
    let out = widened(x, |x| variance(op, x, &plan, free)?.sqrt())?;
    let (saved, std) = (x.detach(), out.clone());
    Ok(record(op, out, &[x], move |dy, _| {
        let scale = divided(dy, &std)?.mul_scalar(1.0 / free)?;
        Ok(vec![Some(centred(op, &saved, &plan)?.mul(&spread(&scale, &plan, saved.dims())?)?)])
    }))
}

/// `a / b`, and 0 where `b` is 0.
pub(crate) fn divided(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let zero = b.eq(&b.zeros_like()?)?;
    a.div(&b.masked_fill(&zero, 1.0)?)?.masked_fill(&zero, 0.0)
}

/// `ln(sum(exp(x)))`, safe for any size of `x`. Of -inf alone it is -inf, with a gradient of 0.
pub(crate) fn logsumexp(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    plan.expect_elements(op, x)?;
    let out = widened(x, |x| {
        // A finite maximum also where all are -inf: -inf minus -inf would not be a number.
        let max = fold(op, Fold::Max, x, &plan, 1.0)?.clamp(Some(-3e38), None)?;
        let terms = x.sub(&spread(&max, &plan, x.dims())?)?.exp()?;
        fold(op, Fold::Sum, &terms, &plan, 1.0)?.log()?.add(&max)
    })?;
    let (saved, lse) = (x.detach(), out.clone());
    Ok(record(op, out, &[x], move |dy, _| {
        let finite = lse.clamp(Some(-3e38), None)?;
        let share = saved.sub(&spread(&finite, &plan, saved.dims())?)?.exp()?;
        Ok(vec![Some(share.mul(&spread(dy, &plan, saved.dims())?)?)])
    }))
}

/// The p-norm, `p > 0` or infinite. The gradient of a norm of 0 is 0; equal maxima share that of the infinite norm.
pub(crate) fn norm(op: &'static str, x: &Tensor, p: f64, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    if p.is_nan() || p <= 0.0 {
        return Err(Error::argument(op, format!("p is {p}, expected a positive number or infinity")));
    }
    if p.is_infinite() {
        return super::extreme(op, Fold::Max, &x.abs()?, dims, keepdim);
    }
    let plan = Plan::new(op, x, dims, keepdim)?;
    let out = widened(x, |x| match p {
        1.0 => fold(op, Fold::SumAbs, x, &plan, 1.0),
        2.0 => fold(op, Fold::SumSquares, x, &plan, 1.0)?.sqrt(),
        _ => fold(op, Fold::Sum, &x.abs()?.pow_scalar(p)?, &plan, 1.0)?.pow_scalar(1.0 / p),
    })?;
    let (saved, norm) = (x.detach(), out.clone());
    Ok(record(op, out, &[x], move |dy, _| {
        let wide = |t: &Tensor, shape: Dims| spread(t, &plan, shape);
        let shape = saved.dims();
        let dx = match p {
            1.0 => saved.sign()?.mul(&wide(dy, shape)?)?,
            2.0 => saved.mul(&wide(&divided(dy, &norm)?, shape)?)?,
            // sign(x) (|x| / norm)^(p-1) dy: the quotient is at most 1, so that nothing overflows.
            _ => {
                let share = divided(&saved.abs()?, &wide(&norm, shape)?)?.pow_scalar(p - 1.0)?;
                share.mul(&saved.sign()?)?.mul(&wide(dy, shape)?)?
            }
        };
        Ok(vec![Some(dx)])
    }))
}
