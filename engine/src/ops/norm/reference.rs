//! The same norms from primitive operations.

use super::{Counted, NormKind, NormOptions};
use crate::{Result, Tensor};

/// [`Tensor::row_norm`] of the last dimension, from primitive operations.
///
/// # Errors
/// As [`Tensor::row_norm`].
pub fn reference(x: &Tensor, options: &NormOptions) -> Result<Tensor> {
    let cols = x.size(-1)?;
    let Counted { first, rest } = options.counted.unwrap_or(Counted { first: cols, rest: 0.0 });
    let shares: Vec<f32> = (0..cols).map(|i| if i < first { 1.0 } else { rest as f32 }).collect();
    let shares = Tensor::from_vec(shares, &[cols], x.device())?.cast(x.dtype())?;
    let count = shares.sum_all()?;
    let sum = |x: &Tensor| x.mul(&shares)?.sum(&[-1], true);
    let eps = options.eps;
    let centred = match options.kind {
        NormKind::Layer | NormKind::Centre | NormKind::Lp(_) => x.sub(&sum(x)?.div(&count)?)?,
        _ => x.clone(),
    };
    let root = match options.kind {
        NormKind::Centre => None,
        NormKind::Layer | NormKind::Rms => Some(sum(&centred.square()?)?.div(&count)?.add_scalar(eps)?.sqrt()?),
        NormKind::Crms => {
            let squares = sum(&x.square()?)?.add(&sum(x)?.square()?)?;
            Some(squares.mul_scalar(1.0 / (cols as f64 + 1.0))?.add_scalar(eps)?.sqrt()?)
        }
        NormKind::Unit(p) => Some(sum(&x.abs()?.pow_scalar(p)?)?.add_scalar(eps.powf(p))?.pow_scalar(1.0 / p)?),
        NormKind::Lp(p) => {
            let mean = sum(&centred.abs()?.pow_scalar(p)?)?.div(&count)?;
            Some(mean.add_scalar(eps)?.pow_scalar(1.0 / p)?)
        }
    };
    let mut y = root.map_or_else(|| Ok(centred.clone()), |root| centred.div(&root))?;
    if let Some(gain) = &options.gain {
        y = y.mul(gain)?;
    }
    match &options.bias {
        Some(bias) => y.add(bias),
        None => Ok(y),
    }
}
