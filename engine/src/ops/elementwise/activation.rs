//! The activations that can follow a matrix product in its kernel.

use super::{Op, Unary, unary};
use crate::{Result, Tensor};

/// An elementwise activation without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// [`Tensor::gelu`].
    Gelu,
    /// [`Tensor::gelu_tanh`].
    GeluTanh,
    /// [`Tensor::quick_gelu`].
    QuickGelu,
    /// [`Tensor::silu`].
    Silu,
    /// [`Tensor::relu`].
    Relu,
    /// [`Tensor::relu_squared`].
    ReluSquared,
    /// [`Tensor::tanh`].
    Tanh,
    /// [`Tensor::sigmoid`].
    Sigmoid,
}

impl Activation {
    pub(crate) fn op(self) -> Op {
        match self {
            Activation::Gelu => Op::Gelu,
            Activation::GeluTanh => Op::GeluTanh,
            Activation::QuickGelu => Op::QuickGelu,
            Activation::Silu => Op::Silu,
            Activation::Relu => Op::Relu,
            Activation::ReluSquared => Op::ReluSquared,
            Activation::Tanh => Op::Tanh,
            Activation::Sigmoid => Op::Sigmoid,
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// If `x` is not of a float dtype, or memory is exhausted.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        unary("activation", x, Unary::new(self.op()))
    }
}
