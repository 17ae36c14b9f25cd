//! Learned factors: one number, or one for each element of a vector.

use wgrad::Tensor;
use wgrad::nn::{Build, Init, Module, Param, Visitor};

use crate::Result;

/// What a learned factor is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GainConfig {
    /// Its name in a checkpoint.
    pub name: &'static str,
    /// The first value of the parameter.
    pub start: f64,
    /// The factor is so many times the parameter, so that an optimizer changes it so many times as fast.
    pub pace: f64,
    /// Whether there is one number for all elements.
    pub single: bool,
    /// Whether the sign of the parameter is dropped.
    pub magnitude: bool,
}

impl GainConfig {
    /// A factor for each element, the parameter itself.
    pub const fn vector(name: &'static str, start: f64) -> Self {
        GainConfig { name, start, pace: 1.0, single: false, magnitude: false }
    }

    /// One factor for all elements.
    pub const fn scalar(name: &'static str, start: f64) -> Self {
        GainConfig { single: true, ..Self::vector(name, start) }
    }

    /// nGPT's: the factor starts at `first`, its parameter at `scale` (Loshchilov et al., 2024, arXiv 2410.01131, section 2.5).
    pub const fn scaled(name: &'static str, first: f64, scale: f64) -> Self {
        GainConfig { pace: first / scale, ..Self::vector(name, scale) }
    }
}

/// A learned factor with its parameter.
pub struct Gain {
    config: GainConfig,
    param: Param,
}

impl Gain {
    /// A new factor of vectors of `width`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: GainConfig, width: usize, build: &Build) -> Result<Self> {
        let param = build.param(&[if config.single { 1 } else { width }], Init::Constant(config.start))?;
        Ok(Gain { config, param })
    }

    /// The factor, `[width]` or `[1]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn value(&self) -> Result<Tensor> {
        let GainConfig { pace, magnitude, .. } = self.config;
        let mut value = self.param.tensor();
        if magnitude {
            value = value.abs()?;
        }
        if pace == 1.0 { Ok(value) } else { Ok(value.mul_scalar(pace)?) }
    }

    /// `x [.., width]` times the factor.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.mul(&self.value()?)?)
    }

    /// `x [batch, heads, length, head_dim]` times a factor of `heads * head_dim` elements, or of one for each head.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn by_head(&self, x: &Tensor) -> Result<Tensor> {
        let heads = if self.config.single { 1 } else { x.size(1)? as isize };
        Ok(x.mul(&self.value()?.reshape(&[heads, 1, -1])?)?)
    }
}

impl Module for Gain {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param(self.config.name, &self.param);
    }
}
