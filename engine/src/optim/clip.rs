//! Clipping of gradients that no optimizer does.

use crate::{Error, Result, Tensor, no_grad};

/// Scales gradients by `min(1, max_norm / (norm + 1e-6))`, where `norm` is the 2-norm of all of them together. Returns the norm
/// (one element, on the device) and the scaled gradients. An optimizer with
/// [`with_max_norm`](super::Optimizer::with_max_norm) does the same inside its own kernel.
///
/// # Errors
/// If there are none, they are not of one dtype and device, or `max_norm` is not a finite number from 0 up.
pub fn clip_grad_norm(gradients: &[&Tensor], max_norm: f64) -> Result<(Tensor, Vec<Tensor>)> {
    let op = "clip_grad_norm";
    super::rule::not_negative(op, "max_norm", max_norm)?;
    no_grad(|| {
        let mut total: Option<Tensor> = None;
        for gradient in gradients {
            let sum = gradient.square()?.sum_all()?;
            total = Some(match total {
                Some(total) => total.add(&sum)?,
                None => sum,
            });
        }
        let norm = total.ok_or_else(|| Error::argument(op, "no gradients"))?.sqrt()?;
        let factor = norm.add_scalar(1e-6)?.reciprocal()?.mul_scalar(max_norm)?.clamp(None, Some(1.0))?;
        let scaled = gradients.iter().map(|gradient| gradient.mul(&factor)).collect::<Result<_>>()?;
        Ok((norm, scaled))
    })
}
