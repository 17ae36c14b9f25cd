//! Normalisation layers.

use super::{Build, Init, Module, Param, Visitor};
use crate::{Result, Tensor};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension.
pub struct LayerNorm {
    /// Gain, `[width]`.
    pub weight: Param,
    /// `[width]`.
    pub bias: Option<Param>,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// A norm with gains of one and, if wanted, biases of zero.
    ///
    /// # Errors
    /// As [`Build::param`].
    pub fn new(width: usize, bias: bool, eps: f64, build: &Build) -> Result<Self> {
        let weight = build.param(&[width], Init::Ones)?;
        let bias = if bias { Some(build.param(&[width], Init::Zeros)?) } else { None };
        Ok(LayerNorm { weight, bias, eps })
    }

    /// Applies the norm to `x [.., width]`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `width`, or dtype or device differ from the parameters'.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        x.layer_norm(Some(&self.weight.tensor()), bias.as_ref(), self.eps)
    }

    /// `x + residual` and its norm in one pass: returns the norm and the sum.
    ///
    /// # Errors
    /// As [`LayerNorm::forward`], and if the residual has another shape.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        let bias = self.bias.as_ref().map(Param::tensor);
        x.add_layer_norm(residual, Some(&self.weight.tensor()), bias.as_ref(), self.eps)
    }
}

impl Module for LayerNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.optional("bias", self.bias.as_ref());
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
pub struct RmsNorm {
    /// Gain, `[width]`.
    pub weight: Param,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// A norm with gains of one.
    ///
    /// # Errors
    /// As [`Build::param`].
    pub fn new(width: usize, eps: f64, build: &Build) -> Result<Self> {
        Ok(RmsNorm { weight: build.param(&[width], Init::Ones)?, eps })
    }

    /// Applies the norm to `x [.., width]`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `width`, or dtype or device differ from the parameters'.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.rms_norm(Some(&self.weight.tensor()), self.eps)
    }

    /// `x + residual` and its norm in one pass: returns the norm and the sum.
    ///
    /// # Errors
    /// As [`RmsNorm::forward`], and if the residual has another shape.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        x.add_rms_norm(residual, Some(&self.weight.tensor()), self.eps)
    }
}

impl Module for RmsNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
    }
}
