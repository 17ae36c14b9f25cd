//! Norms of rows. The work is in [`crate::ops::norm`].

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
}
