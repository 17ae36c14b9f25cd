//! Funnel Transformer (Dai et al., 2020, arXiv 2006.03236): an encoder that halves the sequence from block to block of layers, and a decoder on
//! the sequence at its full length again. Attention with relative positions as in Transformer-XL.

use std::path::Path;

use wgrad::nn::{Build, Init, Module, Visitor};
use wgrad::{DType, Mask, Tensor};

use super::config::Config;
use super::files;
use super::model::{About, Cache, Task, TextModel, task};
use crate::attention::{AttentionConfig, Bias, Pairs, Pass, Project, RelativeConfig, Scores, sinusoids};
use crate::block::{Block, BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{Embeddings, EmbeddingsConfig, TextInput};
use crate::heads::{Head, HeadConfig};
use crate::norm::NormConfig;
use crate::weights::Form;
use crate::{Error, Result};

const PROJECT: Project =
    Project::Apart { query: "attention.q_head", key: "attention.k_head", value: "attention.v_head" };

/// Relative positions and segments of so many heads.
fn relative(heads: usize) -> RelativeConfig {
    RelativeConfig {
        project: "attention.r_kernel",
        form: Form::ColumnsByHead(heads),
        added: ["attention.r_w_bias", "attention.r_r_bias"],
        segments: Some(["attention.r_s_bias", "attention.seg_embed"]),
    }
}
/// Type id of the first token, which is in everybody's segment.
const CLS_TYPE: f64 = 2.0;

struct Trunk {
    embeddings: Embeddings,
    /// Blocks of layers; between them the sequence is halved.
    encoder: Vec<Vec<Block>>,
    decoder: Vec<Block>,
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("embeddings", &self.embeddings);
        for (number, layers) in self.encoder.iter().enumerate() {
            v.modules(&format!("encoder.blocks.{number}"), layers);
        }
        v.modules("decoder.layers", &self.decoder);
    }
}

/// How sequences are halved.
#[derive(Clone, Copy)]
struct Pooling {
    /// Whether the first token stays by itself.
    separate_cls: bool,
    /// Whether the last token falls for it.
    truncate: bool,
    /// Whether the larger of two counts rather than the mean.
    max: bool,
    /// Whether the layer that halves sees all of the longer sequence.
    query_only: bool,
}

/// A Funnel Transformer with its masked language modelling head.
pub struct Funnel {
    about: About,
    prefix: String,
    pooling: Pooling,
    repeats: Vec<usize>,
    trunk: Trunk,
    head: Option<Head>,
}

/// A sequence at one length: where its tokens stand, and which are real.
struct Level {
    positions: Vec<i64>,
    stride: i64,
    /// 1 where a token is real, `[batch, length]`; None if all are.
    real: Option<Tensor>,
    /// 1 for pairs of the same segment, `[batch, length, length]`.
    same: Tensor,
}

