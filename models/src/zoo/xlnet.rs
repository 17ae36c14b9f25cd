//! XLNet (Yang et al., 2019, arXiv 1906.08237): relative positions and segments in the scores, and beside the content stream a query stream for
//! predictions that must not see their own token.

use std::path::Path;

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{Mask, Tensor};

use super::config::Config;
use super::files;
use super::model::{About, Cache, Task, TextModel, task};
use crate::attention::{AttentionConfig, Bias, Pairs, Project, RelativeConfig, Scores, sinusoids};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{Embeddings, EmbeddingsConfig, TextInput};
use crate::heads::{Head, HeadConfig};
use crate::norm::NormConfig;
use crate::stack::{Stack, StackConfig};
use crate::weights::Form;
use crate::{Error, Result};

const PROJECT: Project = Project::Apart { query: "rel_attn.q", key: "rel_attn.k", value: "rel_attn.v" };

/// Relative positions and segments of so many heads.
fn relative(heads: usize) -> RelativeConfig {
    RelativeConfig {
        project: "rel_attn.r",
        form: Form::ColumnsByHead(heads),
        added: ["rel_attn.r_w_bias", "rel_attn.r_r_bias"],
        segments: Some(["rel_attn.r_s_bias", "rel_attn.seg_embed"]),
    }
}

struct Trunk {
    embeddings: Embeddings,
    /// What every query of the query stream starts as, `[1, 1, hidden]`.
    query: Param,
    stack: Stack,
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.embeddings);
        v.param("mask_emb", &self.query);
        v.module("", &self.stack);
    }
}

/// A permutation language model.
pub struct XlNet {
    about: About,
    prefix: String,
    trunk: Trunk,
    head: Option<Head>,
}

/// Which positions are predicted, from which others.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// True where position `j` may be seen from position `i`, beside a position by itself: `[batch, length, length]`.
    pub seen: &'a Tensor,
    /// The positions to predict, u32 `[batch, targets]`.
    pub positions: &'a Tensor,
}

