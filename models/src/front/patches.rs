//! From images to vectors: patches, a token for the whole, positions.

use wgrad::Tensor;
use wgrad::nn::{Build, Module, Param, Visitor};

use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// Sizes of images and of their patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchesConfig {
    /// Height and width of an image.
    pub image: usize,
    /// Height and width of a patch.
    pub size: usize,
    /// Colours.
    pub channels: usize,
    /// Width of the vectors.
    pub width: usize,
}

impl PatchesConfig {
    /// Patches along each side.
    ///
    /// # Errors
    /// If images do not divide into patches.
    pub fn side(&self) -> Result<usize> {
        match *self {
            PatchesConfig { image, size, .. } if size > 0 && image >= size && image.is_multiple_of(size) => {
                Ok(image / size)
            }
            PatchesConfig { image, size, .. } => {
                Err(Error::config(format!("images of {image} pixels do not divide into patches of {size}")))
            }
        }
    }
}

/// Patches of images `[batch, channels, image, image]` as rows: `[batch, patches, channels * size * size]`.
///
/// # Errors
/// If the images are of another size.
pub fn patches(images: &Tensor, config: &PatchesConfig) -> Result<Tensor> {
    let &PatchesConfig { image, size, channels, .. } = config;
    let side = config.side()?;
    let batch = match *images.shape() {
        [batch, c, h, w] if (c, h, w) == (channels, image, image) => batch,
        _ => {
            let message = format!("shape {:?}, expected [batch, {channels}, {image}, {image}]", images.shape());
            return Err(Error::argument("images", message));
        }
    };
    let sizes = [batch, channels, side, size, side, size].map(|n| n as isize);
    let rows = [batch, side * side, channels * size * size].map(|n| n as isize);
    Ok(images.reshape(&sizes)?.permute(&[0, 2, 4, 1, 3, 5])?.reshape(&rows)?)
}

/// Images `[batch, channels, image, image]` of patches `[batch, patches, size * size * channels]` in which the colours of a pixel stand
/// together.
///
/// # Errors
/// If the patches are of another shape.
pub fn joined(patches: &Tensor, config: &PatchesConfig) -> Result<Tensor> {
    let &PatchesConfig { image, size, channels, .. } = config;
    let side = config.side()?;
    let batch = match *patches.shape() {
        [batch, count, width] if count == side * side && width == size * size * channels => batch,
        _ => {
            let shape = [side * side, size * size * channels];
            let message = format!("shape {:?}, expected [batch, {}, {}]", patches.shape(), shape[0], shape[1]);
            return Err(Error::argument("patches", message));
        }
    };
    let sizes = [batch, side, side, size, size, channels].map(|n| n as isize);
    let images = [batch, channels, image, image].map(|n| n as isize);
    Ok(patches.reshape(&sizes)?.permute(&[0, 5, 1, 3, 2, 4])?.reshape(&images)?)
}

/// Names of the parts in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchesNames {
    /// The layer on patches.
    pub project: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
    /// The vector of the whole image.
    pub class: &'static str,
    /// The table of positions, that of the whole first.
    pub positions: &'static str,
    /// Whether these are a tensor and a matrix in bare dimensions, `[width]` and `[positions, width]`, rather than in front of them a batch
    /// of one.
    pub flat: bool,
}

/// The layer on patches, the vector of the whole, and positions.
pub struct Patches {
    config: PatchesConfig,
    names: PatchesNames,
    project: Linear,
    class: Param,
    positions: Param,
}

impl Patches {
    /// New parameters.
    ///
    /// # Errors
    /// If images do not divide into patches, or memory is exhausted.
    pub fn new(config: PatchesConfig, names: PatchesNames, build: &Build) -> Result<Self> {
        let PatchesConfig { size, channels, width, .. } = config;
        let count = config.side()?.pow(2) + 1;
        let bound = |n: usize| if n < 1 << 24 { Ok(n) } else { Err(Error::config(format!("patches of {n} numbers"))) };
        let inputs = bound(bound(size)?.saturating_mul(size).saturating_mul(channels))?;
        let (class, positions): (&[usize], &[usize]) =
            if names.flat { (&[width], &[count, width]) } else { (&[1, 1, width], &[1, count, width]) };
        Ok(Patches {
            config,
            names,
            project: Linear::new(inputs, width, names.bias, Form::Patches(size), build)?,
            class: build.weight(class)?,
            positions: build.weight(positions)?,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &PatchesConfig {
        &self.config
    }

    /// The table of positions, `[1, 1 + patches, width]`.
    pub fn positions(&self) -> &Param {
        &self.positions
    }

    /// Vectors `[batch, patches, width]` of patches with their positions, without that of the whole.
    ///
    /// # Errors
    /// If the images are of another size.
    pub fn of_patches(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.project.forward(&patches(images, &self.config)?)?;
        let table = self.table()?;
        Ok(x.add(&table.narrow(1, 1, table.size(1)? - 1)?)?)
    }

    /// The vector of the whole image before those of its patches.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn with_class(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.config.width;
        let class = self.class.tensor().reshape(&[1, 1, width as isize])?.add(&self.table()?.narrow(1, 0, 1)?)?;
        Ok(Tensor::concat(&[&class.expand(&[x.size(0)?, 1, width])?, x], 1)?)
    }

    fn table(&self) -> Result<Tensor> {
        Ok(self.positions.tensor().reshape(&[1, -1, self.config.width as isize])?)
    }
}

impl Module for Patches {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(self.names.project, &self.project);
        v.param(self.names.class, &self.class);
        v.param(self.names.positions, &self.positions);
    }
}