impl Funnel {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        Self::build(c, "funnel".into(), build)
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let layers = c.sizes("block_sizes")?.into_iter().fold(0usize, usize::saturating_add);
        let weights = files::open(folder, layers)?;
        let model = Self::build(c, files::prefix(&weights, "funnel"), &build.clone().blank()?)?;
        files::fill(&model, &weights, if model.head.is_none() { &["lm_head."] } else { &[] })?;
        Ok(model)
    }

    fn build(c: &Config, prefix: String, build: &Build) -> Result<Self> {
        let (hidden, vocab, heads) = (c.size("d_model")?, c.size("vocab_size")?, c.size("n_head")?);
        if c.text_or("attention_type", "relative_shift")? != "relative_shift" {
            return Err(c.error("attention_type other than relative_shift is not supported"));
        }
        let build = build.clone().with_init(Init::Normal { mean: 0.0, std: c.number_or("initializer_std", 0.02)? });
        let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-9)?);
        let dropout = c.number_or("hidden_dropout", 0.1)?;
        let attention = AttentionConfig {
            bias: Bias { query: false, ..Bias::all(true) },
            scores: Scores::Relative(relative(heads)),
            dropout: c.number_or("attention_dropout", 0.1)?,
            ..AttentionConfig::new(heads, c.size("d_head")?, PROJECT, "attention.post_proj")
        };
        let block = BlockConfig {
            hidden,
            norm,
            attention,
            attention_place: Place::post("attention.layer_norm"),
            cross: None,
            feed_forward: FeedForwardConfig {
                width: c.size("d_inner")?,
                activation: c.activation("hidden_act", "gelu_new")?,
                inner: Inner::Plain { up: "ffn.linear_1", down: "ffn.linear_2" },
                bias: [true; 2],
                form: Form::Rows,
                between: Between::default(),
                dropout: c.number_or("activation_dropout", 0.0)?,
            },
            feed_forward_place: Place::post("ffn.layer_norm"),
            wiring: Wiring::Sequential,
            dropout,
        };
        let layers = |count: usize| match count {
            0..=256 => (0..count).map(|_| Block::new(&block, &build)).collect::<Result<Vec<_>>>(),
            _ => Err(c.error(format!("{count} layers in one block"))),
        };
        let sizes = c.sizes("block_sizes")?;
        let repeats = match c.sizes("block_repeats")? {
            none if none.is_empty() => vec![1; sizes.len()],
            some => some,
        };
        let sound = sizes.len() == repeats.len() && repeats.iter().all(|n| (1..=256).contains(n));
        if !(1..=32).contains(&sizes.len()) || !sound || sizes[0] == 0 {
            return Err(c.error(format!("{} blocks of layers with {} repeats", sizes.len(), repeats.len())));
        }
        let words = EmbeddingsConfig {
            padding: c.size_if("pad_token_id")?,
            norm: Some(("layer_norm", norm)),
            dropout,
            ..EmbeddingsConfig::new("word_embeddings", vocab, hidden)
        };
        let embeddings = Embeddings::new(words, &build)?;
        let head = HeadConfig {
            bias: &["lm_head.bias"],
            ..HeadConfig::new("lm_head.weight", vocab, c.flag_or("tie_word_embeddings", true)?)
        };
        let task = task(c, Task::MaskedLm)?;
        let head = (task != Task::Encoder).then(|| Head::new(head, hidden, embeddings.word(), &build)).transpose()?;
        let trunk = Trunk {
            embeddings,
            encoder: sizes.iter().map(|&count| layers(count)).collect::<Result<_>>()?,
            decoder: layers(c.size_or("num_decoder_layers", 2)?)?,
        };
        let pooling = Pooling {
            separate_cls: c.flag_or("separate_cls", true)?,
            truncate: c.flag_or("truncate_seq", true)?,
            max: c.text_or("pooling_type", "mean")? == "max",
            query_only: c.flag_or("pool_q_only", true)?,
        };
        let about = About { config: c.clone(), task, vocab, hidden, longest: None, packs: None };
        Ok(Funnel { about, prefix, pooling, repeats, trunk, head })
    }

    /// What attention between sequences of two lengths, or of one, has to know.
    fn pass(&self, queries: &Level, keys: &Level, like: &Tensor) -> Result<Pass> {
        let (n, m) = (queries.positions.len(), keys.positions.len());
        let halved = queries.stride != keys.stride;
        // Position i of the queries and j of the keys find theirs at row shift (n - i) + j.
        let (shift, step) = if halved { (2, keys.stride) } else { (1, queries.stride) };
        let first = queries.positions.first().copied().unwrap_or(0);
        let far = first - keys.positions.first().copied().unwrap_or(0) + (shift * n) as i64 * step;
        let last = first - keys.positions.last().copied().unwrap_or(0);
        let rows = ((far - last) / step + 1).max(1) as usize;
        let table = sinusoids((0..rows as i64).map(|row| (far - row * step) as f64), self.about.hidden, like)?;
        let places = (0..n).flat_map(|i| (0..m).map(move |j| (shift * (n - i) + j).min(rows - 1) as u32));
        let places = Tensor::from_vec(places.collect(), &[1, 1, n, m], like.device())?;
        let mut same = keys.same.clone();
        if halved {
            same = same.index_select(1, &self.pooling.kept(m, like)?)?;
        }
        // The first token has no place among the others.
        let factor = |(i, j)| if self.pooling.separate_cls && (i == 0 || j == 0) { 0.0f32 } else { 1.0 };
        let factors = (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(factor);
        let factor = Tensor::from_vec(factors.collect(), &[1, 1, n, m], like.device())?.cast(like.dtype())?;
        let mask = match &keys.real {
            Some(real) => Mask::dense(&real.cast(DType::Bool)?.unsqueeze(1)?.unsqueeze(1)?),
            None => Mask::all(),
        };
        let mut pass = Pass::new(&mask, 0, std::iter::empty());
        pass.pairs = Some(Pairs { table, places, segments: Some(same.unsqueeze(1)?), factor: Some(factor) });
        Ok(pass)
    }

    fn level(&self, input: &TextInput, like: &Tensor) -> Result<Level> {
        let [batch, length] = input.sizes()?;
        let types = match input.types {
            Some(types) => types.cast(DType::I32)?,
            None => Tensor::zeros(&[batch, length], DType::I32, like.device())?,
        };
        let first = types.eq(&Tensor::scalar(CLS_TYPE, DType::I32, like.device())?)?;
        let equal = types.unsqueeze(2)?.eq(&types.unsqueeze(1)?)?;
        let with_first = first.unsqueeze(2)?.logical_or(&first.unsqueeze(1)?)?;
        Ok(Level {
            positions: (0..length as i64).collect(),
            stride: 1,
            real: input.real()?.map(|real| real.cast(like.dtype())).transpose()?,
            same: equal.logical_or(&with_first)?.cast(DType::U32)?,
        })
    }

    fn encode_levels(&self, input: &TextInput, states: &mut Vec<Tensor>) -> Result<(Tensor, Tensor)> {
        let mut x = self.trunk.embeddings.forward(input, 0)?;
        states.push(x.clone());
        let mut level = self.level(input, &x)?;
        let mut pass = self.pass(&level, &level, &x)?;
        let mut full = x.clone();
        for (number, layers) in self.trunk.encoder.iter().enumerate() {
            let mut halving = None;
            if number > 0 && level.positions.len() > 1 + usize::from(self.pooling.separate_cls) {
                let short = self.pooling.level(&level, number, &x)?;
                halving = Some((self.pooling.pool(&x, self.pooling.max)?, self.pass(&short, &level, &x)?));
                pass = self.pass(&short, &short, &x)?;
                level = short;
            }
            for layer in layers {
                for _ in 0..self.repeats[number] {
                    x = match halving.take() {
                        Some((pooled, wide)) if self.pooling.query_only => {
                            layer.forward(&pooled, Some(&x), &wide, None, None)?
                        }
                        Some((pooled, _)) => layer.forward(&pooled, None, &pass, None, None)?,
                        None => layer.forward(&x, None, &pass, None, None)?,
                    };
                    states.push(x.clone());
                }
            }
            if number == 0 {
                full = x.clone();
            }
        }
        Ok((x, full))
    }
}

