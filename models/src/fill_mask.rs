//! Filling the `[MASK]` tokens of a sentence.

use std::path::Path;

use serde::Serialize;
use wgrad::nn::Module;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::front::tokenizer::Tokenizer;
use crate::zoo::bert::{BertForMaskedLm, BertInput};
use crate::{Error, Result};

/// A token and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The token as it stands in the vocabulary.
    pub token: String,
    /// Its probability.
    pub probability: f64,
}

/// One sentence with its masks filled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// The sentence as given.
    pub sentence: String,
    /// The sentence with the likeliest token at each mask.
    pub filled: String,
    /// For each mask, in order, its likeliest tokens.
    pub masks: Vec<Vec<Candidate>>,
}

/// A masked language model with its tokenizer.
pub struct MaskFiller {
    model: BertForMaskedLm,
    tokenizer: Tokenizer,
    device: Device,
}

impl MaskFiller {
    /// Pairs a model with its tokenizer.
    ///
    /// # Errors
    /// If the tokenizer has ids that the model has no embedding for.
    pub fn new(model: BertForMaskedLm, tokenizer: Tokenizer, device: &Device) -> Result<Self> {
        let (pieces, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
        if pieces > rows {
            return Err(Error::config(format!("the tokenizer has {pieces} pieces, the model {rows}")));
        }
        model.train(false);
        Ok(MaskFiller { model, tokenizer, device: device.clone() })
    }

    /// Loads a Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.
    ///
    /// # Errors
    /// If a file is missing or damaged, or they do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let model = BertForMaskedLm::load(folder, DType::F32, device)?;
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
        Self::new(model, tokenizer, device)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Fills every `[MASK]` of a sentence with its `top` likeliest tokens, each mask by itself.
    ///
    /// # Errors
    /// If there is no mask, or the sentence is too long for the model.
    pub fn fill(&self, sentence: &str, top: usize) -> Result<Filled> {
        let mut ids = self.tokenizer.encode(sentence)?;
        let special = self.tokenizer.special();
        let places: Vec<u32> = (0u32..).zip(&ids).filter(|&(_, &id)| id == special.mask).map(|(i, _)| i).collect();
        if places.is_empty() {
            return Err(Error::text(format!("{sentence:?} holds no [MASK] to fill")));
        }
        let logits = no_grad(|| {
            let input = Tensor::from_slice(&ids, &[1, ids.len()], &self.device)?;
            let hidden = self.model.encode(BertInput::new(&input))?.flatten(0, 1)?;
            let positions = Tensor::from_slice(&places, &[places.len()], &self.device)?;
            self.model.logits(&hidden.index_select(0, &positions)?)
        })?;
        let pieces = self.tokenizer.vocab_size();
        let (values, tokens) = logits.narrow(-1, 0, pieces)?.softmax(-1)?.topk(top.clamp(1, pieces), -1, true)?;
        let (values, tokens) = (values.to_f64_vec()?, tokens.to_vec::<u32>()?);
        let wide = top.clamp(1, pieces);
        let mut masks = Vec::with_capacity(places.len());
        for (place, (values, tokens)) in places.iter().zip(values.chunks(wide).zip(tokens.chunks(wide))) {
            ids[*place as usize] = tokens[0];
            let name = |&id: &u32| self.tokenizer.token(id).unwrap_or_else(|| format!("[{id}]"));
            let candidate = |(id, &probability): (&u32, &f64)| Candidate { token: name(id), probability };
            masks.push(tokens.iter().zip(values).map(candidate).collect());
        }
        Ok(Filled { sentence: sentence.to_string(), filled: self.tokenizer.decode(&ids, true)?, masks })
    }
}
