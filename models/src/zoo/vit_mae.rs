//! Masked autoencoder (He et al., 2021, arXiv 2111.06377): a Vision Transformer that sees a quarter of an image's patches, and a small one that
//! rebuilds the others.

use std::path::Path;

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{DType, Tensor};

use super::config::Config;
use super::files;
use super::vit::{Trunk, stack};
use crate::attention::Pass;
use crate::front::patches::{PatchesConfig, joined, patches};
use crate::norm::{Norm, NormConfig};
use crate::stack::Stack;
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// From the states of visible patches to the pixels of all.
struct Decoder {
    embed: Linear,
    /// What stands where a patch was hidden, `[1, 1, width]`.
    hidden: Param,
    /// `[1, 1 + patches, width]`, not trained.
    positions: Param,
    stack: Stack,
    norm: Norm,
    predict: Linear,
}

impl Module for Decoder {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("decoder_embed", &self.embed);
        v.param("mask_token", &self.hidden);
        v.param("decoder_pos_embed", &self.positions);
        v.module("", &self.stack);
        v.module("decoder_norm", &self.norm);
        v.module("decoder_pred", &self.predict);
    }
}

/// A masked autoencoder of images.
pub struct VitMae {
    config: Config,
    ratio: f64,
    normalised: bool,
    trunk: Trunk,
    decoder: Decoder,
}

/// What a masked autoencoder makes of images.
pub struct Rebuilt {
    /// Pixels of all patches, `[batch, patches, size * size * channels]`, the colours of a pixel together.
    pub pixels: Tensor,
    /// One where a patch was hidden, `[batch, patches]`.
    pub hidden: Tensor,
    /// Where each patch is among the shuffled ones, the visible first, `[batch, patches]`.
    pub restore: Tensor,
}

