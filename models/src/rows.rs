//! Rows of a text that a language model learns from: a causal one the next token, a masked one masked tokens.

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

/// How rows become a loss.
pub struct Rows<'a> {
    masking: Option<Mlm>,
    length: usize,
    device: &'a Device,
}

impl<'a> Rows<'a> {
    /// Rows of `length` tokens for a model. `mask` is the token that hides one, which a masked language model needs.
    ///
    /// # Errors
    /// If the model is not a language model, or has fewer positions.
    pub fn new(model: &dyn TextModel, mask: Option<u32>, length: usize, device: &'a Device) -> Result<Self> {
        let about = model.about();
        let masking = match (about.task, mask) {
            (Task::CausalLm, _) => None,
            (Task::MaskedLm, Some(mask)) => Some(Mlm::bert(mask, about.vocab)),
            (Task::MaskedLm, None) => {
                return Err(Error::config("training takes a tokenizer with a token [MASK] or <mask>"));
            }
            _ => return Err(about.config.error("only causal and masked language models can be trained further")),
        };
        Self::with(model, masking, length, device)
    }

    /// Rows for any model of text, which are only [read](Self::read).
    ///
    /// # Errors
    /// If it has fewer positions.
    pub fn unlabelled(model: &dyn TextModel, length: usize, device: &'a Device) -> Result<Self> {
        Self::with(model, None, length, device)
    }

    fn with(model: &dyn TextModel, masking: Option<Mlm>, length: usize, device: &'a Device) -> Result<Self> {
        let about = model.about();
        if about.longest.is_some_and(|longest| length > longest) {
            return Err(Error::argument("length", format!("{length} tokens, but the model has fewer positions")));
        }
        Ok(Rows { masking, length, device })
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

    /// Hidden states `[rows, length, hidden]` of the rows that begin at `starts`, nothing masked.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn read(&self, model: &dyn TextModel, text: &[u32], starts: &[usize]) -> Result<Tensor> {
        let mut ids: Vec<u32> = Vec::with_capacity(starts.len() * self.length);
        for &start in starts {
            ids.extend(self.row(text, start)?);
        }
        let ids = Tensor::from_vec(ids, &[starts.len(), self.length], self.device)?;
        model.encode(&TextInput::new(&ids))
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
        let shape = [starts.len(), self.length];
        let (mut ids, mut labels): (Vec<u32>, Vec<i32>) = Default::default();
        for start in starts {
            let row = self.row(text, start)?;
            match &self.masking {
                None => {
                    ids.extend(row);
                    labels.extend(row.iter().map(|&id| id as i32));
                }
                Some(mlm) => {
                    let (special, word_start) = (vec![false; row.len()], vec![true; row.len()]);
                    let corrupted =
                        mlm.corrupt(Row { ids: row, special: &special, word_start: &word_start }, step, rng)?;
                    ids.extend(corrupted.input_ids);
                    labels.extend(corrupted.labels);
                }
            }
        }
        let ids = Tensor::from_vec(ids, &shape, self.device)?;
        let labels = Tensor::from_vec(labels, &shape, self.device)?;
        let logits = model.logits(&model.encode(&TextInput::new(&ids))?)?.cast(DType::F32)?;
        model.loss(&logits, &labels, None)
    }
}
