//! From token ids to vectors: words, positions, types.

use wgrad::nn::{Build, Dropout, Embedding, Module, Param, Visitor};
use wgrad::{DType, Mask, Tensor};

use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// Text for a model: token ids, and what is known of them.
#[derive(Clone, Copy)]
pub struct TextInput<'a> {
    /// Token ids `[batch, length]` (u32 or i32).
    pub ids: &'a Tensor,
    /// True for real tokens, false for padding, `[batch, length]`; None if all are real. With a cache, for all positions so far.
    pub real: Option<&'a Tensor>,
    /// Numbers of tokens in the rows, as another way to say which are real: the first ones.
    pub lengths: Option<&'a [usize]>,
    /// Type ids `[batch, length]`; None means 0 everywhere.
    pub types: Option<&'a Tensor>,
    /// Positions `[batch, length]` (u32 or i32); None means what the model does by itself.
    pub positions: Option<&'a Tensor>,
    /// Number of the text that a token belongs to, where several are packed into a row: u32 on the CPU device, `u32::MAX` for padding.
    pub segments: Option<&'a Tensor>,
}

impl<'a> TextInput<'a> {
    /// Ids without padding.
    pub fn new(ids: &'a Tensor) -> Self {
        TextInput { ids, real: None, lengths: None, types: None, positions: None, segments: None }
    }

    /// Batch and length.
    ///
    /// # Errors
    /// If the ids are not a matrix.
    pub fn sizes(&self) -> Result<[usize; 2]> {
        match *self.ids.shape() {
            [batch, length] => Ok([batch, length]),
            _ => Err(Error::argument("ids", format!("shape {:?}, expected [batch, length]", self.ids.shape()))),
        }
    }

    /// Which keys may be seen by anybody.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn mask(&self) -> Result<Mask> {
        let mut mask = Mask::all();
        if let Some(lengths) = self.lengths {
            mask = mask.and(Mask::key_lengths(lengths));
        }
        if let Some(real) = self.real {
            // A row of bits for each text.
            mask = mask.and(Mask::dense(&real.unsqueeze(1)?.unsqueeze(1)?));
        }
        if let Some(segments) = self.segments {
            mask = mask.and(Mask::segments(segments, segments));
        }
        Ok(mask)
    }

    /// True for real tokens; None if all are.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn real(&self) -> Result<Option<Tensor>> {
        let (Some(lengths), None) = (self.lengths, self.real) else { return Ok(self.real.cloned()) };
        let [batch, length] = self.sizes()?;
        let real = (0..batch).flat_map(|row| {
            let n = lengths.get(row).or(lengths.first()).copied().unwrap_or(length);
            (0..length).map(move |at| at < n)
        });
        Ok(Some(Tensor::from_vec(real.collect(), &[batch, length], self.ids.device())?))
    }

    /// Positions of the tokens, of which the first stands at `offset`: `[batch, length]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn counted(&self, offset: usize) -> Result<Tensor> {
        if let Some(positions) = self.positions {
            return Ok(positions.clone());
        }
        let [batch, length] = self.sizes()?;
        let (from, to) = (offset as i64, (offset + length) as i64);
        Ok(Tensor::arange(from, to, DType::I32, self.ids.device())?.unsqueeze(0)?.expand(&[batch, length])?)
    }
}

/// How positions are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionRule {
    /// From 0 on, padding included.
    Count,
    /// Tokens that are not this padding id from the id's number plus 1 on; padding has the id's number (RoBERTa).
    AfterPadding(usize),
    /// Real tokens from 2 on, padding has 1 (OPT).
    Real,
}

impl PositionRule {
    /// Rows of the table that no token gets.
    fn reserved(self) -> usize {
        match self {
            PositionRule::Count => 0,
            PositionRule::AfterPadding(pad) => pad + 1,
            PositionRule::Real => 2,
        }
    }
}

/// A table of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionsConfig {
    /// Its name in a checkpoint.
    pub name: &'static str,
    /// Its rows.
    pub count: usize,
    /// Which row a token gets.
    pub rule: PositionRule,
}

/// A layer between embeddings and blocks of another width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectConfig {
    /// Its name in a checkpoint.
    pub name: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
    /// Its outputs.
    pub width: usize,
    /// Whether it comes before positions are added, or last.
    pub first: bool,
}