impl VitMae {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let std = c.number_or("initializer_range", 0.02)?;
        let build = &build.clone().with_init(Init::TruncatedNormal { mean: 0.0, std });
        let trunk = Trunk::new(c, build)?;
        let &PatchesConfig { size, channels, width, .. } = trunk.patches.config();
        let inside = c.size("decoder_hidden_size")?;
        let count = trunk.patches.positions().shape()[1];
        let ratio = c.number_or("mask_ratio", 0.75)?;
        if !(0.0..1.0).contains(&ratio) {
            return Err(c.error(format!("mask_ratio is {ratio}, expected a share below 1")));
        }
        let linear = |inputs, outputs| Linear::new(inputs, outputs, true, Form::Rows, build);
        let decoder = Decoder {
            embed: linear(width, inside)?,
            hidden: build.weight(&[1, 1, inside])?,
            positions: build.weight(&[1, count, inside])?,
            stack: Stack::new(&stack(c, "decoder_", "decoder_layers")?, inside, build)?,
            norm: Norm::new(NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?), inside, build)?,
            predict: linear(inside, size * size * channels)?,
        };
        // Both tables are sinusoids that stay as they are.
        decoder.positions.set_trainable(false);
        trunk.patches.positions().set_trainable(false);
        Ok(VitMae { config: c.clone(), ratio, normalised: c.flag_or("norm_pix_loss", false)?, trunk, decoder })
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let layers = c.layers("num_hidden_layers")? + c.layers("decoder_num_hidden_layers")?;
        let weights = files::open(folder, layers)?;
        let model = Self::new(c, &build.clone().blank()?)?;
        files::fill(&model, &weights, &[])?;
        Ok(model)
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Rebuilds images `[batch, channels, size, size]` of which the patches with the largest `noise [batch, patches]` are hidden. What
    /// goes into the encoder's blocks and comes out of each is put into `states` if it is wanted.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn rebuild(&self, images: &Tensor, noise: &Tensor, states: Option<&mut Vec<Tensor>>) -> Result<Rebuilt> {
        let Trunk { patches, stack, norm } = &self.trunk;
        let x = patches.of_patches(images)?;
        let (batch, count) = (x.size(0)?, x.size(1)?);
        if noise.shape() != [batch, count] {
            let message = format!("shape {:?}, expected [{batch}, {count}]", noise.shape());
            return Err(Error::argument("noise", message));
        }
        let visible = (count as f64 * (1.0 - self.ratio)) as usize;
        let order = noise.argsort(-1, false)?;
        let restore = order.argsort(-1, false)?;
        let rows = |x: &Tensor, index: &Tensor| {
            let shape = [batch, index.size(1)?, x.size(2)?];
            x.gather(1, &index.unsqueeze(-1)?.expand(&shape)?)
        };
        let seen = rows(&x, &order.narrow(1, 0, visible)?)?;
        let x = stack.forward(patches.with_class(&seen)?, &Pass::default(), None, None, states)?;
        let x = self.decoder.embed.forward(&norm.forward(&x)?)?;
        let filler = self.decoder.hidden.tensor().expand(&[batch, count - visible, x.size(2)?])?;
        let all = rows(&Tensor::concat(&[&x.narrow(1, 1, visible)?, &filler], 1)?, &restore)?;
        let x = Tensor::concat(&[&x.narrow(1, 0, 1)?, &all], 1)?.add(&self.decoder.positions.tensor())?;
        let x = self.decoder.stack.forward(x, &Pass::default(), None, None, None)?;
        let pixels = self.decoder.predict.forward(&self.decoder.norm.forward(&x)?)?.narrow(1, 1, count)?;
        let first = Tensor::scalar(visible as f64, restore.dtype(), restore.device())?;
        let hidden = restore.ge(&first)?.cast(DType::F32)?.cast(pixels.dtype())?;
        Ok(Rebuilt { pixels, hidden, restore })
    }

    /// Sizes of images and patches.
    pub fn sizes(&self) -> &PatchesConfig {
        self.trunk.patches.config()
    }

    /// Mean squared error of the pixels of hidden patches.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss(&self, images: &Tensor, rebuilt: &Rebuilt) -> Result<Tensor> {
        let Pixels { mut values, mean, deviation } = self.pixels(images)?;
        if self.normalised {
            values = values.sub(&mean)?.div(&deviation)?;
        }
        let errors = rebuilt.pixels.sub(&values)?.square()?.mean(&[-1], false)?;
        Ok(errors.mul(&rebuilt.hidden)?.sum_all()?.div(&rebuilt.hidden.sum_all()?)?)
    }

    /// The images `[batch, channels, size, size]` with what the model rebuilt in the place of hidden patches, and for each of their pixels
    /// one if it was hidden, `[batch, 1, size, size]`. A model that rebuilds pixels of mean 0 and deviation 1 is told mean and deviation of
    /// each hidden patch.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn restored(&self, images: &Tensor, rebuilt: &Rebuilt) -> Result<[Tensor; 2]> {
        let Pixels { values, mean, deviation } = self.pixels(images)?;
        let own = match self.normalised {
            true => rebuilt.pixels.mul(&deviation)?.add(&mean)?,
            false => rebuilt.pixels.clone(),
        };
        let hidden = rebuilt.hidden.unsqueeze(-1)?;
        // Chosen, not added up: pixels that were seen stay as they are.
        let all = Tensor::where_cond(&hidden.cast(DType::Bool)?, &own, &values)?;
        let config = self.sizes();
        let of_one = PatchesConfig { channels: 1, ..*config };
        let hidden = hidden.expand(&[all.size(0)?, all.size(1)?, config.size * config.size])?;
        Ok([joined(&all, config)?, joined(&hidden, &of_one)?])
    }

    /// The pixels of images in the order in which they are rebuilt.
    fn pixels(&self, images: &Tensor) -> Result<Pixels> {
        let config = self.sizes();
        let &PatchesConfig { size, channels, .. } = config;
        let rows = patches(images, config)?;
        let (batch, count) = (rows.size(0)?, rows.size(1)?);
        let sizes = [batch, count, channels, size * size].map(|n| n as isize);
        let values = rows.reshape(&sizes)?.transpose(2, 3)?.flatten(2, 3)?;
        let mean = values.mean(&[-1], true)?;
        let deviation = values.var(&[-1], 1.0, true)?.add_scalar(1e-6)?.sqrt()?;
        Ok(Pixels { values, mean, deviation })
    }
}

/// The pixels of patches, `[batch, patches, size * size * channels]`, and their means and deviations.
struct Pixels {
    values: Tensor,
    mean: Tensor,
    deviation: Tensor,
}

impl Module for VitMae {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("vit", &self.trunk);
        v.module("decoder", &self.decoder);
    }
}
