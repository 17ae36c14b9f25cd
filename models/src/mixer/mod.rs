//! What moves information between positions: attention, or what the literature puts in its place. Every mixer fits the same block.

mod averages;
mod estimated;
mod gated_linear;
mod kronecker;
mod latent;
mod native_sparse;
mod window_global;

use wgrad::Tensor;
use wgrad::nn::{Build, Module, Visitor};

pub use averages::averages;
pub use estimated::{Direction, Estimated, EstimatedConfig};
pub use gated_linear::{GatedLinear, GatedLinearConfig, GatedLinearState, decays};
pub use kronecker::{Kronecker, KroneckerKind};
pub use latent::{Latent, LatentCache, LatentConfig};
pub use native_sparse::{NativeSparse, NativeSparseConfig};
pub use window_global::WindowGlobal;

use crate::Result;
use crate::attention::{Attention, Pass, Window};
use crate::block::{Place, Residual};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::NormConfig;

/// Moves information between positions.
pub trait Mixer: Module + Send + Sync {
    /// `x [batch, length, hidden]` to the same shape. The pass says who may see whom, and at which positions tokens stand.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// How far a query sees, where the pass is to prepare a mask for it.
    fn window(&self) -> Option<Window> {
        None
    }
}

impl Mixer for Attention {
    fn window(&self) -> Option<Window> {
        Attention::window(self)
    }

    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward(x, None, pass, None, None)
    }
}

/// A block around any mixer: `x + mix(norm(x))`, then `x + feed_forward(norm(x))`.
pub struct MixerBlock {
    mixer: Box<dyn Mixer>,
    mixer_residual: Residual,
    feed_forward: FeedForward,
    feed_forward_residual: Residual,
}

impl MixerBlock {
    /// A block on vectors of `hidden`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(
        mixer: Box<dyn Mixer>,
        feed_forward: FeedForwardConfig,
        norm: NormConfig,
        hidden: usize,
        build: &Build,
    ) -> Result<Self> {
        let residual = |name| Residual::new(Place::pre(name), norm, hidden, 0.0, build);
        Ok(MixerBlock {
            mixer,
            mixer_residual: residual("mixer_norm")?,
            feed_forward: FeedForward::new(feed_forward, hidden, build)?,
            feed_forward_residual: residual("feed_forward_norm")?,
        })
    }

    /// How far a query of its mixer sees.
    pub fn window(&self) -> Option<Window> {
        self.mixer.window()
    }

    /// `x [batch, length, hidden]` to the same shape.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let real = pass.real_of(x)?;
        let x = self.mixer_residual.around(x, real.as_ref(), |x, residual| {
            let out = self.mixer.mix(x, pass)?;
            Ok(residual.map_or(Ok(out.clone()), |residual| residual.add(&out))?)
        })?;
        self.feed_forward_residual.around(&x, real.as_ref(), |x, residual| self.feed_forward.forward(x, residual))
    }
}

impl Module for MixerBlock {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("mixer", &*self.mixer);
        v.module("", &self.mixer_residual);
        v.module("", &self.feed_forward);
        v.module("", &self.feed_forward_residual);
    }
}
