//! Test-time mixing of batch statistics, alpha-BN (You et al., Test-time batch statistics calibration for covariate shift, 2021,
//! arXiv:2110.04065).

use wgrad::Tensor;
use wgrad::nn::{Build, Init, Module, Param, Visitor};

use super::state::{Rows, mean, state, wide};
use crate::{Error, Result};

/// Batch norm of `x [.., channels]` in evaluation: mean and variance are `alpha` parts those of training and `1 - alpha` those of
/// the batch at hand, so that inputs that have shifted since training come back to where the model expects them. With `alpha = 1` plain
/// batch norm, with 0 that of the batch alone.
pub struct AlphaBatchNorm {
    weight: Param,
    bias: Param,
    mean: Param,
    var: Param,
    /// Share of the statistics of training, 0 to 1.
    pub alpha: f64,
    /// Added to the variance.
    pub eps: f64,
}

impl AlphaBatchNorm {
    /// A norm with gains of one, biases of zero, means of zero and variances of one, for the weights of a trained batch norm.
    ///
    /// # Errors
    /// Unless `0 <= alpha <= 1`, or if memory is exhausted.
    pub fn new(alpha: f64, eps: f64, channels: usize, build: &Build) -> Result<Self> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::argument("alpha", format!("{alpha}, expected 0 to 1")));
        }
        Ok(AlphaBatchNorm {
            weight: build.param(&[channels], Init::Ones)?,
            bias: build.param(&[channels], Init::Zeros)?,
            mean: state(&[channels], 0.0, build)?,
            var: state(&[channels], 1.0, build)?,
            alpha,
            eps,
        })
    }

    /// Applies the norm. `valid [..]` says which positions count in the statistics: ones and zeros, or bools.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let rows = Rows::new("alpha_batch_norm", x, valid, self.weight.elements())?;
        let (wide_x, valid) = (wide(&rows.x)?, rows.valid.as_ref());
        let (mut centre, mut var) = (wide(&self.mean.tensor())?, wide(&self.var.tensor())?);
        if self.alpha < 1.0 {
            let batch_mean = mean(&wide_x, valid)?;
            let batch_var = mean(&wide_x.sub(&batch_mean)?.square()?, valid)?;
            let mix = |source: &Tensor, batch: &Tensor| {
                source.mul_scalar(self.alpha)?.add(&batch.mul_scalar(1.0 - self.alpha)?)
            };
            (centre, var) = (mix(&centre, &batch_mean)?, mix(&var, &batch_var)?);
        }
        let y = wide_x.sub(&centre)?.mul(&var.add_scalar(self.eps)?.rsqrt()?)?.cast(x.dtype())?;
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        Ok(y.mul(&self.weight.tensor())?.add(&self.bias.tensor())?.reshape(&shape)?)
    }
}

impl Module for AlphaBatchNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.param("running_mean", &self.mean);
        v.param("running_var", &self.var);
    }
}
