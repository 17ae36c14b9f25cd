//! Norms of rows and of channels. The work is in [`crate::ops::norm`] and [`crate::ops::channel_norm`].

use crate::ops::channel_norm;
use crate::ops::norm::{NormKind, NormOptions, add_norm, along, norm};
use crate::{Result, Tensor};

/// With these handles on the parameters.
fn options(kind: NormKind, gain: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> NormOptions {
    NormOptions { gain: gain.cloned(), bias: bias.cloned(), ..NormOptions::new(kind, eps) }
}

impl Tensor {
    /// Any norm of [`NormKind`] of the rows that the last dimensions are, times gain, plus bias.
    ///
    /// ```
    /// use wgrad::{Device, NormKind, NormOptions, Tensor};
    /// # fn main() -> wgrad::Result<()> {
    /// let x = Tensor::from_slice(&[1.0f32, 7.0], &[1, 2], &Device::cpu())?;
    /// let y = x.row_norm(&NormOptions::new(NormKind::Rms, 0.0))?; // the root of the mean square is 5
    /// assert!((y.to_f64_vec()?[1] - 1.4).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it is not a float tensor, gain or bias do not have the shape of the last dimensions or another dtype or device, or
    /// a number of the options is outside its range.
    pub fn row_norm(&self, options: &NormOptions) -> Result<Tensor> {
        norm("row_norm", self, options)
    }

    /// `x + residual` and its [`Tensor::row_norm`], in one pass over memory, where `x` is this tensor after dropout with probability
    /// `dropout` (0: as it is). Returns the norm and the sum, both with gradients.
    ///
    /// # Errors
    /// As [`Tensor::row_norm`], if the residual has another shape, dtype or device, and unless `0 <= dropout <= 1`.
    pub fn add_row_norm(&self, residual: &Tensor, dropout: f64, options: &NormOptions) -> Result<(Tensor, Tensor)> {
        add_norm("add_row_norm", self, residual, dropout, options)
    }

    /// Layer norm: `(x - mean) / sqrt(variance + eps) * gain + bias` over the last dimensions, as many as gain (or else
    /// bias) has; one if there is neither. Variance is biased (divided by n). Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
    ///
    /// # Errors
    /// As [`Tensor::row_norm`].
    pub fn layer_norm(&self, gain: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        norm("layer_norm", self, &options(NormKind::Layer, gain, bias, eps))
    }

    /// [`Tensor::layer_norm`] without gain and bias over the last `dims` dimensions.
    ///
    /// # Errors
    /// As [`Tensor::row_norm`], and if it has fewer dimensions.
    pub fn layer_norm_over(&self, dims: usize, eps: f64) -> Result<Tensor> {
        norm("layer_norm", self, &NormOptions { dims: Some(dims), ..NormOptions::new(NormKind::Layer, eps) })
    }

    /// Root-mean-square norm: `x / sqrt(mean(x^2) + eps) * gain` over the last dimensions, as many as gain has; one if there
    /// is none. Source: Zhang, Sennrich 2019, arXiv:1910.07467.
    ///
    /// # Errors
    /// As [`Tensor::row_norm`].
    pub fn rms_norm(&self, gain: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        norm("rms_norm", self, &options(NormKind::Rms, gain, None, eps))
    }

    /// L2 normalisation along one dimension: `x / sqrt(sum(x^2) + eps^2)`. Smooth where others cut off, so that the gradient of a
    /// row of zeros is `1 / eps` times the upstream one. Queries and keys so normalised give products between -1 and 1
    /// (Henry et al. 2020, Query-key normalization for transformers, arXiv:2010.04245).
    ///
    /// # Errors
    /// If it is not a float tensor, the dimension is out of range, or `eps` is negative.
    pub fn l2_norm(&self, dim: isize, eps: f64) -> Result<Tensor> {
        along("l2_norm", self, dim, &NormOptions::new(NormKind::Unit(2.0), eps))
    }

    /// `x + residual` and its [`Tensor::layer_norm`], in one pass over memory: returns the norm and the sum, both with gradients.
    ///
    /// # Errors
    /// As [`Tensor::add_row_norm`].
    pub fn add_layer_norm(
        &self,
        residual: &Tensor,
        gain: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        add_norm("add_layer_norm", self, residual, 0.0, &options(NormKind::Layer, gain, bias, eps))
    }

    /// `x + residual` and its [`Tensor::rms_norm`], in one pass over memory: returns the norm and the sum, both with gradients.
    ///
    /// # Errors
    /// As [`Tensor::add_row_norm`].
    pub fn add_rms_norm(&self, residual: &Tensor, gain: Option<&Tensor>, eps: f64) -> Result<(Tensor, Tensor)> {
        add_norm("add_rms_norm", self, residual, 0.0, &options(NormKind::Rms, gain, None, eps))
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
