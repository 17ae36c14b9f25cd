//! The affine layer.

use super::{Build, Init, Module, Param, Visitor};
use crate::{Epilogue, Result, Tensor};

/// `y = x weight^T + bias`: `x [.., inputs]` to `[.., outputs]`.
pub struct Linear {
    /// `[outputs, inputs]`; it may be [packed](Param::set_packed).
    pub weight: Param,
    /// `[outputs]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// A layer with new parameters.
    ///
    /// # Errors
    /// As [`Build::weight`].
    pub fn new(inputs: usize, outputs: usize, bias: bool, build: &Build) -> Result<Self> {
        let weight = build.weight(&[outputs, inputs])?;
        let bias = if bias { Some(build.param(&[outputs], Init::Zeros)?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `inputs`, or dtype or device differ from the parameters'.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, &Epilogue::default())
    }

    /// Applies the layer and what follows it, in one pass: see [`Tensor::linear_then`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if a residual does not have the shape of the result.
    pub fn forward_then(&self, x: &Tensor, then: &Epilogue) -> Result<Tensor> {
        self.weight.apply(x, self.bias.as_ref().map(Param::tensor).as_ref(), then)
    }
}

impl Module for Linear {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.optional("bias", self.bias.as_ref());
    }
}
