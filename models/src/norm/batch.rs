//! Batch norm of rows of which some are padding.

use wgrad::nn::{BatchNorm, Build, Mode, Module, Visitor};
use wgrad::{Tensor, no_grad};

use super::state::{Rows, blend, mean, wide};
use crate::Result;

/// [`BatchNorm`] of the last dimension, whose statistics may leave out padding.
pub(super) struct RealBatchNorm {
    norm: BatchNorm,
    mode: Mode,
}

impl RealBatchNorm {
    pub fn new(width: usize, momentum: f64, eps: f64, build: &Build) -> Result<Self> {
        Ok(RealBatchNorm { norm: BatchNorm::new(width, momentum, eps, build)?, mode: Mode::default() })
    }

    /// Of `x [.., width]`; `valid [..]` says which positions count.
    pub fn forward(&self, x: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let norm = &self.norm;
        let Rows { x: rows, valid } = Rows::new("batch_norm", x, valid, norm.weight.elements())?;
        let y = match valid {
            Some(valid) if self.mode.is_training() => {
                let (x, valid) = (wide(&rows)?, wide(&valid)?);
                let centre = mean(&x, Some(&valid))?;
                let apart = x.sub(&centre)?;
                let var = mean(&apart.square()?, Some(&valid))?;
                no_grad(|| {
                    // The running variance is the unbiased one.
                    let count = valid.sum_all()?;
                    let unbiased = var.mul(&count.div(&count.add_scalar(-1.0)?.clamp(Some(1.0), None)?)?)?;
                    for (running, new) in [(&norm.running_mean, &centre), (&norm.running_var, &unbiased)] {
                        let old = running.tensor();
                        running.set(&blend(&old, &new.detach().cast(old.dtype())?, 1.0 - norm.momentum)?)?;
                    }
                    Ok::<_, wgrad::Error>(())
                })?;
                let y = apart.mul(&var.add_scalar(norm.eps)?.rsqrt()?)?.cast(rows.dtype())?;
                y.mul(&norm.weight.tensor())?.add(&norm.bias.tensor())?
            }
            _ => norm.forward(&rows)?,
        };
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        Ok(y.reshape(&shape)?)
    }
}

impl Module for RealBatchNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.norm);
        v.mode(&self.mode);
    }
}