impl XlNet {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        Self::build(c, "transformer".into(), build)
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, c.layers("n_layer|num_hidden_layers")?)?;
        let model = Self::build(c, files::prefix(&weights, "transformer"), &build.clone().blank()?)?;
        files::fill(&model, &weights, if model.head.is_none() { &["lm_loss."] } else { &[] })?;
        Ok(model)
    }

    fn build(c: &Config, prefix: String, build: &Build) -> Result<Self> {
        let (hidden, vocab) = (c.size("d_model|hidden_size")?, c.size("vocab_size")?);
        let heads = c.size("n_head|num_attention_heads")?;
        let head_dim = match c.size_if("d_head")? {
            Some(width) => width,
            None => c.head_dim(hidden, heads)?,
        };
        if c.text_or("attn_type", "bi")? != "bi" || c.number_or("clamp_len", -1.0)? > 0.0 {
            return Err(c.error("attn_type other than bi, or a clamp_len, is not supported"));
        }
        let build = build.clone().with_init(Init::Normal { mean: 0.0, std: c.number_or("initializer_range", 0.02)? });
        let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?);
        let dropout = c.number_or("dropout", 0.1)?;
        let attention = AttentionConfig {
            bias: Bias::all(false),
            form: Form::ColumnsByHead(heads),
            output_form: Form::RowsByHead(heads),
            scores: Scores::Relative(relative(heads)),
            dropout,
            ..AttentionConfig::new(heads, head_dim, PROJECT, "rel_attn.o")
        };
        let block = BlockConfig {
            hidden,
            norm,
            attention,
            attention_place: Place::post("rel_attn.layer_norm"),
            cross: None,
            feed_forward: FeedForwardConfig {
                width: c.size("d_inner")?,
                activation: c.activation("ff_activation", "gelu")?,
                inner: Inner::Plain { up: "ff.layer_1", down: "ff.layer_2" },
                bias: [true; 2],
                form: Form::Rows,
                between: Between::default(),
                dropout,
            },
            feed_forward_place: Place::post("ff.layer_norm"),
            wiring: Wiring::Sequential,
            dropout,
        };
        let layers = c.layers("n_layer|num_hidden_layers")?;
        let stack = StackConfig { name: "layer", blocks: vec![block; layers], norm: None };
        let words = EmbeddingsConfig { dropout, ..EmbeddingsConfig::new("word_embedding", vocab, hidden) };
        let embeddings = Embeddings::new(words, &build)?;
        let head = HeadConfig {
            bias: &["lm_loss.bias"],
            ..HeadConfig::new("lm_loss.weight", vocab, c.flag_or("tie_word_embeddings", true)?)
        };
        // Its head predicts a position from others, not the next one.
        let task = match task(c, Task::MaskedLm)? {
            Task::Encoder => Task::Encoder,
            _ => Task::MaskedLm,
        };
        let head = (task != Task::Encoder).then(|| Head::new(head, hidden, embeddings.word(), &build)).transpose()?;
        let trunk =
            Trunk { embeddings, query: build.weight(&[1, 1, hidden])?, stack: Stack::new(&stack, hidden, &build)? };
        let about = About { config: c.clone(), task, vocab, hidden, longest: None, packs: None };
        Ok(XlNet { about, prefix, trunk, head })
    }

    /// States `[batch, targets, hidden]` of the query stream: what is predicted at each target without seeing its token. What goes into
    /// the blocks and comes out of each, of the content stream and then of the query stream, is put into `states` if they are wanted.
    ///
    /// # Errors
    /// If shapes do not fit, or an id is outside the vocabulary.
    pub fn predict(&self, input: &TextInput, targets: Targets, mut states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let [batch, length] = input.sizes()?;
        let Trunk { embeddings, query, stack } = &self.trunk;
        let mut content = embeddings.forward(input, 0)?;
        let count = targets.positions.size(1)?;
        let width = self.about.hidden;
        let mut queries = query.tensor().expand(&[batch, count, width])?;
        let index = targets.positions.unsqueeze(-1)?.expand(&[batch, count, length])?;
        let rows = targets.seen.cast(wgrad::DType::I32)?.gather(1, &index)?.cast(wgrad::DType::Bool)?;
        // Every token of the content stream sees itself.
        let own = Mask::dense(&with_diagonal(targets.seen)?.unsqueeze(1)?);
        let padding = input.mask()?;
        let mut pass = stack.pass(&padding.clone().and(own), 0);
        pass.pairs = Some(self.pairs(input, None)?);
        let mut query_pass = stack.pass(&padding.and(Mask::dense(&rows.unsqueeze(1)?)), 0);
        query_pass.pairs = Some(self.pairs(input, Some(targets.positions))?);
        let keep = |states: &mut Option<&mut Vec<Tensor>>, content: &Tensor, queries: &Tensor| {
            if let Some(states) = states {
                states.extend([content.clone(), queries.clone()]);
            }
        };
        keep(&mut states, &content, &queries);
        for block in stack.blocks() {
            queries = block.forward(&queries, Some(&content), &query_pass, None, None)?;
            content = block.forward(&content, None, &pass, None, None)?;
            keep(&mut states, &content, &queries);
        }
        Ok(queries)
    }

    /// Relative positions and segments of queries at all positions, or at those named, to all keys.
    fn pairs(&self, input: &TextInput, positions: Option<&Tensor>) -> Result<Pairs> {
        let [batch, length] = input.sizes()?;
        let like = self.trunk.query.tensor().detach();
        // Row r of the table is for a key `length - r` positions before the query.
        let table = sinusoids((0..2 * length).map(|row| length as f64 - row as f64), self.about.hidden, &like)?;
        let keys = Tensor::arange(0, length as i64, wgrad::DType::I32, input.ids.device())?;
        let queries = match positions {
            Some(positions) => positions.cast(wgrad::DType::I32)?.reshape(&[batch as isize, 1, -1, 1])?,
            None => keys.reshape(&[1, 1, -1, 1])?,
        };
        let places = keys.sub(&queries)?.add_scalar(length as f64)?;
        let segments = match input.types {
            None => None,
            Some(types) => {
                let of_keys = types.reshape(&[batch as isize, 1, 1, -1])?;
                let of_queries = match positions {
                    Some(positions) => types.gather(1, positions)?,
                    None => types.clone(),
                };
                let different = of_queries.reshape(&[batch as isize, 1, -1, 1])?.ne(&of_keys)?;
                Some(different.cast(wgrad::DType::U32)?)
            }
        };
        Ok(Pairs { table, places, segments, factor: None })
    }
}

/// `seen [batch, length, length]`, and each position by itself.
fn with_diagonal(seen: &Tensor) -> Result<Tensor> {
    let length = seen.size(1)?;
    let at = Tensor::arange(0, length as i64, wgrad::DType::I32, seen.device())?;
    Ok(seen.logical_or(&at.unsqueeze(1)?.eq(&at.unsqueeze(0)?)?)?)
}

impl TextModel for XlNet {
    fn about(&self) -> &About {
        &self.about
    }

    /// The content stream alone: every token sees every other.
    fn run(&self, input: &TextInput, cache: Option<&mut Cache>, states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        if cache.is_some() {
            return Err(Error::argument("cache", "the content stream sees both ways and keeps no keys and values"));
        }
        let Trunk { embeddings, stack, .. } = &self.trunk;
        let mut pass = stack.pass(&input.mask()?, 0);
        pass.pairs = Some(self.pairs(input, None)?);
        stack.forward(embeddings.forward(input, 0)?, &pass, None, None, states)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => Err(self.about.config.error("the model is an encoder without a head")),
        }
    }
}

impl Module for XlNet {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(&self.prefix, &self.trunk);
        if let Some(head) = &self.head {
            v.module("", head);
        }
    }
}