impl Pooling {
    /// The positions that stay.
    fn kept(&self, length: usize, like: &Tensor) -> Result<Tensor> {
        let end = if self.separate_cls && self.truncate { length.saturating_sub(1) } else { length };
        let first = usize::from(self.separate_cls);
        let kept: Vec<u32> = (0..first).chain((first..end).step_by(2)).map(|at| at as u32).collect();
        let count = kept.len();
        Ok(Tensor::from_vec(kept, &[count], like.device())?)
    }

    /// A level at half the length, the block's number being `number`.
    fn level(&self, level: &Level, number: usize, like: &Tensor) -> Result<Level> {
        let kept = self.kept(level.positions.len(), like)?;
        let mut positions: Vec<i64> = Vec::new();
        for at in kept.to_vec::<u32>()? {
            positions.extend(level.positions.get(at as usize));
        }
        if let (true, Some(first)) = (self.separate_cls, positions.first_mut()) {
            *first = 1 - (1i64 << number);
        }
        let real = match &level.real {
            Some(real) => Some(self.pool(&real.neg()?.unsqueeze(2)?, true)?.neg()?.squeeze(2)?),
            None => None,
        };
        let same = level.same.index_select(1, &kept)?.index_select(2, &kept)?;
        Ok(Level { positions, stride: 2 * level.stride, real, same })
    }

