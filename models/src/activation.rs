//! The activations of feed-forward layers, by their Hugging Face names.

pub use wgrad::Activation;

use crate::{Error, Result};

/// The activation that a configuration names.
///
/// # Errors
/// If the name is unknown.
pub fn parse(name: &str) -> Result<Activation> {
    Ok(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "silu" | "swish" => Activation::Silu,
        "relu" => Activation::Relu,
        "relu2" => Activation::ReluSquared,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        _ => return Err(Error::config(format!("activation {name:?} is unknown"))),
    })
}
