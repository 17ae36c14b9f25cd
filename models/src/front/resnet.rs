//! From images to feature maps: residual networks (He et al., 2016, arXiv 1512.03385) with the stem of three convolutions and the pooled
//! shortcuts of ResNet-D (He et al., 2019, arXiv 1812.01187).

use wgrad::nn::{BatchNorm, Build, Conv2d, Module, Visitor};
use wgrad::{Conv, Pool, Tensor};

use crate::activation::Activation;
use crate::{Error, Result};

/// A convolution without a bias, a batch norm, and an activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvNormConfig {
    /// Names of convolution and norm in a checkpoint.
    pub names: [&'static str; 2],
    /// Channels that come in.
    pub channels: usize,
    /// Channels that come out.
    pub outputs: usize,
    /// Height and width of a window, which is around its pixel.
    pub kernel: usize,
    /// Pixels from a window to the next.
    pub stride: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether the norm is fixed, with statistics and parameters that do not change in training.
    pub frozen: bool,
    /// What follows the norm.
    pub activation: Option<Activation>,
}

/// The layers.
pub struct ConvNorm {
    config: ConvNormConfig,
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// New layers.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: ConvNormConfig, build: &Build) -> Result<Self> {
        let ConvNormConfig { channels, outputs, kernel, stride, eps, frozen, .. } = config;
        let options = Conv { stride: [stride; 2], padding: [kernel.saturating_sub(1) / 2; 2], ..Conv::default() };
        let norm = BatchNorm::new(outputs, 0.1, eps, build)?;
        if frozen {
            norm.weight.set_trainable(false);
            norm.bias.set_trainable(false);
        }
        Ok(ConvNorm { config, conv: Conv2d::new(channels, outputs, [kernel; 2], false, options, build)?, norm })
    }

    /// Of `x [batch, channels, height, width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv.forward(x)?;
        let norm = &self.norm;
        let y = match self.config.frozen {
            true => {
                let [weight, bias, mean, var] =
                    [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var].map(|p| p.tensor());
                x.batch_norm_by(&mean, &var, Some(&weight), Some(&bias), norm.eps)?
            }
            false => norm.forward(&x)?,
        };
        match self.config.activation {
            Some(activation) => Ok(activation.apply(&y)?),
            None => Ok(y),
        }
    }
}

impl Module for ConvNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        let [conv, norm] = self.config.names;
        v.module(conv, &self.conv);
        if self.config.frozen {
            // It stays as it is, whatever the mode.
            v.param(&format!("{norm}.weight"), &self.norm.weight);
            v.param(&format!("{norm}.bias"), &self.norm.bias);
            v.param(&format!("{norm}.running_mean"), &self.norm.running_mean);
            v.param(&format!("{norm}.running_var"), &self.norm.running_var);
        } else {
            v.module(norm, &self.norm);
        }
    }
}

/// What a network is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ResNetConfig {
    /// Channels of images.
    pub channels: usize,
    /// Channels of the stem.
    pub stem: usize,
    /// Channels and layers of each stage.
    pub stages: Vec<[usize; 2]>,
    /// Whether layers are narrow inside (three convolutions, a quarter of the channels), rather than two convolutions of three by three.
    pub bottleneck: bool,
    /// Whether the first stage halves the size too.
    pub halves_first: bool,
    /// Whether it is a bottleneck's first convolution that halves the size.
    pub halves_early: bool,
    /// Stages whose maps are wanted, counted from 0.
    pub wanted: Vec<usize>,
    /// Whether norms are fixed.
    pub frozen: bool,
    /// Activations.
    pub activation: Activation,
}

const NAMES: [&str; 2] = ["convolution", "normalization"];

struct Layer {
    /// Whether the shortcut is pooled, and its convolution.
    shortcut: Option<(bool, ConvNorm)>,
    parts: Vec<ConvNorm>,
    activation: Activation,
}