    /// Means or maxima of neighbours of `x [batch, length, width]`.
    fn pool(&self, x: &Tensor, max: bool) -> Result<Tensor> {
        let (batch, mut length, width) = (x.size(0)?, x.size(1)?, x.size(2)?);
        let mut parts = vec![x.clone()];
        if self.separate_cls {
            // The first token twice, so that it is a pair of its own.
            let rest = if self.truncate { length.saturating_sub(1) } else { length };
            parts = vec![x.narrow(1, 0, 1)?, x.narrow(1, 0, rest)?];
            length = rest + 1;
        }
        if !length.is_multiple_of(2) {
            let last = parts[parts.len() - 1].clone();
            parts.push(last.narrow(1, last.size(1)? - 1, 1)?);
        }
        let x = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)?;
        let pairs = x.reshape(&[batch as isize, -1, 2, width as isize])?;
        Ok(if max { pairs.max(&[2], false)? } else { pairs.mean(&[2], false)? })
    }

    /// Each position `times` times, cut to `length`.
    fn stretch(&self, x: &Tensor, times: usize, length: usize) -> Result<Tensor> {
        if times == 1 {
            return Ok(x.clone());
        }
        if !self.separate_cls {
            return Ok(x.repeat_interleave(times, 1)?.narrow(1, 0, length)?);
        }
        let mut rest = x.narrow(1, 1, x.size(1)? - 1)?.repeat_interleave(times, 1)?;
        if self.truncate {
            let zeros = Tensor::zeros(&[x.size(0)?, times - 1, x.size(2)?], x.dtype(), x.device())?;
            rest = Tensor::concat(&[&rest, &zeros], 1)?;
        }
        let rest = rest.narrow(1, 0, length.saturating_sub(1))?;
        Ok(Tensor::concat(&[&x.narrow(1, 0, 1)?, &rest], 1)?)
    }
}

impl TextModel for Funnel {
    fn about(&self) -> &About {
        &self.about
    }

    fn run(&self, input: &TextInput, cache: Option<&mut Cache>, states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        if cache.is_some() {
            return Err(Error::argument("cache", "an encoder keeps no keys and values"));
        }
        let [_, length] = input.sizes()?;
        if length == 0 {
            return Err(Error::argument("ids", "a text of no tokens"));
        }
        let mut all = Vec::new();
        let (short, full) = self.encode_levels(input, &mut all)?;
        // No more than it takes for one token to fill the sequence.
        let times = (1usize << (self.trunk.encoder.len() - 1)).min(length);
        let mut x = self.pooling.stretch(&short, times, length)?.add(&full)?;
        let level = self.level(input, &x)?;
        let pass = self.pass(&level, &level, &x)?;
        all.push(x.clone());
        for layer in &self.trunk.decoder {
            x = layer.forward(&x, None, &pass, None, None)?;
            all.push(x.clone());
        }
        if let Some(states) = states {
            states.append(&mut all);
        }
        Ok(x)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => Err(self.about.config.error("the model is an encoder without a head")),
        }
    }
}

impl Module for Funnel {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(&self.prefix, &self.trunk);
        if let Some(head) = &self.head {
            v.module("", head);
        }
    }
}
