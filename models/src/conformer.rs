//! The Conformer block (Gulati et al., 2020, arXiv 2005.08100): attention and a convolution between two halves of a feed-forward part.

use wgrad::nn::{BatchNorm, Build, Conv1d, Dropout, Module, Visitor};
use wgrad::{Conv, PadMode, Tensor};

use crate::activation::Activation;
use crate::attention::{Attention, AttentionConfig, KeyValues, Pass};
use crate::block::{Factor, Place, Residual};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// What the convolution part is made of. Its layers are called `layer_norm`, `pointwise_conv1`, `depthwise_conv`, `batch_norm` or
/// `depthwise_layer_norm`, and `pointwise_conv2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvolutionConfig {
    /// Positions that a window spans.
    pub kernel: usize,
    /// Whether windows end at their position, and a layer norm follows them; else they are around it, and a batch norm follows.
    pub causal: bool,
    /// Activation after that norm.
    pub activation: Activation,
    /// Norm of what goes in.
    pub norm: NormConfig,
    /// Dropout of what comes out.
    pub dropout: f64,
}

/// The norm after a window.
enum After {
    Batch(BatchNorm),
    Layer(Norm),
}

/// The convolution part: a gated layer, a window of each channel by itself, a norm, and a layer back.
struct Convolution {
    config: ConvolutionConfig,
    norm: Norm,
    expand: Conv1d,
    window: Conv1d,
    after: After,
    project: Conv1d,
    dropout: Dropout,
}

impl Convolution {
    fn new(config: ConvolutionConfig, hidden: usize, after: NormConfig, build: &Build) -> Result<Self> {
        let ConvolutionConfig { kernel, causal, norm, dropout, .. } = config;
        let point = |outputs| Conv1d::new(hidden, outputs, [1], false, Conv::default(), build);
        let padding = if causal { 0 } else { kernel.saturating_sub(1) / 2 };
        let options = Conv { groups: hidden, padding: [padding], ..Conv::default() };
        Ok(Convolution {
            config,
            norm: Norm::new(norm, hidden, build)?,
            expand: point(2 * hidden)?,
            window: Conv1d::new(hidden, hidden, [kernel], false, options, build)?,
            after: match causal {
                true => After::Layer(Norm::new(after, hidden, build)?),
                false => After::Batch(BatchNorm::new(hidden, 0.1, 1e-5, build)?),
            },
            project: point(hidden)?,
            dropout: Dropout::new(dropout)?,
        })
    }

    /// Of `x [batch, length, hidden]`. Causal windows see zeros where `real [batch, length, 1]` is false, and before the first position what
    /// is `kept`, zeros at the start.
    fn forward(&self, x: &Tensor, real: Option<&Tensor>, kept: Option<&mut Option<Tensor>>) -> Result<Tensor> {
        if kept.is_some() && !self.config.causal {
            return Err(Error::config("a convolution around its position cannot go on from a piece to the next"));
        }
        let mut x = self.norm.forward(x)?;
        if let (true, Some(real)) = (self.config.causal, real) {
            x = x.masked_fill(&real.logical_not()?, 0.0)?;
        }
        let both = self.expand.forward(&x.transpose(1, 2)?)?;
        let mut x = both.transpose(1, 2)?.glu(-1)?.transpose(1, 2)?;
        if self.config.causal {
            let before = self.config.kernel.saturating_sub(1);
            x = match kept.as_ref().and_then(|kept| kept.as_ref()) {
                Some(kept) => Tensor::concat(&[kept, &x], 2)?,
                None => x.pad(&[(0, 0), (0, 0), (before as isize, 0)], PadMode::Constant(0.0))?,
            };
            if let Some(kept) = kept {
                *kept = Some(x.narrow(2, x.size(2)? - before, before)?.detach());
            }
        }
        let x = self.window.forward(&x)?;
        let x = match &self.after {
            After::Batch(norm) => norm.forward(&x)?,
            After::Layer(norm) => norm.forward(&x.transpose(1, 2)?)?.transpose(1, 2)?,
        };
        let x = self.project.forward(&self.config.activation.apply(&x)?)?.transpose(1, 2)?;
        Ok(self.dropout.forward(&x)?)
    }
}

