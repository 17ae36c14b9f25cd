//! Norms of channels.

use super::{Build, Init, Mode, Module, Param, Visitor};
use crate::{Result, Tensor, no_grad};

/// Group norm of `[batch, channels, ..]`; with as many groups as channels, instance norm. See [`Tensor::group_norm`].
pub struct GroupNorm {
    /// Gain, `[channels]`.
    pub weight: Param,
    /// `[channels]`.
    pub bias: Param,
    /// Parts of the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl GroupNorm {
    /// A norm with gains of one and biases of zero.
    ///
    /// # Errors
    /// As [`Build::param`].
    pub fn new(groups: usize, channels: usize, eps: f64, build: &Build) -> Result<Self> {
        let (weight, bias) = (build.param(&[channels], Init::Ones)?, build.param(&[channels], Init::Zeros)?);
        Ok(GroupNorm { weight, bias, groups, eps })
    }

    /// Applies the norm.
    ///
    /// # Errors
    /// As [`Tensor::group_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.group_norm(self.groups, Some(&self.weight.tensor()), Some(&self.bias.tensor()), self.eps)
    }
}

impl Module for GroupNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
    }
}

/// Batch norm of `[batch, channels, ..]`: by the statistics of the batch in training, which it keeps a running average of, and by that
/// average in evaluation. See [`Tensor::batch_norm`].
pub struct BatchNorm {
    /// Gain, `[channels]`.
    pub weight: Param,
    /// `[channels]`.
    pub bias: Param,
    /// Average of the means, `[channels]`; not trainable.
    pub running_mean: Param,
    /// Average of the unbiased variances, `[channels]`; not trainable.
    pub running_var: Param,
    /// Share of a new batch in the averages.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
    mode: Mode,
}

impl BatchNorm {
    /// A norm with gains of one, biases of zero, means of zero and variances of one.
    ///
    /// # Errors
    /// As [`Build::param`].
    pub fn new(channels: usize, momentum: f64, eps: f64, build: &Build) -> Result<Self> {
        let param = |init| build.param(&[channels], init);
        let (running_mean, running_var) = (param(Init::Zeros)?, param(Init::Ones)?);
        running_mean.set_trainable(false);
        running_var.set_trainable(false);
        let (weight, bias) = (param(Init::Ones)?, param(Init::Zeros)?);
        Ok(BatchNorm { weight, bias, running_mean, running_var, momentum, eps, mode: Mode::default() })
    }

    /// Applies the norm; in training, moves the averages.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        if !self.mode.is_training() {
            let (mean, var) = (self.running_mean.tensor(), self.running_var.tensor());
            return x.batch_norm_by(&mean, &var, Some(&weight), Some(&bias), self.eps);
        }
        let y = x.batch_norm(Some(&weight), Some(&bias), self.eps)?;
        no_grad(|| {
            let (mean, var) = x.detach().batch_statistics()?;
            for (running, new) in [(&self.running_mean, mean), (&self.running_var, var)] {
                let old = running.tensor().mul_scalar(1.0 - self.momentum)?;
                running.set(&old.add(&new.mul_scalar(self.momentum)?)?)?;
            }
            Ok(y)
        })
    }
}

impl Module for BatchNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.param("running_mean", &self.running_mean);
        v.param("running_var", &self.running_var);
        v.mode(&self.mode);
    }
}
