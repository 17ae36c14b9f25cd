//! The norms of blocks, with the options of their checkpoints; norms with state and a backward of their own; and matrices that are
//! normalised themselves.

mod alpha;
mod online;
mod power;
mod state;
mod unified;
mod weight;

pub use alpha::AlphaBatchNorm;
pub use online::{Compensation, OnlineNorm, OnlineNormConfig};
pub use power::{PowerNorm, PowerNormConfig};
pub use unified::{UnifiedNorm, UnifiedNormConfig};
pub use weight::{NormedLinear, WeightView};

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{NormOptions, Tensor};

use crate::Result;

/// What is normalised, and what follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * gain + bias` (Ba et al., Layer Normalization, 2016).
    Layer {
        /// Whether there is a gain.
        gain: bool,
        /// Whether there is a bias, beside the gain.
        bias: bool,
    },
    /// `x / sqrt(mean(x^2) + eps) * gain` (Zhang and Sennrich, Root Mean Square Layer Normalization, 2019).
    Rms {
        /// What the stored gain lacks: 1 in Gemma, else 0.
        shift: f64,
    },
    /// Any kind of the engine, without gain and bias: SimpleRMSNorm, compressed RMSNorm, L2 normalisation.
    Plain(wgrad::NormKind),
}

/// A norm of the last dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub eps: f64,
}

impl NormConfig {
    /// Layer norm with gain and bias.
    pub fn layer(eps: f64) -> Self {
        NormConfig { kind: NormKind::Layer { gain: true, bias: true }, eps }
    }

    /// RMS norm with a gain.
    pub fn rms(eps: f64) -> Self {
        NormConfig { kind: NormKind::Rms { shift: 0.0 }, eps }
    }

    /// Norm of the mean square without a gain (Qin et al., Scaling TransNormer to 175 Billion Parameters, 2023).
    pub fn simple_rms(eps: f64) -> Self {
        NormConfig { kind: NormKind::Plain(wgrad::NormKind::Rms), eps }
    }

    /// Vectors of length one.
    pub fn l2() -> Self {
        NormConfig { kind: NormKind::Plain(wgrad::NormKind::Unit(2.0)), eps: 1e-6 }
    }
}

/// A norm with its parameters.
pub struct Norm {
    config: NormConfig,
    weight: Option<Param>,
    bias: Option<Param>,
}

impl Norm {
    /// A norm of vectors of `width`, with gains of one and biases of zero.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: NormConfig, width: usize, build: &Build) -> Result<Self> {
        let (gain, bias, ones) = match config.kind {
            NormKind::Layer { gain, bias } => (gain, gain && bias, Init::Ones),
            NormKind::Rms { shift } => (true, false, Init::Constant(1.0 - shift)),
            NormKind::Plain(_) => (false, false, Init::Ones),
        };
        let weight = gain.then(|| build.param(&[width], ones)).transpose()?;
        let bias = bias.then(|| build.param(&[width], Init::Zeros)).transpose()?;
        Ok(Norm { config, weight, bias })
    }

    fn options(&self) -> Result<NormOptions> {
        let weight = self.weight.as_ref().map(Param::tensor);
        let (kind, gain) = match (self.config.kind, weight) {
            (NormKind::Layer { .. }, gain) => (wgrad::NormKind::Layer, gain),
            (NormKind::Rms { shift }, Some(gain)) if shift != 0.0 => {
                (wgrad::NormKind::Rms, Some(gain.add_scalar(shift)?))
            }
            (NormKind::Rms { .. }, gain) => (wgrad::NormKind::Rms, gain),
            (NormKind::Plain(kind), _) => (kind, None),
        };
        let bias = self.bias.as_ref().map(Param::tensor);
        Ok(NormOptions { gain, bias, ..NormOptions::new(kind, self.config.eps) })
    }

    /// The norm of `x [.., width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.row_norm(&self.options()?)?)
    }

    /// The norm of `x + residual`, in one pass.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok(x.add_row_norm(residual, 0.0, &self.options()?)?.0)
    }
}

impl Module for Norm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.optional("weight", self.weight.as_ref());
        v.optional("bias", self.bias.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn kinds_without_parameters() {
        let device = Device::cpu();
        let build = Build::new(&device).with_dtype(wgrad::DType::F64);
        let run = |kind, values: &[f64]| {
            let norm = Norm::new(NormConfig { kind, eps: 1e-12 }, values.len(), &build).unwrap();
            assert_eq!(norm.parameter_count(), 0);
            let x = Tensor::from_slice(values, &[1, values.len()], &device).unwrap();
            let zero = x.zeros_like().unwrap();
            let (alone, added) = (norm.forward(&x).unwrap(), norm.forward_add(&zero, &x).unwrap());
            assert_eq!(alone.to_vec::<f64>().unwrap(), added.to_vec::<f64>().unwrap());
            alone.to_vec::<f64>().unwrap()
        };
        let near = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&run(NormConfig::l2().kind, &[3.0, 4.0]), &[0.6, 0.8]));
        assert!(near(&run(NormConfig::simple_rms(0.0).kind, &[1.0, 7.0]), &[0.2, 1.4]));
        // Of a vector of mean zero without its last element the same as of the whole.
        let whole = run(NormConfig::simple_rms(0.0).kind, &[1.0, 2.0, -5.0, 2.0]);
        assert!(near(&run(NormKind::Plain(wgrad::NormKind::Crms), &[1.0, 2.0, -5.0]), &whole[..3]));
    }
}
