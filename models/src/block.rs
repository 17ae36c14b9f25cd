//! One transformer block: attention and feed-forward, each with its norm and its residual.

use wgrad::nn::{Build, Dropout, LayerNorm, Linear, Module, MultiHeadAttention, Visitor};
use wgrad::{AttentionOptions, Epilogue, Tensor};

use crate::Result;
use crate::activation::Activation;

/// Where the parts of a block stand in a checkpoint, below the block's own name.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    /// Query projection.
    pub query: &'static str,
    /// Key projection.
    pub key: &'static str,
    /// Value projection.
    pub value: &'static str,
    /// Output projection of the attention layer.
    pub output: &'static str,
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
    /// Names of the parts.
    pub names: BlockNames,
}

/// A block whose norms follow the residual sums (post-norm): `x = norm(x + attention(x))`,
/// `x = norm(x + feed_forward(x))`, as in Attention Is All You Need (2017) and BERT (2018).
pub struct Block {
    names: BlockNames,
    attention: MultiHeadAttention,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    feed_forward_norm: LayerNorm,
    activation: Activation,
    dropout: Dropout,
}

impl Block {
    /// A new block.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &BlockConfig, build: &Build) -> Result<Self> {
        let &BlockConfig { hidden, heads, intermediate, activation, norm_eps, names, .. } = config;
        Ok(Block {
            names,
            attention: MultiHeadAttention::new(hidden, heads, true, config.attention_dropout, build)?,
            attention_norm: LayerNorm::new(hidden, true, norm_eps, build)?,
            up: Linear::new(hidden, intermediate, true, build)?,
            down: Linear::new(intermediate, hidden, true, build)?,
            feed_forward_norm: LayerNorm::new(hidden, true, norm_eps, build)?,
            activation,
            dropout: Dropout::new(config.dropout)?,
        })
    }

    /// `x` is `[batch, length, hidden]`; `mask`, true where a key may be seen, broadcasts to `[batch, heads, length, length]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let options = AttentionOptions { mask: mask.cloned().into(), ..AttentionOptions::default() };
        let attended = self.dropout.forward(&self.attention.forward(x, x, &options)?)?;
        let x = self.attention_norm.forward(&x.add(&attended)?)?;
        let inner = self.up.forward_then(&x, &Epilogue::of(self.activation))?;
        let fed = self.dropout.forward(&self.down.forward(&inner)?)?;
        Ok(self.feed_forward_norm.forward(&x.add(&fed)?)?)
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor<'_>) {
        let names = &self.names;
        v.module(names.query, &self.attention.query);
        v.module(names.key, &self.attention.key);
        v.module(names.value, &self.attention.value);
        v.module(names.output, &self.attention.output);
        v.module(names.attention_norm, &self.attention_norm);
        v.module(names.up, &self.up);
        v.module(names.down, &self.down);
        v.module(names.feed_forward_norm, &self.feed_forward_norm);
        v.module("", &self.attention.dropout);
        v.module("", &self.dropout);
    }
}
