//! The activations of feed-forward layers, by their Hugging Face names.

use wgrad::Tensor;

use crate::{Error, Result};

/// An elementwise activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, by the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// The activation that a configuration names.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "gelu" | "gelu_python" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "silu" | "swish" => Activation::Silu,
            "relu" => Activation::Relu,
            "relu2" => Activation::ReluSquared,
            "tanh" => Activation::Tanh,
            _ => return Err(Error::config(format!("activation {name:?} is unknown"))),
        })
    }

    /// Applies it.
    ///
    /// # Errors
    /// If `x` is not a float tensor, or memory is exhausted.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Gelu => x.gelu()?,
            Activation::GeluTanh => x.gelu_tanh()?,
            Activation::QuickGelu => x.quick_gelu()?,
            Activation::Silu => x.silu()?,
            Activation::Relu => x.relu()?,
            Activation::ReluSquared => x.relu_squared()?,
            Activation::Tanh => x.tanh()?,
        })
    }
}