/// What embeddings are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingsConfig {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the vectors.
    pub width: usize,
    /// Name of the table of words in a checkpoint.
    pub word: &'static str,
    /// Id of the padding token, whose vector is not trained.
    pub padding: Option<usize>,
    /// The table of positions.
    pub positions: Option<PositionsConfig>,
    /// Name and rows of the table of types.
    pub types: Option<(&'static str, usize)>,
    /// Name and kind of the norm of the sum.
    pub norm: Option<(&'static str, NormConfig)>,
    /// The layer to another width.
    pub project: Option<ProjectConfig>,
    /// Whether the first position and the first type are not trained either (LXMERT).
    pub first_fixed: bool,
    /// Factor of the vectors of words.
    pub scale: f64,
    /// Dropout of the result while training.
    pub dropout: f64,
}

impl EmbeddingsConfig {
    /// Words alone.
    pub fn new(word: &'static str, vocab: usize, width: usize) -> Self {
        EmbeddingsConfig {
            vocab,
            width,
            word,
            padding: None,
            positions: None,
            types: None,
            norm: None,
            project: None,
            first_fixed: false,
            scale: 1.0,
            dropout: 0.0,
        }
    }

    /// Most tokens of a text, if a table of positions ends there.
    pub fn longest(&self) -> Option<usize> {
        self.positions.map(|positions| positions.count.saturating_sub(positions.rule.reserved()))
    }

    /// Position of a text's first token.
    pub fn first_position(&self) -> usize {
        self.positions.map_or(0, |positions| positions.rule.reserved())
    }
}

/// Tables of words, positions and types, and what follows their sum.
pub struct Embeddings {
    config: EmbeddingsConfig,
    word: Embedding,
    positions: Option<Embedding>,
    types: Option<Embedding>,
    norm: Option<Norm>,
    project: Option<Linear>,
    dropout: Dropout,
}

impl Embeddings {
    /// New tables.
    ///
    /// # Errors
    /// If the padding token is outside the vocabulary, or memory is exhausted.
    pub fn new(config: EmbeddingsConfig, build: &Build) -> Result<Self> {
        let EmbeddingsConfig { width, project, .. } = config;
        let early = project.filter(|project| project.first).map_or(width, |project| project.width);
        let table = |count, width, padding| Ok::<_, Error>(Embedding::new(count, width, padding, build)?);
        let fixed = config.first_fixed.then_some(0);
        let positions = |p: PositionsConfig| match p.rule {
            PositionRule::AfterPadding(pad) => table(p.count, early, Some(pad)),
            _ => table(p.count, early, fixed),
        };
        let linear = |p: ProjectConfig| Linear::new(width, p.width, p.bias, Form::Rows, build);
        Ok(Embeddings {
            word: table(config.vocab, width, config.padding)?,
            positions: config.positions.map(positions).transpose()?,
            types: config.types.map(|(_, count)| table(count, early, fixed)).transpose()?,
            norm: config.norm.map(|(_, norm)| Norm::new(norm, early, build)).transpose()?,
            project: project.map(linear).transpose()?,
            dropout: Dropout::new(config.dropout)?,
            config,
        })
    }

    /// The table of words.
    pub fn word(&self) -> &Param {
        &self.word.weight
    }

    /// The table of positions.
    pub fn positions(&self) -> Option<&Param> {
        self.positions.as_ref().map(|table| &table.weight)
    }

    /// The vectors of ids alone, scaled.
    ///
    /// # Errors
    /// If an id is outside the vocabulary.
    pub fn words(&self, ids: &Tensor) -> Result<Tensor> {
        let words = self.word.forward(ids)?;
        if self.config.scale == 1.0 { Ok(words) } else { Ok(words.mul_scalar(self.config.scale)?) }
    }

    /// Vectors `[batch, length, width]` of a text, of which the first token stands at position `offset`.
    ///
    /// # Errors
    /// If shapes do not fit, the text is too long, or an id is outside its table.
    pub fn forward(&self, input: &TextInput, offset: usize) -> Result<Tensor> {
        let first = self.config.project.is_some_and(|project| project.first);
        let projected = |x: Tensor, now: bool| match &self.project {
            Some(layer) if now => layer.forward(&x),
            _ => Ok(x),
        };
        let mut x = projected(self.words(input.ids)?, first)?;
        if let (Some(table), Some(config)) = (&self.positions, self.config.positions) {
            x = x.add(&positions(table, config, input, offset)?)?;
        }
        if let Some(table) = &self.types {
            let types = match input.types {
                Some(types) => table.forward(types)?,
                None if self.config.first_fixed => table.weight.tensor().detach().narrow(0, 0, 1)?,
                None => table.weight.tensor().narrow(0, 0, 1)?,
            };
            x = x.add(&types)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        projected(self.dropout.forward(&x)?, !first)
    }
}

/// Vectors of positions, `[batch or 1, length, width]`.
fn positions(table: &Embedding, config: PositionsConfig, input: &TextInput, offset: usize) -> Result<Tensor> {
    let PositionsConfig { count, rule, .. } = config;
    let [_, length] = input.sizes()?;
    let reserved = rule.reserved();
    let most = count.saturating_sub(reserved);
    if offset + length > most {
        return Err(Error::argument("ids", format!("{} tokens, but the model has {most} positions", offset + length)));
    }
    if let Some(positions) = input.positions {
        return Ok(table.forward(positions)?);
    }
    let real = match rule {
        PositionRule::Count => None,
        PositionRule::AfterPadding(pad) => {
            let pad = Tensor::scalar(pad as f64, input.ids.dtype(), input.ids.device())?;
            Some(input.ids.ne(&pad)?)
        }
        PositionRule::Real => input.real()?,
    };
    match real {
        None if table.padding_idx.is_some() => Ok(table.forward(&input.counted(reserved + offset)?)?),
        None => Ok(table.weight.tensor().narrow(0, reserved + offset, length)?.unsqueeze(0)?),
        Some(real) => {
            let real = real.cast(DType::I32)?;
            let before = reserved as f64 - 1.0;
            let places = real.cumsum(1)?.mul(&real)?.add_scalar(before)?;
            // With a cache, those of the tokens of this pass.
            let known = places.size(1)?;
            Ok(table.forward(&places.narrow(1, known.saturating_sub(length), length)?)?)
        }
    }
}

impl Module for Embeddings {
    fn visit(&self, v: &mut Visitor<'_>) {
        let EmbeddingsConfig { word, positions, types, norm, project, .. } = self.config;
        v.module(word, &self.word);
        if let (Some(config), Some(table)) = (positions, &self.positions) {
            v.module(config.name, table);
        }
        if let (Some((name, _)), Some(table)) = (types, &self.types) {
            v.module(name, table);
        }
        if let (Some((name, _)), Some(norm)) = (norm, &self.norm) {
            v.module(name, norm);
        }
        if let (Some(config), Some(layer)) = (project, &self.project) {
            v.module(config.name, layer);
        }
        v.module("", &self.dropout);
    }
}
