//! From filter banks to vectors, a quarter as many: convolutions of which the second works on each channel by itself (Xu et al.,
//! Conformer-based speech recognition on extreme edge-computing devices, 2024, arXiv 2312.10359, depthwise separable convolutions after
//! Howard et al., MobileNets, 2017).

use wgrad::nn::{Build, Conv2d, Module, Visitor};
use wgrad::{Conv, PadMode, Tensor};

use crate::activation::Activation;
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// Frames that become one vector.
pub const FRAMES: usize = 4;

/// What the layers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubsamplingConfig {
    /// Numbers of a frame.
    pub features: usize,
    /// Channels of the convolutions.
    pub channels: usize,
    /// Width of the vectors.
    pub hidden: usize,
    /// Activation after both convolutions.
    pub activation: Activation,
}

/// The last frames that each convolution saw; nothing before the first piece of a sound.
#[derive(Default)]
pub struct Frames([Option<Tensor>; 2]);

/// Two convolutions of 3 x 3 that halve frames and features each, and a layer. No window reaches behind the last frame of its piece, so
/// that a sound may come in pieces.
pub struct Subsampling {
    config: SubsamplingConfig,
    first: Conv2d,
    /// Of each channel by itself.
    second: Conv2d,
    mix: Conv2d,
    project: Linear,
}

impl Subsampling {
    /// New layers.
    ///
    /// # Errors
    /// If a number is 0, or memory is exhausted.
    pub fn new(config: SubsamplingConfig, build: &Build) -> Result<Self> {
        let SubsamplingConfig { features, channels, hidden, .. } = config;
        if features == 0 || channels == 0 || hidden == 0 {
            return Err(Error::config(format!(
                "subsampling of {features} features in {channels} channels to {hidden}"
            )));
        }
        // Frames are padded apart, by those before.
        let halves = |groups| Conv { stride: [2, 2], padding: [0, 1], groups, ..Conv::default() };
        let inputs = channels * features.div_ceil(FRAMES);
        Ok(Subsampling {
            config,
            first: Conv2d::new(1, channels, [3, 3], true, halves(1), build)?,
            second: Conv2d::new(channels, channels, [3, 3], true, halves(channels), build)?,
            mix: Conv2d::new(channels, channels, [1, 1], true, Conv::default(), build)?,
            project: Linear::new(inputs, hidden, true, Form::Rows, build)?,
        })
    }

    /// Of the next frames `[batch, frames, features]` of sounds, `[batch, frames / 4, hidden]`.
    ///
    /// # Errors
    /// Unless frames come in fours, or if shapes do not fit.
    pub fn forward(&self, x: &Tensor, Frames([first, second]): &mut Frames) -> Result<Tensor> {
        let features = self.config.features;
        match *x.shape() {
            [_, frames, width] if width == features && frames > 0 && frames.is_multiple_of(FRAMES) => {}
            ref shape => {
                let message =
                    format!("frames of shape {shape:?}, expected [batch, a multiple of {FRAMES}, {features}]");
                return Err(Error::argument("subsampling", message));
            }
        }
        let x = self.first.forward(&after(&x.unsqueeze(1)?, first)?)?;
        let x = self.second.forward(&after(&self.config.activation.apply(&x)?, second)?)?;
        let x = self.config.activation.apply(&self.mix.forward(&x)?)?.transpose(1, 2)?;
        let sizes = [x.size(0)?, x.size(1)?].map(|n| n as isize);
        self.project.forward(&x.reshape(&[sizes[0], sizes[1], -1])?)
    }
}

/// `x [batch, channels, frames, features]` behind the last frame before it, zeros at the start; keeps its own last frame.
fn after(x: &Tensor, before: &mut Option<Tensor>) -> Result<Tensor> {
    let last = x.narrow(2, x.size(2)? - 1, 1)?.detach();
    Ok(match before.replace(last) {
        Some(before) => Tensor::concat(&[&before, x], 2)?,
        None => x.pad(&[(0, 0), (0, 0), (1, 0), (0, 0)], PadMode::Constant(0.0))?,
    })
}

impl Module for Subsampling {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("first", &self.first);
        v.module("second", &self.second);
        v.module("mix", &self.mix);
        v.module("project", &self.project);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::{DType, Device};

    use super::*;

    #[test]
    fn pieces_are_the_whole_and_shapes_are_checked() {
        let build = Build::new(&Device::cpu()).with_dtype(DType::F64);
        let config = SubsamplingConfig { features: 10, channels: 3, hidden: 5, activation: Activation::Silu };
        let layers = Subsampling::new(config, &build).unwrap();
        let x = Tensor::normal(0.0, 1.0, &[2, 20, 10], DType::F64, &Device::cpu()).unwrap();
        let whole = layers.forward(&x, &mut Frames::default()).unwrap();
        assert_eq!(whole.shape(), [2, 5, 5]);
        let mut frames = Frames::default();
        let piece =
            |from, frames: &mut Frames, length| layers.forward(&x.narrow(1, from, length).unwrap(), frames).unwrap();
        let pieces = [piece(0, &mut frames, 4), piece(4, &mut frames, 12), piece(16, &mut frames, 4)];
        let joined = Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 1).unwrap();
        let apart = joined.sub(&whole).unwrap().abs().unwrap().max(&[], false).unwrap().item().unwrap();
        assert!(apart < 1e-12, "{apart}");
        // Without what came before, the second piece is another.
        let alone = piece(4, &mut Frames::default(), 12);
        assert!(alone.sub(&pieces[1]).unwrap().abs().unwrap().max(&[], false).unwrap().item().unwrap() > 1e-3);
        for wrong in [[2, 6, 10], [2, 0, 10], [2, 4, 9]] {
            let x = Tensor::zeros(&wrong, DType::F64, &Device::cpu()).unwrap();
            let error = layers.forward(&x, &mut Frames::default()).err().unwrap().to_string();
            assert!(error.contains("subsampling") && error.contains("multiple of 4"), "{error}");
        }
        assert!(Subsampling::new(SubsamplingConfig { channels: 0, ..config }, &build).is_err());
    }
}
