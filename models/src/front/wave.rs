//! From a wave to vectors: convolutions that shorten it, as in wav2vec 2.0 (Baevski et al., 2020, arXiv 2006.11477).

use wgrad::nn::{Build, Conv1d, GroupNorm, Module, Visitor};
use wgrad::{Conv, Tensor};

use crate::activation::Activation;
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// What the convolutions are.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveConfig {
    /// Outputs, kernel and stride of each.
    pub layers: Vec<[usize; 3]>,
    /// Whether they have biases.
    pub bias: bool,
    /// Whether a layer norm follows each; else a norm of each channel follows the first alone.
    pub layer_norm: bool,
    /// Activation after each.
    pub activation: Activation,
}

enum After {
    Nothing,
    Channels(GroupNorm),
    Layer(Norm),
}

struct Layer {
    conv: Conv1d,
    after: After,
}

impl Module for Layer {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("conv", &self.conv);
        match &self.after {
            After::Nothing => {}
            After::Channels(norm) => v.module("layer_norm", norm),
            After::Layer(norm) => v.module("layer_norm", norm),
        }
    }
}

/// The convolutions, named `conv_layers.0` and so on.
pub struct Wave {
    config: WaveConfig,
    layers: Vec<Layer>,
}

impl Wave {
    /// New layers.
    ///
    /// # Errors
    /// If a number is 0, or memory is exhausted.
    pub fn new(config: WaveConfig, build: &Build) -> Result<Self> {
        let mut channels = 1;
        let mut layers = Vec::new();
        for (number, &[outputs, kernel, stride]) in config.layers.iter().enumerate() {
            if outputs == 0 || kernel == 0 || stride == 0 {
                let message = format!("a convolution to {outputs} channels of kernel {kernel} and stride {stride}");
                return Err(Error::config(message));
            }
            let options = Conv { stride: [stride], ..Conv::default() };
            let after = match (config.layer_norm, number) {
                (true, _) => After::Layer(Norm::new(NormConfig::layer(1e-5), outputs, build)?),
                (false, 0) => After::Channels(GroupNorm::new(outputs, outputs, 1e-5, build)?),
                _ => After::Nothing,
            };
            layers.push(Layer { conv: Conv1d::new(channels, outputs, [kernel], config.bias, options, build)?, after });
            channels = outputs;
        }
        Ok(Wave { config, layers })
    }

    /// Vectors that so many samples give.
    pub fn frames(&self, samples: usize) -> usize {
        let shorter = |n: usize, &[_, kernel, stride]: &[usize; 3]| n.checked_sub(kernel).map_or(0, |n| n / stride + 1);
        self.config.layers.iter().fold(samples, shorter)
    }

    /// Vectors `[batch, frames, outputs]` of waves `[batch, samples]`.
    ///
    /// # Errors
    /// If the waves are too short.
    pub fn forward(&self, waves: &Tensor) -> Result<Tensor> {
        let mut x = waves.unsqueeze(1)?;
        for Layer { conv, after } in &self.layers {
            x = conv.forward(&x)?;
            x = match after {
                After::Nothing => x,
                After::Channels(norm) => norm.forward(&x)?,
                After::Layer(norm) => norm.forward(&x.transpose(1, 2)?)?.transpose(1, 2)?,
            };
            x = self.config.activation.apply(&x)?;
        }
        Ok(x.transpose(1, 2)?)
    }
}

impl Module for Wave {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("conv_layers", &self.layers);
    }
}
