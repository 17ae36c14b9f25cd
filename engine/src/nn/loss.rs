//! Losses beside the fused [`Tensor::cross_entropy`], as compositions. Broadcasting as in arithmetic; `reduction` says
//! whether to return the mean or the sum of all elements, or the elements.

use crate::{Error, Reduction, Result, Tensor};

fn reduce(losses: &Tensor, reduction: Reduction) -> Result<Tensor> {
    match reduction {
        Reduction::Mean => losses.mean_all(),
        Reduction::Sum => losses.sum_all(),
        Reduction::None => Ok(losses.clone()),
    }
}

/// Squared error `(x - target)^2`.
///
/// # Errors
/// If the operands do not fit each other.
pub fn mse(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    reduce(&x.sub(target)?.square()?, reduction)
}

/// Absolute error `|x - target|`.
///
/// # Errors
/// If the operands do not fit each other.
pub fn l1(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    reduce(&x.sub(target)?.abs()?, reduction)
}

/// With `d = |x - target|`: `d^2 / 2` up to `delta`, `delta * (d - delta / 2)` beyond.
///
/// # Errors
/// If the operands do not fit each other, or `delta` is not above 0.
pub fn huber(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    if delta.is_nan() || delta <= 0.0 {
        return Err(Error::argument("huber", format!("delta is {delta}, expected a number above 0")));
    }
    let distance = x.sub(target)?.abs()?;
    let near = distance.clamp(None, Some(delta))?;
    reduce(&near.mul(&distance.sub(&near.mul_scalar(0.5)?)?)?, reduction)
}

/// With `d = |x - target|`: `d^2 / (2 beta)` below `beta`, `d - beta / 2` beyond; the absolute error if `beta` is 0.
///
/// # Errors
/// If the operands do not fit each other, or `beta` is negative.
pub fn smooth_l1(x: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    if beta == 0.0 {
        return l1(x, target, reduction);
    }
    if beta.is_nan() || beta < 0.0 {
        return Err(Error::argument("smooth_l1", format!("beta is {beta}, expected a number from 0 up")));
    }
    huber(x, target, beta, reduction)?.mul_scalar(1.0 / beta)
}

/// Binary cross-entropy of logits `x` and probabilities `target`: `-[p t ln s(x) + (1 - t) ln(1 - s(x))]` with the sigmoid
/// `s` and `p = pos_weight` (1 if None), times `weight`.
///
/// # Errors
/// If the operands do not fit each other.
pub fn bce_with_logits(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    let negatives = target.affine(-1.0, 1.0)?;
    // -ln s(x), which is also -ln(1 - s(x)) - x.
    let surprise = x.neg()?.softplus()?;
    let weighted = match pos_weight {
        None => surprise,
        Some(p) => surprise.mul(&target.mul(p)?.add(&negatives)?)?,
    };
    let mut losses = negatives.mul(x)?.add(&weighted)?;
    if let Some(weight) = weight {
        losses = losses.mul(weight)?;
    }
    reduce(&losses, reduction)
}

/// Kullback-Leibler divergence `target * (ln target - x)`, where `x` holds log-probabilities and, with `log_target`, so
/// does `target`. Where `target` is 0 the result is 0. For the mean over a batch divide the sum by its size.
///
/// # Errors
/// If the operands do not fit each other.
pub fn kl_div(x: &Tensor, target: &Tensor, log_target: bool, reduction: Reduction) -> Result<Tensor> {
    if log_target {
        return reduce(&target.exp()?.mul(&target.sub(x)?)?, reduction);
    }
    let scalar = |value| Tensor::scalar(value, target.dtype(), target.device());
    let safe = Tensor::where_cond(&target.gt(&scalar(0.0)?)?, target, &scalar(1.0)?)?;
    reduce(&target.mul(&safe.log()?.sub(x)?)?, reduction)
}

/// Softmax cross-entropy against probabilities: `-sum over classes of target ln softmax(x)`, for logits `x [.., classes]` and a target of the
/// same shape. The mean and the sum are over rows.
///
/// # Errors
/// If the operands do not fit each other, or have no dimension.
pub fn soft_cross_entropy(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    reduce(&x.log_softmax(-1)?.mul(target)?.sum(&[-1], false)?.neg()?, reduction)
}

/// Negative log-likelihood `-x[target]`: log-probabilities `x [.., classes]`, class numbers `target [..]` (u32 or i32).
///
/// # Errors
/// If the operands do not fit each other, or a target is out of range.
pub fn nll(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    if x.rank() != target.rank() + 1 {
        let message = format!("targets of shape {:?} for log-probabilities of shape {:?}", target.shape(), x.shape());
        return Err(Error::shape("nll", message));
    }
    let chosen = x.gather(-1, &target.unsqueeze(-1)?)?.squeeze(-1)?;
    reduce(&chosen.neg()?, reduction)
}

/// `sum(x * y) / (max(|x|, eps) * max(|y|, eps))` along `dim`, which is dropped.
///
/// # Errors
/// If the operands do not fit each other, or there is no such dimension.
pub fn cosine_similarity(x: &Tensor, y: &Tensor, dim: isize, eps: f64) -> Result<Tensor> {
    let length = |v: &Tensor| v.square()?.sum(&[dim], false)?.clamp(Some(eps * eps), None)?.sqrt();
    x.mul(y)?.sum(&[dim], false)?.div(&length(x)?.mul(&length(y)?)?)
}