impl Layer {
    fn new(
        c: &ResNetConfig,
        channels: usize,
        outputs: usize,
        stride: usize,
        first: bool,
        build: &Build,
    ) -> Result<Self> {
        let part = |channels, outputs, kernel, stride, activation| {
            let config = ConvNormConfig {
                names: NAMES,
                channels,
                outputs,
                kernel,
                stride,
                eps: 1e-5,
                frozen: c.frozen,
                activation,
            };
            ConvNorm::new(config, build)
        };
        let act = Some(c.activation);
        let (pooled, bridged, parts) = if c.bottleneck {
            let inside = outputs / 4;
            let (early, late) = if c.halves_early { (stride, 1) } else { (1, stride) };
            let parts = [
                part(channels, inside, 1, early, act)?,
                part(inside, inside, 3, late, act)?,
                part(inside, outputs, 1, 1, None)?,
            ];
            (stride == 2, channels != outputs || stride != 1, Vec::from(parts))
        } else {
            let parts = [part(channels, outputs, 3, stride, act)?, part(outputs, outputs, 3, 1, None)?];
            (channels != outputs, first, Vec::from(parts))
        };
        let shortcut = || part(channels, outputs, 1, if pooled { 1 } else { stride }, None);
        let shortcut = if bridged { Some((pooled, shortcut()?)) } else { None };
        Ok(Layer { shortcut, parts, activation: c.activation })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let residual = match &self.shortcut {
            None => x.clone(),
            Some((false, shortcut)) => shortcut.forward(x)?,
            Some((true, shortcut)) => {
                shortcut.forward(&x.avg_pool2d(&Pool { ceil_mode: true, ..Pool::new([2, 2]) })?)?
            }
        };
        let y = self.parts.iter().try_fold(x.clone(), |x, part| part.forward(&x))?;
        Ok(self.activation.apply(&y.add(&residual)?)?)
    }
}

impl Module for Layer {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let Some((pooled, shortcut)) = &self.shortcut {
            v.module(if *pooled { "shortcut.1" } else { "shortcut" }, shortcut);
        }
        v.modules("layer", &self.parts);
    }
}

/// A network.
pub struct ResNet {
    config: ResNetConfig,
    stem: Vec<ConvNorm>,
    stages: Vec<Vec<Layer>>,
}

impl ResNet {
    /// A new network.
    ///
    /// # Errors
    /// If there is no stage of those wanted, or memory is exhausted.
    pub fn new(config: ResNetConfig, build: &Build) -> Result<Self> {
        if let Some(missing) = config.wanted.iter().find(|&&stage| stage >= config.stages.len()) {
            return Err(Error::config(format!("stage {missing} of {} is wanted", config.stages.len())));
        }
        let half = config.stem / 2;
        let stem = [(config.channels, half, 2), (half, half, 1), (half, config.stem, 1)];
        let stem = stem.into_iter().map(|(channels, outputs, stride)| {
            let (frozen, activation) = (config.frozen, Some(config.activation));
            let conv =
                ConvNormConfig { names: NAMES, channels, outputs, kernel: 3, stride, eps: 1e-5, frozen, activation };
            ConvNorm::new(conv, build)
        });
        let stem = stem.collect::<Result<_>>()?;
        let mut channels = config.stem;
        let mut stages = Vec::new();
        for (number, &[outputs, depth]) in config.stages.iter().enumerate() {
            let stride = if number > 0 || config.halves_first { 2 } else { 1 };
            let layer = |i: usize| match i {
                0 => Layer::new(&config, channels, outputs, stride, true, build),
                _ => Layer::new(&config, outputs, outputs, 1, false, build),
            };
            stages.push((0..depth).map(layer).collect::<Result<Vec<_>>>()?);
            channels = outputs;
        }
        Ok(ResNet { config, stem, stages })
    }

    /// The wanted maps of images `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let x = self.stem.iter().try_fold(images.clone(), |x, part| part.forward(&x))?;
        let mut x = x.max_pool2d(&Pool { stride: [2, 2], padding: [1, 1], ..Pool::new([3, 3]) })?;
        let mut maps = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            x = stage.iter().try_fold(x, |x, layer| layer.forward(&x))?;
            if self.config.wanted.contains(&number) {
                maps.push(x.clone());
            }
        }
        Ok(maps)
    }
}

impl Module for ResNet {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("embedder.embedder", &self.stem);
        for (number, stage) in self.stages.iter().enumerate() {
            v.modules(&format!("encoder.stages.{number}.layers"), stage);
        }
    }
}
