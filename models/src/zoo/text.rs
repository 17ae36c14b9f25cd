//! Encoders and decoders of text: embeddings, a stack of blocks, a head. An architecture is a [`TextConfig`].

use std::path::Path;

use wgrad::Tensor;
use wgrad::io::Weights;
use wgrad::nn::{Build, Init, Module, Visitor};

use super::config::Config;
use super::files;
use super::model::{About, Cache, Task, TextModel};
use crate::Result;
use crate::attention::{Distance, DistanceConfig, Scores};
use crate::block::BlockConfig;
use crate::front::embeddings::{Embeddings, EmbeddingsConfig, TextInput};
use crate::heads::{Head, HeadConfig};
use crate::stack::{Stack, StackConfig};
use crate::weights::{Form, Linear};

/// What an encoder or decoder is made of. Names are those of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// What stands before the names of embeddings and blocks, where it stands.
    pub prefix: &'static str,
    /// What it is for.
    pub task: Task,
    /// Width of the residual stream.
    pub hidden: usize,
    /// The embeddings.
    pub embeddings: EmbeddingsConfig,
    /// The blocks.
    pub stack: StackConfig,
    /// Relative positions that all blocks share.
    pub distance: DistanceConfig,
    /// Whether a token sees those before it alone.
    pub causal: bool,
    /// The readout, which an encoder alone lacks.
    pub head: HeadConfig,
    /// Name of the layer on the first token's state, which encoders may have.
    pub pooler: &'static str,
    /// Standard deviation of new weights.
    pub std: f64,
    /// Parts of the names of tensors that checkpoints may have and the model does not need.
    pub unused: &'static [&'static str],
}

impl TextConfig {
    /// Position of a text's first token, where texts may be packed into rows: not under a mask that chooses among all keys of a row, nor
    /// with scores for which somebody else says what lies between two places.
    fn packs(&self) -> Option<usize> {
        let alone = |block: &BlockConfig| matches!(block.attention.scores, Scores::Dynamic(_) | Scores::Relative(_));
        (!self.stack.blocks.iter().any(alone)).then(|| self.embeddings.first_position())
    }
}

struct Trunk {
    embeddings: Embeddings,
    stack: Stack,
    distance: Distance,
    pooler: Option<(&'static str, Linear)>,
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.embeddings);
        v.module("", &self.stack);
        v.module("", &self.distance);
        if let Some((name, pooler)) = &self.pooler {
            v.module(name, pooler);
        }
    }
}

/// An encoder or decoder with its head.
pub struct Transformer {
    about: About,
    causal: bool,
    prefix: String,
    trunk: Trunk,
    head: Option<Head>,
}

impl Transformer {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or memory is exhausted.
    pub fn new(config: &Config, text: &TextConfig, build: &Build) -> Result<Self> {
        let init = Init::Normal { mean: 0.0, std: text.std };
        Self::build(config, text, text.prefix.to_string(), false, &build.clone().with_init(init))
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(config: &Config, text: &TextConfig, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, text.stack.blocks.len())?;
        let prefix = files::prefix(&weights, text.prefix);
        let pooled = text.task == Task::Encoder && weights.contains(&files::joined(&prefix, text.pooler, "weight"));
        let model = Self::build(config, text, prefix, pooled, &build.clone().blank()?)?;
        model.fill(&weights, text)?;
        Ok(model)
    }

    fn fill(&self, weights: &Weights, text: &TextConfig) -> Result<()> {
        let heads: &[&str] = if self.head.is_none() { &["cls.", "lm_head."] } else { &[] };
        files::fill(self, weights, &[text.unused, heads].concat())
    }

    fn build(config: &Config, text: &TextConfig, prefix: String, pooled: bool, build: &Build) -> Result<Self> {
        let &TextConfig { hidden, task, causal, head, pooler, .. } = text;
        let embeddings = Embeddings::new(text.embeddings, build)?;
        let stack = Stack::new(&text.stack, hidden, build)?;
        let head = (task != Task::Encoder).then(|| Head::new(head, hidden, embeddings.word(), build)).transpose()?;
        let pooler =
            pooled.then(|| Ok::<_, crate::Error>((pooler, Linear::new(hidden, hidden, true, Form::Rows, build)?)));
        Ok(Transformer {
            about: About {
                config: config.clone(),
                task,
                vocab: text.embeddings.vocab,
                hidden,
                longest: text.embeddings.longest(),
                packs: text.packs(),
            },
            causal,
            prefix,
            trunk: Trunk {
                embeddings,
                stack,
                distance: Distance::new(text.distance, build)?,
                pooler: pooler.transpose()?,
            },
            head,
        })
    }

    /// What stands before the names of embeddings and blocks.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Gives the position embeddings other initial values.
    ///
    /// # Errors
    /// If there are none, or memory is exhausted.
    pub fn start_positions(&self, init: Init) -> Result<()> {
        let Some(weight) = self.trunk.embeddings.positions() else {
            return Err(self.about.config.error("the model has no table of positions"));
        };
        Ok(weight.set(&init.tensor(weight.shape(), weight.dtype(), weight.device())?)?)
    }

    /// The state `[batch, hidden]` of each text's first token, through the pooler if the checkpoint has one.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn pooled(&self, hidden: &Tensor) -> Result<Tensor> {
        let first = hidden.select(1, 0)?;
        match &self.trunk.pooler {
            Some((_, pooler)) => pooler.forward_then(&first, Some(wgrad::Activation::Tanh), None),
            None => Ok(first),
        }
    }
}

impl TextModel for Transformer {
    fn about(&self) -> &About {
        &self.about
    }

    fn run(
        &self,
        input: &TextInput,
        mut cache: Option<&mut Cache>,
        states: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let Trunk { embeddings, stack, distance, .. } = &self.trunk;
        let [_, length] = input.sizes()?;
        let offset = cache.as_deref().map_or(0, Cache::length);
        let x = embeddings.forward(input, offset)?;
        let mask = input.mask()?;
        let mut pass = match self.causal {
            true => Cache::pass(cache.as_deref_mut(), stack, (!mask.is_all()).then_some(mask), length),
            false => stack.pass(&mask, offset),
        };
        pass.positions = Some(input.counted(offset)?);
        pass.real = input.real()?;
        distance.tell(&mut pass, length, &x)?;
        let blocks = cache.map(|cache| cache.blocks(stack.blocks().len(), length));
        stack.forward(x, &pass, None, blocks, states)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => Err(self.about.config.error("the model is an encoder without a head")),
        }
    }
}

impl Module for Transformer {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(&self.prefix, &self.trunk);
        if let Some(head) = &self.head {
            v.module("", head);
        }
    }
}
