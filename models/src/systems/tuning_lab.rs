//! A small model of one language, which is to learn another: the bench on which ways to tune few parameters are checked. Rows of the new
//! language are of three Markov chains that take turns, of which the model knows one.

use wgrad::Device;
use wgrad::nn::{Module, Param, Visitor};

use super::depth_lab::{Rows, shape};
use super::lab::{train_then, usual};
use crate::Result;
use crate::lm::{Lm, LmConfig};
use crate::placement::Placement;
use crate::weights::Views;

/// Blocks of the model.
pub const LAYERS: usize = 2;
/// Rows and tokens of a batch.
pub const BATCH: [usize; 2] = [16, 64];
/// Steps in which the model learns its language, and in which it is tuned to the other.
const STEPS: [u64; 2] = [400, 300];
/// Highest learning rate of all parameters together.
pub const LR: f64 = 3e-3;

/// The model and both languages.
pub struct Tuning {
    known: Lm,
    /// The language that the model was trained on.
    pub old: Rows,
    /// The language that it is tuned to.
    pub new: Rows,
    /// Its loss on the new language.
    pub before: f64,
}

impl Tuning {
    /// A model that was trained on its language.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(device: &Device, seed: u64) -> Result<Self> {
        Self::of(shape(LAYERS, BATCH[1]).decoder(Placement::Pre), device, seed)
    }

    /// The same for a model of any configuration.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(config: LmConfig, device: &Device, seed: u64) -> Result<Self> {
        device.set_seed(seed);
        // The chains of a bench are numbered on from its seed: the last of the old language is the first of the new one.
        let (old, new) = (Rows::new(BATCH, 3 * seed, device)?, Rows::new(BATCH, 3 * seed + 2, device)?);
        let known = Lm::new(&config, device)?;
        old.train(&known, &usual(STEPS[0], LR))?;
        let before = new.measure(&known)?;
        Ok(Tuning { known, old, new, before })
    }

    /// A copy of the model.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn model(&self) -> Result<Lm> {
        copy_of(&self.known, self.device())
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.old.device()
    }

    /// What the model is made of.
    pub fn config(&self) -> &LmConfig {
        self.known.config()
    }

    /// Tunes parameters of a model to the new language; `show` is called before each step. Returns the loss.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tune(&self, lm: &Lm, params: &dyn Module, lr: f64, show: impl Fn() -> Result<()>) -> Result<f64> {
        let loss = |step| {
            show()?;
            let (ids, labels) = self.new.batch(3, step)?;
            lm.loss(&ids, &labels)
        };
        train_then(params, &usual(STEPS[1], lr), loss, || Ok(()))?;
        show()?;
        self.new.measure(lm)
    }

    /// Tunes views over the matrices of a model of which all else is frozen.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tune_views(&self, lm: &Lm, views: &Views, lr: f64) -> Result<f64> {
        freeze(lm);
        self.tune(lm, views, lr, || views.show())
    }

    /// The loss after all parameters were tuned.
    ///
    /// # Errors
    /// If the device fails.
    pub fn all(&self) -> Result<f64> {
        let lm = self.model()?;
        self.tune(&lm, &lm, LR, || Ok(()))
    }

    /// The share of the gain of tuning `all` parameters that is reached with a loss.
    pub fn share(&self, loss: f64, all: f64) -> f64 {
        (self.before - loss) / (self.before - all)
    }
}

/// A model with the same values, in memory of its own.
///
/// # Errors
/// If memory is exhausted.
pub fn copy_of(lm: &Lm, device: &Device) -> Result<Lm> {
    let copy = Lm::new(lm.config(), device)?;
    copy_values(lm, &copy)?;
    Ok(copy)
}

/// Gives the parameters of one module the values of those of another, in their order.
///
/// # Errors
/// If shapes differ, or memory is exhausted.
pub fn copy_values(from: &dyn Module, to: &dyn Module) -> Result<()> {
    for ((_, from), (_, to)) in from.named_parameters().into_iter().zip(to.named_parameters()) {
        to.set(&from.leaf().detach().copy()?)?;
    }
    Ok(())
}

/// Freezes all parameters.
pub fn freeze(module: &dyn Module) {
    module.named_parameters().iter().for_each(|(_, param)| param.set_trainable(false));
}

/// Some parameters as a module.
pub struct Chosen(pub Vec<(String, Param)>);

impl Module for Chosen {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.0.iter().for_each(|(name, param)| v.param(name, param));
    }
}
