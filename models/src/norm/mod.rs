//! The norms of blocks, with the options of their checkpoints; norms with state and a backward of their own; norms of maps by amplitude
//! and phase; and matrices that are normalised themselves.

mod alpha;
mod batch;
mod narrow;
mod online;
mod phase;
mod power;
mod state;
mod unified;
mod weight;

pub use alpha::AlphaBatchNorm;
pub use narrow::NarrowNorm;
pub use online::{Compensation, OnlineNorm, OnlineNormConfig};
pub use phase::{PhaseBase, PhaseKind, PhaseNorm, PhaseNormConfig};
pub use power::{PowerNorm, PowerNormConfig};
pub use unified::{UnifiedNorm, UnifiedNormConfig};
pub use weight::{NormedLinear, WeightView};

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{NormOptions, Tensor};

use batch::RealBatchNorm;

use crate::{Error, Result};

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
    /// Layer norm in which every step is rounded to the dtype of its input: [`NarrowNorm`].
    Narrow {
        /// Whether rows are divided by their mean absolute deviation first.
        prenormalised: bool,
    },
    /// Each channel less its mean over all positions of the batch and divided by its deviation; in evaluation by running averages (Ioffe
    /// and Szegedy, Batch Normalization, 2015).
    Batch {
        /// Share of a new batch in the averages.
        momentum: f64,
    },
    /// Batch norm in evaluation by a mixture of running averages and the batch's own statistics: [`AlphaBatchNorm`].
    AlphaBatch {
        /// Share of the averages.
        alpha: f64,
    },
    /// [`PowerNorm`].
    Power(PowerNormConfig),
    /// [`UnifiedNorm`].
    Unified(UnifiedNormConfig),
    /// [`OnlineNorm`].
    Online(OnlineNormConfig),
}

/// A norm of the last dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance or the mean square; stands for that of the kind's own numbers too.
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

    /// Batch norm with the usual momentum of 0.1.
    pub fn batch(eps: f64) -> Self {
        NormConfig { kind: NormKind::Batch { momentum: 0.1 }, eps }
    }
}

/// A norm with its parameters. Norms over the batch move their state in training.
pub struct Norm(Body);

enum Body {
    Row { config: NormConfig, weight: Option<Param>, bias: Option<Param> },
    Narrow(NarrowNorm),
    Batch(RealBatchNorm),
    AlphaBatch(AlphaBatchNorm),
    Power(PowerNorm),
    Unified(UnifiedNorm),
    Online(OnlineNorm),
}

impl Norm {
    /// A norm of vectors of `width`, with gains of one and biases of zero.
    ///
    /// # Errors
    /// If a number of the kind is outside its range, or memory is exhausted.
    pub fn new(config: NormConfig, width: usize, build: &Build) -> Result<Self> {
        let NormConfig { kind, eps } = config;
        let row = |gain: Option<Init>, bias: bool| {
            let weight = gain.map(|gain| build.param(&[width], gain)).transpose()?;
            let bias = bias.then(|| build.param(&[width], Init::Zeros)).transpose()?;
            Ok::<_, Error>(Body::Row { config, weight, bias })
        };
        Ok(Norm(match kind {
            NormKind::Layer { gain, bias } => row(gain.then_some(Init::Ones), gain && bias)?,
            NormKind::Rms { shift } => row(Some(Init::Constant(1.0 - shift)), false)?,
            NormKind::Plain(_) => row(None, false)?,
            NormKind::Narrow { prenormalised } => Body::Narrow(NarrowNorm::new(prenormalised, 2.0, eps, width, build)?),
            NormKind::Batch { momentum } => Body::Batch(RealBatchNorm::new(width, momentum, eps, build)?),
            NormKind::AlphaBatch { alpha } => Body::AlphaBatch(AlphaBatchNorm::new(alpha, eps, width, build)?),
            NormKind::Power(c) => Body::Power(PowerNorm::new(PowerNormConfig { eps, ..c }, width, build)?),
            NormKind::Unified(c) => Body::Unified(UnifiedNorm::new(UnifiedNormConfig { eps, ..c }, width, build)?),
            NormKind::Online(c) => Body::Online(OnlineNorm::new(OnlineNormConfig { eps, ..c }, width, build)?),
        }))
    }

