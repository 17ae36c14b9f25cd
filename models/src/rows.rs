//! Rows of a text that a language model learns from: a causal one the next token, a masked one masked tokens, one that writes a text for another
//! how a text goes on.

use wgrad::rng::Philox;
use wgrad::{DType, Device, Tensor};

use crate::corrupt::mlm::{Mlm, Row};
use crate::front::embeddings::TextInput;
use crate::zoo::{Task, TextModel};
use crate::{Error, Result};

/// Share of a text that is held out.
const HELD_OUT: usize = 10;

/// A text of tokens in two parts.
#[derive(Debug, Clone, Copy)]
pub struct Split<'a> {
    /// What is learned.
    pub train: &'a [u32],
    /// What is measured on.
    pub held_out: &'a [u32],
}

impl<'a> Split<'a> {
    /// A text of which the last tenth is held out.
    pub fn last_tenth(ids: &'a [u32]) -> Self {
        let (train, held_out) = ids.split_at(ids.len() - ids.len() / HELD_OUT);
        Split { train, held_out }
    }
}

/// What a model learns of a row.
enum Objective {
    /// Each token from those before it.
    Next,
    /// Masked tokens from the others.
    Masked(Mlm),
    /// The second half from the first, and each of its tokens from those before it: the prefix language modelling of T5's paper.
    Rest,
}

/// How rows become a loss.
pub struct Rows<'a> {
    objective: Objective,
    length: usize,
    device: &'a Device,
}

impl<'a> Rows<'a> {
    /// Rows of `length` tokens for a model. `mask` is the token that hides one, which a masked language model needs.
    ///
    /// # Errors
    /// If the model predicts no text, or has fewer positions.
    pub fn new(model: &dyn TextModel, mask: Option<u32>, length: usize, device: &'a Device) -> Result<Self> {
        let about = model.about();
        let objective = match (about.task, mask) {
            (Task::CausalLm, _) => Objective::Next,
            (Task::Seq2Seq, _) => Objective::Rest,
            (Task::MaskedLm, Some(mask)) => Objective::Masked(Mlm::bert(mask, about.vocab)),
            (Task::MaskedLm, None) => {
                return Err(Error::config("training takes a tokenizer with a token [MASK] or <mask>"));
            }
            _ => {
                return Err(about
                    .config
                    .error("an encoder without a head or a detector predicts no text to be trained on"));
            }
        };
        Self::with(model, objective, length, device)
    }

    /// Rows for any model of text, which are only [read](Self::read).
    ///
    /// # Errors
    /// If it has fewer positions.
    pub fn unlabelled(model: &dyn TextModel, length: usize, device: &'a Device) -> Result<Self> {
        Self::with(model, Objective::Next, length, device)
    }

    fn with(model: &dyn TextModel, objective: Objective, length: usize, device: &'a Device) -> Result<Self> {
        let about = model.about();
        if about.longest.is_some_and(|longest| length > longest) {
            return Err(Error::argument("length", format!("{length} tokens, but the model has fewer positions")));
        }
        Ok(Rows { objective, length, device })
    }

    /// Errs if a part of a text has no row.
    ///
    /// # Errors
    /// Says how many tokens there are.
    pub fn fit(&self, text: Split) -> Result<()> {
        let (train, held_out, length) = (text.train.len(), text.held_out.len(), self.length);
        if length < 2 || train <= length || held_out <= length {
            let message = format!("{train} tokens and {held_out} held out, too few for rows of {length}");
            return Err(Error::text(message));
        }
        Ok(())
    }

    /// Where `count` rows begin that are drawn from a text.
    pub fn draw(&self, text: &[u32], count: usize, rng: &mut Philox) -> Vec<usize> {
        let room = text.len().saturating_sub(self.length) as u32 + 1;
        (0..count).map(|_| rng.below(room) as usize).collect()
    }

    /// Where `count` rows begin that are spread evenly over a text.
    pub fn spread(&self, text: &[u32], count: usize) -> Vec<usize> {
        (0..count).map(|row| row * text.len().saturating_sub(self.length) / count).collect()
    }

    /// Hidden states of the rows that begin at `starts`, nothing masked; of a model that writes one text for another, those of the second half.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn read(&self, model: &dyn TextModel, text: &[u32], starts: &[usize]) -> Result<Tensor> {
        Ok(self.states(model, text, starts, None)?.0)
    }

    fn row<'b>(&self, text: &'b [u32], start: usize) -> Result<&'b [u32]> {
        let row = text.get(start..start + self.length);
        row.ok_or_else(|| Error::text(format!("a row from {start} on in {} tokens", text.len())))
    }

    /// The loss of a model on the rows that begin at `starts`. What is masked comes from `rng`.
    ///
    /// # Errors
    /// If a row ends beyond the text, an id is outside the vocabulary, or the device fails.
    pub fn loss(
        &self,
        model: &dyn TextModel,
        text: &[u32],
        starts: Vec<usize>,
        rng: &mut Philox,
        step: u64,
    ) -> Result<Tensor> {
        let (states, labels) = self.states(model, text, &starts, Some((rng, step)))?;
        model.loss(&model.logits(&states)?.cast(DType::F32)?, &labels, None)
    }

    /// The hidden states from which a model predicts the rows that begin at `starts`, and the labels that it should predict. What is masked
    /// comes from a generator, at a step of the training; without one, nothing is.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn states(
        &self,
        model: &dyn TextModel,
        text: &[u32],
        starts: &[usize],
        mut masked: Option<(&mut Philox, u64)>,
    ) -> Result<(Tensor, Tensor)> {
        let (mut ids, mut labels): (Vec<u32>, Vec<i32>) = Default::default();
        for &start in starts {
            let row = self.row(text, start)?;
            let (read, predicted) = match (&self.objective, &mut masked) {
                (Objective::Rest, _) => row.split_at(row.len() / 2),
                (Objective::Masked(mlm), Some((rng, step))) => {
                    let (special, word_start) = (vec![false; row.len()], vec![true; row.len()]);
                    let row = Row { ids: row, special: &special, word_start: &word_start };
                    let corrupted = mlm.corrupt(row, *step, rng)?;
                    ids.extend(corrupted.input_ids);
                    labels.extend(corrupted.labels);
                    continue;
                }
                _ => (row, row),
            };
            ids.extend(read);
            labels.extend(predicted.iter().map(|&id| id as i32));
        }
        let (rows, count) = (starts.len(), starts.len().max(1));
        let (read, predicted) = ([rows, ids.len() / count], [rows, labels.len() / count]);
        let ids = Tensor::from_vec(ids, &read, self.device)?;
        let labels = Tensor::from_vec(labels, &predicted, self.device)?;
        Ok((model.states(&TextInput::new(&ids), &labels)?, labels))
    }
}