impl Module for Convolution {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("layer_norm", &self.norm);
        v.module("pointwise_conv1", &self.expand);
        v.module("depthwise_conv", &self.window);
        match &self.after {
            After::Batch(norm) => v.module("batch_norm", norm),
            After::Layer(norm) => v.module("depthwise_layer_norm", norm),
        }
        v.module("pointwise_conv2", &self.project);
        v.module("", &self.dropout);
    }
}

/// What a block is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConformerConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Which norms.
    pub norm: NormConfig,
    /// The feed-forward parts before and after the others.
    pub feed_forward: [FeedForwardConfig; 2],
    /// The attention part.
    pub attention: AttentionConfig,
    /// The convolution part.
    pub convolution: ConvolutionConfig,
    /// Dropout of the outputs of the attention part.
    pub dropout: f64,
}

/// What a block keeps of the positions before: keys and values, and what windows reach back to.
#[derive(Default)]
pub struct ConformerState {
    keys: KeyValues,
    window: Option<Tensor>,
}

/// A block: `norm(x + ffn1(x) / 2 + attention + convolution + ffn2 / 2)`, each part of what the one before it left, normalised.
pub struct Conformer {
    feed_forward: [(FeedForward, Residual); 2],
    attention: (Attention, Residual),
    convolution: Convolution,
    norm: Norm,
}

impl Conformer {
    /// A new block.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &ConformerConfig, build: &Build) -> Result<Self> {
        let &ConformerConfig { hidden, norm, feed_forward: [first, second], attention, .. } = config;
        let half = |part, name| {
            let place = Place { add: Factor::Constant(0.5), ..Place::pre(name) };
            Ok::<_, crate::Error>((
                FeedForward::new(part, hidden, build)?,
                Residual::new(place, norm, hidden, 0.0, build)?,
            ))
        };
        Ok(Conformer {
            feed_forward: [half(first, "ffn1_layer_norm")?, half(second, "ffn2_layer_norm")?],
            attention: (
                Attention::new(attention, hidden, build)?,
                Residual::new(Place::pre("self_attn_layer_norm"), norm, hidden, config.dropout, build)?,
            ),
            convolution: Convolution::new(config.convolution, hidden, norm, build)?,
            norm: Norm::new(norm, hidden, build)?,
        })
    }

    /// `x [batch, length, hidden]` to the same shape; the convolution sees no more of it than where `pass` says it is real.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.run(x, pass, None)
    }

    /// The same of the next positions of a sequence that comes in pieces, without a gradient to the pieces before. `pass` says how many
    /// positions came before.
    ///
    /// # Errors
    /// If shapes do not fit, or the convolution looks ahead.
    pub fn next(&self, x: &Tensor, pass: &Pass, state: &mut ConformerState) -> Result<Tensor> {
        self.run(x, pass, Some(state))
    }

    fn run(&self, x: &Tensor, pass: &Pass, state: Option<&mut ConformerState>) -> Result<Tensor> {
        let (keys, window) = state.map(|state| (&mut state.keys, &mut state.window)).unzip();
        let [(first, of_first), (second, of_second)] = &self.feed_forward;
        let (attention, of_attention) = &self.attention;
        let real = pass.real_of(x)?;
        let x = of_first.around(x, real.as_ref(), |x, residual| first.forward(x, residual))?;
        let x =
            of_attention.around(&x, real.as_ref(), |x, residual| attention.forward(x, None, pass, keys, residual))?;
        let column = pass.real.as_ref().map(|real| real.unsqueeze(-1)).transpose()?;
        let x = x.add(&self.convolution.forward(&x, column.as_ref(), window)?)?;
        let x = of_second.around(&x, real.as_ref(), |x, residual| second.forward(x, residual))?;
        self.norm.forward_real(&x, real.as_ref())
    }
}

impl Module for Conformer {
    fn visit(&self, v: &mut Visitor<'_>) {
        for (part, residual) in &self.feed_forward {
            v.module("", part);
            v.module("", residual);
        }
        v.module("", &self.attention.0);
        v.module("", &self.attention.1);
        v.module("conv_module", &self.convolution);
        v.module("final_layer_norm", &self.norm);
    }
}