    /// The norm of `x [.., width]`, all of whose positions count.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_real(x, None)
    }

    /// The norm of `x [.., width]`. Statistics over the batch leave out the positions that are false in `real [..]`, but for those of an
    /// online norm, which goes on from whole sample to whole sample.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_real(&self, x: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        match &self.0 {
            Body::Row { config, weight, bias } => Ok(x.row_norm(&options(config, weight.as_ref(), bias.as_ref())?)?),
            Body::Narrow(norm) => norm.forward(x),
            Body::Batch(norm) => norm.forward(x, real),
            Body::AlphaBatch(norm) => norm.forward(x, real),
            Body::Power(norm) => norm.forward(x, real),
            Body::Unified(norm) => norm.forward(x, real),
            Body::Online(norm) => norm.forward(x),
        }
    }

    /// The norm of `residual` and `x` after dropout with this probability; of kinds that look at one row alone, in one pass. `real` as for
    /// [`forward_real`](Self::forward_real).
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor, dropout: f64, real: Option<&Tensor>) -> Result<Tensor> {
        match &self.0 {
            Body::Row { config, weight, bias } => {
                Ok(x.add_row_norm(residual, dropout, &options(config, weight.as_ref(), bias.as_ref())?)?.0)
            }
            _ if dropout > 0.0 => self.forward_real(&x.dropout(dropout)?.add(residual)?, real),
            _ => self.forward_real(&x.add(residual)?, real),
        }
    }
}

/// What the engine is told of a norm of one row.
fn options(config: &NormConfig, weight: Option<&Param>, bias: Option<&Param>) -> Result<NormOptions> {
    let (kind, gain) = match (config.kind, weight.map(Param::tensor)) {
        (NormKind::Rms { shift }, Some(gain)) if shift != 0.0 => (wgrad::NormKind::Rms, Some(gain.add_scalar(shift)?)),
        (NormKind::Rms { .. }, gain) => (wgrad::NormKind::Rms, gain),
        (NormKind::Plain(kind), _) => (kind, None),
        (_, gain) => (wgrad::NormKind::Layer, gain),
    };
    Ok(NormOptions { gain, bias: bias.map(Param::tensor), ..NormOptions::new(kind, config.eps) })
}

impl Module for Norm {
    fn visit(&self, v: &mut Visitor<'_>) {
        match &self.0 {
            Body::Row { weight, bias, .. } => {
                v.optional("weight", weight.as_ref());
                v.optional("bias", bias.as_ref());
            }
            Body::Narrow(norm) => v.module("", norm),
            Body::Batch(norm) => v.module("", norm),
            Body::AlphaBatch(norm) => v.module("", norm),
            Body::Power(norm) => v.module("", norm),
            Body::Unified(norm) => v.module("", norm),
            Body::Online(norm) => v.module("", norm),
        }
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn kinds_without_parameters() {
        let device = Device::new_cpu();
        let build = Build::new(&device).with_dtype(wgrad::DType::F64);
        let run = |kind, values: &[f64]| {
            let norm = Norm::new(NormConfig { kind, eps: 1e-12 }, values.len(), &build).unwrap();
            assert_eq!(norm.parameter_count(), 0);
            let x = Tensor::from_slice(values, &[1, values.len()], &device).unwrap();
            let zero = x.zeros_like().unwrap();
            let (alone, added) = (norm.forward(&x).unwrap(), norm.forward_add(&zero, &x, 0.0, None).unwrap());
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

    /// Norms over the batch: of any leading dimensions, the same of a sum, by the state in evaluation.
    #[test]
    fn kinds_over_the_batch() {
        let device = Device::new_cpu();
        let build = Build::new(&device).with_dtype(wgrad::DType::F64);
        let values: Vec<f64> = (0..24).map(|n| f64::from(n * n % 17) - 5.0).collect();
        let x = Tensor::from_slice(&values, &[2, 3, 4], &device).unwrap();
        let kinds = [
            NormKind::Batch { momentum: 0.1 },
            NormKind::AlphaBatch { alpha: 0.5 },
            NormKind::Power(PowerNormConfig::default()),
            NormKind::Unified(UnifiedNormConfig::default()),
            NormKind::Online(OnlineNormConfig::default()),
        ];
        for kind in kinds {
            let norm = || Norm::new(NormConfig { kind, eps: 1e-5 }, 4, &build).unwrap();
            let (own, other) = (norm(), norm());
            let y = own.forward(&x).unwrap();
            assert_eq!(y.shape(), x.shape(), "{kind:?}");
            let half = x.mul_scalar(0.5).unwrap();
            let sum = other.forward_add(&half, &half, 0.0, None).unwrap();
            assert_eq!(y.to_vec::<f64>().unwrap(), sum.to_vec::<f64>().unwrap(), "{kind:?}");
            let fourth = |row: &[f64]| row.iter().step_by(4).sum::<f64>() / 6.0;
            if matches!(kind, NormKind::Batch { .. }) {
                assert!(fourth(&y.to_vec::<f64>().unwrap()).abs() < 1e-12, "the mean of a channel is left");
            }
            own.train(false);
            let run = || own.forward(&x).unwrap().to_vec::<f64>().unwrap();
            assert_eq!(run(), run(), "{kind:?} moved its state in evaluation");
        }
    }
}
