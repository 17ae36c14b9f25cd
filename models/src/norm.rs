//! The norms of blocks, with the options of their checkpoints.

use wgrad::Tensor;
use wgrad::nn::{Build, Init, Module, Param, Visitor};

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
    /// `x / sqrt(mean(x^2) + eps)` (Qin et al., Scaling TransNormer to 175 Billion Parameters, 2023).
    SimpleRms,
    /// RMS norm of vectors whose mean is zero, without their last element, which is the negative sum of the others (Jiang et al.,
    /// Pre-RMSNorm and Pre-CRMSNorm Transformers, 2023).
    CompressedRms,
    /// `x / sqrt(sum(x^2) + eps)`: vectors of length one.
    L2,
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

    /// Vectors of length one.
    pub fn l2() -> Self {
        NormConfig { kind: NormKind::L2, eps: 1e-12 }
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
            NormKind::SimpleRms | NormKind::CompressedRms | NormKind::L2 => (false, false, Init::Ones),
        };
        let weight = gain.then(|| build.param(&[width], ones)).transpose()?;
        let bias = bias.then(|| build.param(&[width], Init::Zeros)).transpose()?;
        Ok(Norm { config, weight, bias })
    }

    fn gain(&self) -> Result<Option<Tensor>> {
        let Some(weight) = self.weight.as_ref().map(Param::tensor) else { return Ok(None) };
        Ok(Some(match self.config.kind {
            NormKind::Rms { shift } if shift != 0.0 => weight.add_scalar(shift)?,
            _ => weight,
        }))
    }

    /// The norm of `x [.., width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (gain, bias) = (self.gain()?, self.bias.as_ref().map(Param::tensor));
        Ok(match self.config.kind {
            NormKind::Layer { .. } => x.layer_norm(gain.as_ref(), bias.as_ref(), self.config.eps)?,
            NormKind::Rms { .. } | NormKind::SimpleRms => x.rms_norm(gain.as_ref(), self.config.eps)?,
            NormKind::CompressedRms => compressed_rms(x, self.config.eps)?,
            NormKind::L2 => l2(x, self.config.eps)?,
        })
    }

    /// The norm of `x + residual`, in one pass.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (gain, bias) = (self.gain()?, self.bias.as_ref().map(Param::tensor));
        let (norm, _) = match self.config.kind {
            NormKind::Layer { .. } => x.add_layer_norm(residual, gain.as_ref(), bias.as_ref(), self.config.eps)?,
            NormKind::Rms { .. } | NormKind::SimpleRms => x.add_rms_norm(residual, gain.as_ref(), self.config.eps)?,
            NormKind::CompressedRms | NormKind::L2 => return self.forward(&x.add(residual)?),
        };
        Ok(norm)
    }
}

fn compressed_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    let last = x.sum(&[-1], true)?.neg()?;
    Ok(Tensor::concat(&[x, &last], -1)?.rms_norm(None, eps)?.narrow(-1, 0, x.size(-1)?)?)
}

fn l2(x: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.size(-1)?.max(1) as f64;
    Ok(x.rms_norm(None, eps / width)?.mul_scalar(width.sqrt().recip())?)
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
        assert!(near(&run(NormKind::L2, &[3.0, 4.0]), &[0.6, 0.8]));
        assert!(near(&run(NormKind::SimpleRms, &[1.0, 7.0]), &[0.2, 1.4]));
        // Of a vector of mean zero without its last element the same as of the whole.
        let whole = run(NormKind::SimpleRms, &[1.0, 2.0, -5.0, 2.0]);
        assert!(near(&run(NormKind::CompressedRms, &[1.0, 2.0, -5.0]), &whole[..3]));
    }
}
