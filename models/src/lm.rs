//! A language model as a value: blocks of any placement, what stands around them, and how all of it starts.

use wgrad::nn::{Build, Embedding, Init, Module, Visitor};
use wgrad::{DType, Device, Mask, Tensor};

use crate::block::BlockConfig;
use crate::gain::{Gain, GainConfig};
use crate::initial::{Role, Scheme};
use crate::mixer::averages;
use crate::norm::{Norm, NormConfig};
use crate::post_step::UnitVectors;
use crate::stack::{Stack, StackConfig};
use crate::weights::{Form, Linear};
use crate::{Result, heads};

/// What a language model is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LmConfig {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Norm of the words' vectors.
    pub embedding_norm: Option<NormConfig>,
    /// Share of the gradient that reaches the words' vectors (GLM-130B's embedding gradient shrink).
    pub shrink: f64,
    /// The blocks.
    pub blocks: Vec<BlockConfig>,
    /// Levels of the moving averages after each block; 0 for none.
    pub averages: usize,
    /// Norm after the last block.
    pub norm: Option<NormConfig>,
    /// Whether the readout has a bias.
    pub head_bias: bool,
    /// Learned factor of each logit.
    pub logit_gain: Option<GainConfig>,
    /// Whether a token sees those before it alone: a decoder, else an encoder.
    pub causal: bool,
    /// Standard deviation of the words' vectors at the start.
    pub embedding_std: f64,
    /// How all other matrices start.
    pub scheme: Scheme,
    /// Whether the vectors of matrices along the residual stream have length one, at the start and after each step.
    pub unit: bool,
}

/// A language model.
pub struct Lm {
    config: LmConfig,
    embedding: Embedding,
    embedding_norm: Option<Norm>,
    stack: Stack,
    norm: Option<Norm>,
    head: Linear,
    logit_gain: Option<Gain>,
}

impl Lm {
    /// A model with new weights of f32.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &LmConfig, device: &Device) -> Result<Self> {
        Self::of_dtype(config, DType::F32, device)
    }

    /// A model with new weights.
    ///
    /// # Errors
    /// As [`Lm::new`], or if the dtype is not a float of the device.
    pub fn of_dtype(config: &LmConfig, dtype: DType, device: &Device) -> Result<Self> {
        let build = Build::new(device).with_dtype(dtype).with_init(Init::Zeros);
        let &LmConfig { vocab, hidden, embedding_norm, norm, head_bias, logit_gain, .. } = config;
        let new_norm = |norm| Norm::new(norm, hidden, &build);
        // The norm after the last block is kept apart, so that what goes into it can be seen.
        let stack = StackConfig { name: "blocks", blocks: config.blocks.clone(), norm: None };
        let lm = Lm {
            embedding: Embedding::new(vocab, hidden, None, &build)?,
            embedding_norm: embedding_norm.map(new_norm).transpose()?,
            stack: Stack::new(&stack, hidden, &build)?,
            norm: norm.map(new_norm).transpose()?,
            head: Linear::new(hidden, vocab, head_bias, Form::Rows, &build)?,
            logit_gain: logit_gain.map(|gain| Gain::new(gain, vocab, &build)).transpose()?,
            config: config.clone(),
        };
        for (name, param) in lm.named_parameters() {
            let init = match Role::of(&name) {
                Some((Role::Embedding, _)) => Init::Normal { mean: 0.0, std: config.embedding_std },
                Some((role, block)) => config.scheme.init(role, block),
                None => continue,
            };
            param.set(&init.tensor(param.shape(), dtype, device)?)?;
        }
        if let Some(unit) = lm.unit_vectors() {
            unit.apply()?;
        }
        Ok(lm)
    }

    /// What it is made of.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The vectors that are to have length one after each step, if any are: those that read the residual stream, and those written to it.
    pub fn unit_vectors(&self) -> Option<UnitVectors> {
        let along = |name: &str| match Role::of(name)?.0 {
            Role::Output | Role::Down => Some(0),
            _ => Some(1),
        };
        let params = self.named_parameters().into_iter();
        let vectors = params.filter_map(|(name, param)| Some((param, along(&name)?))).collect();
        self.config.unit.then(|| UnitVectors::new(vectors))
    }

    /// Logits `[batch, length, vocab]` of tokens `[batch, length]`, and the residual stream before the first block and after each.
    ///
    /// # Errors
    /// If an id is outside the vocabulary, or memory is exhausted.
    pub fn trace(&self, ids: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let (batch, length) = (ids.size(0)?, ids.size(1)?);
        let mut x = self.embedding.forward(ids)?;
        let shrink = self.config.shrink;
        if shrink != 1.0 {
            x = x.mul_scalar(shrink)?.add(&x.detach().mul_scalar(1.0 - shrink)?)?;
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x)?;
        }
        let mask = if self.config.causal { Mask::causal(0) } else { Mask::all() };
        let mut pass = self.stack.pass(&mask, 0);
        let positions = Tensor::arange(0, length as i64, DType::I32, ids.device())?;
        pass.positions = Some(positions.unsqueeze(0)?.expand(&[batch, length])?);
        let mut states = vec![x.clone()];
        for block in self.stack.blocks() {
            x = block.forward(&x, None, &pass, None, None)?;
            if self.config.averages > 0 {
                x = averages(&x, self.config.averages)?;
            }
            states.push(x.clone());
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        let logits = self.head.forward(&x)?;
        let logits = match &self.logit_gain {
            Some(gain) => gain.forward(&logits)?,
            None => logits,
        };
        Ok((logits, states))
    }

    /// Logits alone.
    ///
    /// # Errors
    /// As [`Lm::trace`].
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.trace(ids)?.0)
    }

    /// Mean cross-entropy of labels `[batch, length]`, apart from those that are ignored.
    ///
    /// # Errors
    /// As [`Lm::trace`], or if a label is no token.
    pub fn loss(&self, ids: &Tensor, labels: &Tensor) -> Result<Tensor> {
        heads::cross_entropy(&self.logits(ids)?, labels)
    }
}

impl Module for Lm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("embedding", &self.embedding);
        if let Some(norm) = &self.embedding_norm {
            v.module("embedding_norm", norm);
        }
        v.module("", &self.stack);
        if let Some(norm) = &self.norm {
            v.module("norm", norm);
        }
        v.module("head", &self.head);
        if let Some(gain) = &self.logit_gain {
            v.module("", gain);
        }
    }
}
