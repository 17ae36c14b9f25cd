//! What all models of text have in common.

use wgrad::nn::Module;
use wgrad::{Mask, Tensor};

use super::config::Config;
use crate::attention::{KeyValues, Pass};
use crate::block::BlockCache;
use crate::front::embeddings::TextInput;
use crate::heads;
use crate::stack::Stack;
use crate::{Error, Result};

/// What a model of text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Filling masks: logits over the vocabulary at each position.
    MaskedLm,
    /// Going on with a text: logits over the vocabulary for the next position.
    CausalLm,
    /// Writing one text for another.
    Seq2Seq,
    /// Telling replaced tokens from originals: one logit at each position.
    Detection,
    /// Hidden states alone.
    Encoder,
}

/// What is known of a model beside its weights.
#[derive(Debug, Clone)]
pub struct About {
    /// Its configuration as it was read.
    pub config: Config,
    /// What it is for.
    pub task: Task,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Most tokens of a text, if a table of positions ends there.
    pub longest: Option<usize>,
    /// Position of a text's first token, where texts may be packed into rows; None where the model needs each in a row of its own.
    pub packs: Option<usize>,
}

/// Keys and values of the positions that a decoder has seen.
#[derive(Default)]
pub struct Cache {
    blocks: Vec<BlockCache>,
    length: usize,
    /// The masks of steps, which are made ready for the device once.
    steps: Option<Pass>,
}

/// Most tokens of a step that reads kept keys and values where they are. More are computed by tiles.
const STEP: usize = 8;

impl Cache {
    /// Positions seen so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// A pass of `more` tokens after those seen so far, through a stack under a causal mask, where padding is not to be hidden.
    pub(crate) fn pass(cache: Option<&mut Cache>, stack: &Stack, mask: Option<Mask>, more: usize) -> Pass {
        let offset = cache.as_deref().map_or(0, Cache::length);
        let all = mask.clone().unwrap_or_default();
        match (cache, mask) {
            (Some(cache), None) if offset > 0 && more <= STEP => {
                let mut pass = cache.steps.get_or_insert_with(|| stack.pass(&Mask::causal(0), 0)).clone();
                (pass.offset, pass.steps) = (offset, true);
                pass
            }
            _ => stack.pass(&all.and(Mask::causal(offset as i64)), offset),
        }
    }

    /// The caches of `count` blocks, which are about to see `more` positions.
    pub(crate) fn blocks(&mut self, count: usize, more: usize) -> &mut [BlockCache] {
        self.blocks.resize_with(count, BlockCache::default);
        self.length += more;
        &mut self.blocks
    }

    /// The cache of one text, which took the positions from `start` on in a row of a packed batch.
    ///
    /// # Errors
    /// If there are no such positions.
    pub fn cut(&self, row: usize, start: usize, length: usize) -> Result<Cache> {
        let cut = |block: &BlockCache| {
            let own = block.own.cut(row, start, length)?;
            Ok(BlockCache { own, cross: KeyValues::default() })
        };
        Ok(Cache { blocks: self.blocks.iter().map(cut).collect::<Result<_>>()?, length, steps: None })
    }

    /// Keeps the rows `chosen` (u32) of the batch, in their order, each as often as it is named: for beams.
    ///
    /// # Errors
    /// If a row is out of range.
    pub fn choose(&mut self, chosen: &Tensor) -> Result<()> {
        for block in &mut self.blocks {
            block.own.choose(chosen)?;
            block.cross.choose(chosen)?;
        }
        Ok(())
    }
}

/// A model from token ids to hidden states, and from these to logits.
pub trait TextModel: Module + Send + Sync {
    /// What is known of it.
    fn about(&self) -> &About;

    /// Hidden states `[batch, length, hidden]` of a text, which goes on from what is in the `cache`. What goes into the blocks and
    /// comes out of each is put into `states` if they are wanted.
    ///
    /// # Errors
    /// If shapes do not fit, the text is too long, or an id is outside the vocabulary.
    fn run(&self, input: &TextInput, cache: Option<&mut Cache>, states: Option<&mut Vec<Tensor>>) -> Result<Tensor>;

    /// Logits `[.., vocabulary]` of hidden states `[.., hidden]`; of a detector `[.., 1]`.
    ///
    /// # Errors
    /// If shapes do not fit, or the model has no head.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;

    /// Hidden states of a text.
    ///
    /// # Errors
    /// As [`TextModel::run`].
    fn encode(&self, input: &TextInput) -> Result<Tensor> {
        self.run(input, None, None)
    }

    /// The hidden states from which labels `[batch, length]` are predicted: those of a text, or, of a model that writes one text for another,
    /// those of the labels while it writes them.
    ///
    /// # Errors
    /// As [`TextModel::run`].
    fn states(&self, input: &TextInput, _labels: &Tensor) -> Result<Tensor> {
        self.encode(input)
    }

    /// The loss of the model's task: mean cross-entropy over the labels `[batch, length]` that are not -100, of a causal model for
    /// the next token; of a detector binary cross-entropy over real tokens.
    ///
    /// # Errors
    /// If shapes do not fit, or a label is outside the vocabulary.
    fn loss(&self, logits: &Tensor, labels: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        match self.about().task {
            Task::MaskedLm | Task::Seq2Seq => heads::cross_entropy(logits, labels),
            Task::CausalLm => heads::next_token(logits, labels),
            Task::Detection => heads::detection(&logits.squeeze(-1)?, labels, real),
            Task::Encoder => Err(Error::argument("loss", "the model is an encoder without a head")),
        }
    }
}

/// The task that the architecture of a configuration stands for, by the endings of its name.
pub(super) fn task(config: &Config, default: Task) -> Result<Task> {
    let Some(name) = config.texts("architectures")?.into_iter().next() else { return Ok(default) };
    let tasks = [
        ("ForMaskedLM", Task::MaskedLm),
        ("ForCausalLM", Task::CausalLm),
        ("LMHeadModel", Task::CausalLm),
        ("ForConditionalGeneration", Task::Seq2Seq),
        ("ForPreTraining", default),
        ("Model", Task::Encoder),
    ];
    let found = tasks.into_iter().find(|(ending, _)| name.ends_with(ending));
    found.map(|(_, task)| task).ok_or_else(|| config.error(format!("the architecture {name} is not supported")))
}
