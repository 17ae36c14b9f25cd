//! One transformer block: attention and feed-forward, each with its norm and its residual.

use wgrad::nn::{Init, LayerNorm, Linear, Module, Visitor};
use wgrad::{Device, Tensor};

use crate::Result;
use crate::activation::Activation;
use crate::attention::{AttentionNames, SelfAttention};

/// Where the parts of a block stand in a checkpoint, below the block's own name.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    /// Parts of the attention layer.
    pub attention: AttentionNames,
    /// Norm that belongs to the attention layer.
    pub attention_norm: &'static str,
    /// First linear layer of the feed-forward part.
    pub up: &'static str,
    /// Second linear layer of the feed-forward part.
    pub down: &'static str,
    /// Norm that belongs to the feed-forward part.
    pub feed_forward_norm: &'static str,
}

/// What a block is made of.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate: usize,
    /// Activation inside the feed-forward part.
    pub activation: Activation,
    /// Added to the variance in the norms.
    pub norm_eps: f64,
    /// Dropout of the outputs of both parts while training.
    pub dropout: f64,
    /// Dropout of the attention probabilities while training.
    pub attention_dropout: f64,
    /// How weights are drawn.
    pub init: Init,
    /// Names of the parts.
    pub names: BlockNames,
}

/// A block whose norms follow the residual sums (post-norm): `x = norm(x + attention(x))`,
/// `x = norm(x + feed_forward(x))`, as in Attention Is All You Need (2017) and BERT (2018).
pub struct Block {
    names: BlockNames,
    attention: SelfAttention,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    feed_forward_norm: LayerNorm,
    activation: Activation,
    dropout: f64,
}

impl Block {
    /// A new block on `device`.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &BlockConfig, device: &Device) -> Result<Self> {
        let &BlockConfig { hidden, heads, intermediate, norm_eps, init, names, .. } = config;
        Ok(Block {
            names,
            attention: SelfAttention::new(names.attention, hidden, heads, config.attention_dropout, init, device)?,
            attention_norm: LayerNorm::new(hidden, norm_eps, device)?,
            up: Linear::new(hidden, intermediate, true, init, device)?,
            down: Linear::new(intermediate, hidden, true, init, device)?,
            feed_forward_norm: LayerNorm::new(hidden, norm_eps, device)?,
            activation: config.activation,
            dropout: config.dropout,
        })
    }

    /// `x` is `[batch, length, hidden]`; see [`SelfAttention::forward`] for `mask`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, training: bool) -> Result<Tensor> {
        let attended = self.drop(self.attention.forward(x, mask, training)?, training)?;
        let x = self.attention_norm.forward(&x.add(&attended)?)?;
        let inner = self.activation.apply(&self.up.forward(&x)?)?;
        let fed = self.drop(self.down.forward(&inner)?, training)?;
        Ok(self.feed_forward_norm.forward(&x.add(&fed)?)?)
    }

    fn drop(&self, x: Tensor, training: bool) -> Result<Tensor> {
        if training && self.dropout > 0.0 { Ok(x.dropout(self.dropout)?) } else { Ok(x) }
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor) {
        v.scope("", &self.attention);
        v.module(self.names.attention_norm, &self.attention_norm);
        v.module(self.names.up, &self.up);
        v.module(self.names.down, &self.down);
        v.module(self.names.feed_forward_norm, &self.feed_forward_norm);
    }
}
