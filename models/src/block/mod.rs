//! One transformer block: attention and feed-forward, each with its norms and its residual.

mod replay;
mod residual;

use wgrad::Tensor;
use wgrad::nn::{Build, Module, Visitor};

use crate::attention::{Attention, AttentionConfig, KeyValues, Pass};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::NormConfig;
use crate::{Error, Result};

pub use replay::Replay;
pub use residual::{Factor, Place, Residual};

/// How the parts of a block follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wiring {
    /// The feed-forward part sees what the attention part left.
    #[default]
    Sequential,
    /// Both see the block's input, each through its own norm, and both are added to it.
    Parallel,
    /// The same with one norm, that of the attention part.
    Shared,
}

/// What a block is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Which norms.
    pub norm: NormConfig,
    /// The attention part.
    pub attention: AttentionConfig,
    /// Its norms.
    pub attention_place: Place,
    /// The part that attends to an encoder, and its norms.
    pub cross: Option<(AttentionConfig, Place)>,
    /// The feed-forward part.
    pub feed_forward: FeedForwardConfig,
    /// Its norms.
    pub feed_forward_place: Place,
    /// How the parts follow each other.
    pub wiring: Wiring,
    /// Dropout of the outputs of the parts while training.
    pub dropout: f64,
}

/// Keys and values of a block's attention to its own stream and to an encoder.
#[derive(Default)]
pub struct BlockCache {
    /// Of the stream.
    pub own: KeyValues,
    /// Of the encoder.
    pub cross: KeyValues,
}

/// An encoder's states, and which of them may be seen.
#[derive(Clone)]
pub struct Encoded {
    /// `[batch, keys, hidden]`.
    pub states: Tensor,
    /// The masks of attention to them.
    pub pass: Pass,
}

/// A block.
pub struct Block {
    wiring: Wiring,
    attention: Attention,
    attention_residual: Residual,
    cross: Option<(Attention, Residual)>,
    feed_forward: FeedForward,
    feed_forward_residual: Residual,
    replay: Replay,
}

impl Block {
    /// A new block.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &BlockConfig, build: &Build) -> Result<Self> {
        let &BlockConfig { hidden, norm, attention, feed_forward, wiring, dropout, .. } = config;
        let residual = |place| Residual::new(place, norm, hidden, dropout, build);
        let cross = |(attention, place)| Ok::<_, Error>((Attention::new(attention, hidden, build)?, residual(place)?));
        Ok(Block {
            wiring,
            attention: Attention::new(attention, hidden, build)?,
            attention_residual: residual(config.attention_place)?,
            cross: config.cross.map(cross).transpose()?,
            feed_forward: FeedForward::new(feed_forward, hidden, build)?,
            feed_forward_residual: residual(config.feed_forward_place)?,
            replay: Replay::default(),
        })
    }

    /// The attention part.
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// What tells it whether to compute.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// `x [batch, length, hidden]` to the same shape. `context` is what queries attend to, if not `x` itself; `encoded`, what a
    /// decoder's block attends to as well.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        pass: &Pass,
        encoded: Option<&Encoded>,
        cache: Option<&mut BlockCache>,
    ) -> Result<Tensor> {
        self.replay.around(x, || self.compute(x, context, pass, encoded, cache))
    }

    fn compute(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        pass: &Pass,
        encoded: Option<&Encoded>,
        cache: Option<&mut BlockCache>,
    ) -> Result<Tensor> {
        let real = pass.real_of(x)?;
        let real = real.as_ref();
        let (own, other) = cache.map_or((None, None), |cache| (Some(&mut cache.own), Some(&mut cache.cross)));
        if self.wiring != Wiring::Sequential {
            return self.parallel(x, real, pass, own);
        }
        let attend = |x: &Tensor, residual: Option<&Tensor>| self.attention.forward(x, context, pass, own, residual);
        let mut x = self.attention_residual.around(x, real, attend)?;
        if let (Some((attention, residual)), Some(Encoded { states, pass })) = (&self.cross, encoded) {
            x = residual.around(&x, real, |x, residual| attention.cross(x, states, pass, other, residual))?;
        }
        self.feed_forward_residual.around(&x, real, |x, residual| self.feed_forward.forward(x, residual))
    }

    fn parallel(
        &self,
        x: &Tensor,
        real: Option<&Tensor>,
        pass: &Pass,
        cache: Option<&mut KeyValues>,
    ) -> Result<Tensor> {
        let seen = self.attention_residual.input(x, real)?;
        let plain = self.attention_residual.is_plain();
        let attended = self.attention.forward(&seen, None, pass, cache, plain.then_some(x))?;
        let sum = if plain { attended } else { self.attention_residual.join(x, &attended, real)? };
        let fed = match self.wiring {
            Wiring::Shared => seen,
            _ => self.feed_forward_residual.input(x, real)?,
        };
        if self.feed_forward_residual.is_plain() {
            return self.feed_forward.forward(&fed, Some(&sum));
        }
        self.feed_forward_residual.join(&sum, &self.feed_forward.forward(&fed, None)?, real)
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.attention);
        v.module("", &self.attention_residual);
        if let Some((attention, residual)) = &self.cross {
            v.module("", attention);
            v.module("", residual);
        }
        v.module("", &self.feed_forward);
        v.module("", &self.feed_forward_residual);
        v.part("", &self.replay);
    }
}

#[cfg(test)]
mod tests;
