//! Variance, deviation, norms and logsumexp: compositions of folds, with gradients that need no graph.

use super::{Fold, Plan, fold, spread};
use crate::autograd::record;
use crate::ops::rows::{narrowed, wide};
use crate::{Error, Result, Tensor};

/// Below every useful number, yet finite.
const LOWEST: f64 = -3e38;

/// Records an operation that computes in f32 what is stored in half precision. `backward` gets the widened input and gradient,
/// and the result before it was rounded.
fn recorded<F>(
    op: &'static str,
    x: &Tensor,
    forward: impl FnOnce(&Tensor) -> Result<Tensor>,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    let y = forward(&wide(x)?)?;
    let (saved, dtype) = (x.detach(), x.dtype());
    Ok(record(op, narrowed(&y, dtype)?, &[x], move |dy, _| {
        Ok(vec![Some(narrowed(&backward(&wide(&saved)?, &y, &wide(dy)?)?, dtype)?)])
    }))
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
    let forward = |x: &Tensor| variance(op, x, &plan, free);
    let saved = plan.clone();
    recorded(op, x, forward, move |x, _, dy| {
        centred(op, x, &saved)?.mul(&spread(&dy.mul_scalar(2.0 / free)?, &saved, x.dims())?)
    })
}

/// The gradient of a deviation of 0 is 0.
pub(crate) fn std(op: &'static str, x: &Tensor, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    let free = degrees(op, &plan, correction)?;
    let forward = |x: &Tensor| variance(op, x, &plan, free)?.sqrt();
    let saved = plan.clone();
    recorded(op, x, forward, move |x, std, dy| {
        let scale = divided(dy, std)?.mul_scalar(1.0 / free)?;
        centred(op, x, &saved)?.mul(&spread(&scale, &saved, x.dims())?)
    })
}

/// `a / b`, and 0 where `b` is 0.
pub(crate) fn divided(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let zero = b.eq(&b.zeros_like()?)?;
    a.div(&b.masked_fill(&zero, 1.0)?)?.masked_fill(&zero, 0.0)
}

/// `ln(sum(exp(x)))`, safe for any size of `x`. Of -inf alone it is below every useful number, with a gradient of 0.
pub(crate) fn logsumexp(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    plan.expect_elements(op, x)?;
    let forward = |x: &Tensor| {
        // A finite maximum also where all are -inf: -inf minus -inf would not be a number.
        let max = fold(op, Fold::Max, x, &plan, 1.0)?.clamp(Some(LOWEST), None)?;
        let terms = x.sub(&spread(&max, &plan, x.dims())?)?.exp()?;
        fold(op, Fold::Sum, &terms, &plan, 1.0)?.log()?.add(&max)
    };
    let saved = plan.clone();
    recorded(op, x, forward, move |x, lse, dy| {
        let lse = lse.clamp(Some(LOWEST), None)?;
        x.sub(&spread(&lse, &saved, x.dims())?)?.exp()?.mul(&spread(dy, &saved, x.dims())?)
    })
}

/// The p-norm, `p >= 1` or infinite. The gradient of a norm of 0 is 0; equal maxima share that of the infinite norm.
pub(crate) fn norm(op: &'static str, x: &Tensor, p: f64, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    if p.is_nan() || p < 1.0 {
        return Err(Error::argument(op, format!("p is {p}, expected a number from 1 on, or infinity")));
    }
    if p.is_infinite() {
        return super::extreme(op, Fold::Max, &x.abs()?, dims, keepdim);
    }
    let plan = Plan::new(op, x, dims, keepdim)?;
    let forward = |x: &Tensor| match p {
        1.0 => fold(op, Fold::SumAbs, x, &plan, 1.0),
        2.0 => fold(op, Fold::SumSquares, x, &plan, 1.0)?.sqrt(),
        _ => fold(op, Fold::Sum, &x.abs()?.pow_scalar(p)?, &plan, 1.0)?.pow_scalar(1.0 / p),
    };
    let saved = plan.clone();
    recorded(op, x, forward, move |x, norm, dy| {
        let spread = |t: &Tensor| spread(t, &saved, x.dims());
        match p {
            1.0 => x.sign()?.mul(&spread(dy)?),
            2.0 => x.mul(&spread(&divided(dy, norm)?)?),
            // sign(x) (|x| / norm)^(p-1) dy: the quotient is at most 1, so that nothing overflows.
            _ => divided(&x.abs()?, &spread(norm)?)?.pow_scalar(p - 1.0)?.mul(&x.sign()?)?.mul(&spread(dy)?),
        }
    })
}
