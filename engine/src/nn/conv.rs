//! Convolution layers.

use super::{Build, Init, Module, Param, Visitor};
use crate::ops::conv::conv;
use crate::{Conv, Result, Tensor};

/// A convolution over `D` dimensions of `[batch, channels, ..]`: see [`Tensor::conv1d`] and [`Tensor::conv2d`].
pub struct Convolution<const D: usize> {
    /// `[outputs, channels / groups, kernel..]`.
    pub weight: Param,
    /// `[outputs]`.
    pub bias: Option<Param>,
    /// How the windows lie.
    pub options: Conv<D>,
}

/// A convolution of `[batch, channels, length]`.
pub type Conv1d = Convolution<1>;
/// A convolution of `[batch, channels, height, width]`.
pub type Conv2d = Convolution<2>;

impl<const D: usize> Convolution<D> {
    /// A layer with new parameters.
    ///
    /// # Errors
    /// As [`Build::weight`].
    pub fn new(
        channels: usize,
        outputs: usize,
        kernel: [usize; D],
        bias: bool,
        options: Conv<D>,
        build: &Build,
    ) -> Result<Self> {
        let weight = build.weight(&[&[outputs, channels / options.groups.max(1)], &kernel[..]].concat())?;
        let bias = if bias { Some(build.param(&[outputs], Init::Zeros)?) } else { None };
        Ok(Convolution { weight, bias, options })
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// As [`Tensor::conv1d`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        let op = if D == 1 { "conv1d" } else { "conv2d" };
        conv(op, x, &self.weight.tensor(), bias.as_ref(), &self.options)
    }
}

impl<const D: usize> Module for Convolution<D> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.optional("bias", self.bias.as_ref());
    }
}
