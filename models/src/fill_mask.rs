//! Filling the `[MASK]` tokens of a sentence.

use std::path::Path;

use serde::Serialize;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::front::codec::Codec;
use crate::front::embeddings::TextInput;
use crate::zoo::{self, Model, Task};
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
    model: Model,
    codec: Codec,
    /// Name and id of the token to fill.
    mask: (&'static str, u32),
    /// How many tokens there are to choose from.
    pieces: usize,
    device: Device,
}

impl MaskFiller {
    /// Pairs a model with its tokenizer.
    ///
    /// # Errors
    /// If the model fills no masks, or the tokenizer has no token for them, or ids that the model has no embedding for.
    pub fn new(model: Model, codec: Codec, device: &Device) -> Result<Self> {
        let about = model.text()?.about();
        if about.task != Task::MaskedLm {
            return Err(about.config.error("the model fills no masks"));
        }
        let rows = about.vocab;
        let (Some(mask), Some(pieces)) = (codec.mask(), codec.size()) else {
            return Err(Error::config("filling masks takes a tokenizer with a token [MASK] or <mask>"));
        };
        if pieces > rows {
            return Err(Error::config(format!("the tokenizer has {pieces} pieces, the model {rows}")));
        }
        model.module().train(false);
        Ok(MaskFiller { model, codec, mask, pieces, device: device.clone() })
    }

    /// Loads a Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`.
    ///
    /// # Errors
    /// If a file is missing or damaged, or they do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let codec = Codec::open(folder)?;
        Self::new(zoo::load(folder, DType::F32, device)?, codec, device)
    }

    /// Fills every `[MASK]` of a sentence with its `top` likeliest tokens, each mask by itself.
    ///
    /// # Errors
    /// If there is no mask, or the sentence is too long for the model.
    pub fn fill(&self, sentence: &str, top: usize) -> Result<Filled> {
        let (name, mask) = self.mask;
        let mut ids = self.codec.encode(&sentence.replace("[MASK]", name), true)?;
        let places: Vec<u32> = (0u32..).zip(&ids).filter(|&(_, &id)| id == mask).map(|(i, _)| i).collect();
        if places.is_empty() {
            return Err(Error::text(format!("{sentence:?} holds no [MASK] to fill")));
        }
        let model = self.model.text()?;
        let logits = no_grad(|| {
            let input = Tensor::from_slice(&ids, &[1, ids.len()], &self.device)?;
            let hidden = model.encode(&TextInput::new(&input))?.flatten(0, 1)?;
            let positions = Tensor::from_slice(&places, &[places.len()], &self.device)?;
            model.logits(&hidden.index_select(0, &positions)?)
        })?;
        let wide = top.clamp(1, self.pieces);
        let (values, tokens) = logits.narrow(-1, 0, self.pieces)?.softmax(-1)?.topk(wide, -1, true)?;
        let (values, tokens) = (values.to_f64_vec()?, tokens.to_vec::<u32>()?);
        let mut masks = Vec::with_capacity(places.len());
        for (place, (values, tokens)) in places.iter().zip(values.chunks(wide).zip(tokens.chunks(wide))) {
            ids[*place as usize] = tokens[0];
            let candidate = |(id, &probability): (&u32, &f64)| Candidate { token: self.codec.token(*id), probability };
            masks.push(tokens.iter().zip(values).map(candidate).collect());
        }
        Ok(Filled { sentence: sentence.to_string(), filled: self.codec.decode(&ids)?, masks })
    }
}
