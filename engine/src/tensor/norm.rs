//! Norms of rows and of channels. The work is in [`crate::ops::norm`] and [`crate::ops::channel_norm`].

use crate::ops::channel_norm;
use crate::ops::norm::{add_norm, dims_of, norm};
use crate::{Result, Tensor};

impl Tensor {
    /// Layer norm: `(x - mean) / sqrt(variance + eps) * gain + bias` over the last dimensions, as many as gain (or else
    /// bias) has; one if there is neither. Variance is biased (divided by n). Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    ///
    /// # Errors
    /// If it is not a float tensor, gain or bias do not have the shape of the last dimensions or another dtype or device, or
    /// `eps` is negative.
    pub fn layer_norm(&self, gain: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        norm("layer_norm", self, gain, bias, dims_of(gain, bias), eps, false)
    }

    /// [`Tensor::layer_norm`] without gain and bias over the last `dims` dimensions.
    ///
    /// # Errors
    /// If it is not a float tensor, has fewer dimensions, or `eps` is negative.
    pub fn layer_norm_over(&self, dims: usize, eps: f64) -> Result<Tensor> {
        norm("layer_norm", self, None, None, dims, eps, false)
    }

    /// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * gain` over the last dimensions, as many as gain has; one if there
    /// is none. Source: Zhang, Sennrich 2019, arXiv:1910.07467.
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`].
    pub fn rms_norm(&self, gain: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        norm("rms_norm", self, gain, None, dims_of(gain, None), eps, true)
    }

    /// `x + residual` and its [`Tensor::layer_norm`], in one pass over memory: returns the norm and the sum, both with gradients.
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`], and if the residual has another shape, dtype or device.
    pub fn add_layer_norm(
        &self,
        residual: &Tensor,
        gain: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        add_norm("add_layer_norm", self, residual, gain, bias, eps, false)
    }

    /// `x + residual` and its [`Tensor::rms_norm`], in one pass over memory: returns the norm and the sum, both with gradients.
    ///
    /// # Errors
    /// As [`Tensor::add_layer_norm`].
    pub fn add_rms_norm(&self, residual: &Tensor, gain: Option<&Tensor>, eps: f64) -> Result<(Tensor, Tensor)> {
        add_norm("add_rms_norm", self, residual, gain, None, eps, true)
    }

    /// Group norm of `[batch, channels, ..]`: each sample's channels in `groups` parts, each part less its mean and divided by its deviation
    /// (biased, `eps` added to the variance), then `weight` and `bias [channels]`. Source: Wu, He 2018, arXiv:1803.08494.
    ///
    /// # Errors
    /// If it is not a float tensor of at least two dimensions, the groups do not divide the channels, a parameter has another shape, dtype or
    /// device, or `eps` is negative.
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        channel_norm::group_norm("group_norm", self, Some(groups), weight, bias, eps)
    }

    /// [`Tensor::group_norm`] of each channel by itself. Source: Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022.
    ///
    /// # Errors
    /// As [`Tensor::group_norm`].
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        channel_norm::group_norm("instance_norm", self, None, weight, bias, eps)
    }

    /// Batch norm of `[batch, channels, ..]` in training: each channel less its mean over the batch and divided by its deviation (biased),
    /// then `weight` and `bias [channels]`. Source: Ioffe, Szegedy 2015, arXiv:1502.03167.
    ///
    /// # Errors
    /// As [`Tensor::group_norm`], and if a channel has but one element.
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        channel_norm::batch_norm(self, weight, bias, eps)
    }

    /// Batch norm in evaluation: with a mean and a variance `[channels]` that are given.
    ///
    /// # Errors
    /// As [`Tensor::group_norm`].
    pub fn batch_norm_by(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        channel_norm::batch_norm_by(self, mean, var, weight, bias, eps)
    }

    /// Mean and unbiased variance `[channels]` of each channel of `[batch, channels, ..]`: what batch norm keeps for evaluation.
    ///
    /// # Errors
    /// If it is not a float tensor of at least two dimensions, or a channel has but one element.
    pub fn batch_statistics(&self) -> Result<(Tensor, Tensor)> {
        channel_norm::batch_statistics(self)
    }

    /// `x / max(norm, eps)` with the p-norm along `dim`.
    ///
    /// # Errors
    /// As [`Tensor::norm`], and if `eps` is negative.
    pub fn normalize(&self, p: f64, dim: isize, eps: f64) -> Result<Tensor> {
        channel_norm::normalize(self, p, dim, eps)
    }

    /// A weight of directions (this) and lengths `g`: `g v / |v|`, where the norm goes over all dimensions but `dim`, along which `g` lies
    /// (its other sizes are 1). Source: Salimans, Kingma 2016, arXiv:1602.07868.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or the dimension is out of range.
    pub fn weight_norm(&self, g: &Tensor, dim: isize) -> Result<Tensor> {
        channel_norm::weight_norm(self, g, dim)
    }
}
