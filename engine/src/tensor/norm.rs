//! Norms of rows. The work is in [`crate::ops::norm`].

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
}
