//! The text of a run: read and tokenized once, then kept in the run's folder, so that a resumed run sees the same.

use std::path::Path;

use wgrad::io::{Weights, save};
use wgrad::{Device, Tensor};

use super::settings::Settings;
use crate::data::TokenStream;
use crate::front::corpus::Corpus;
use crate::front::tokenizer::Tokenizer;
use crate::{Error, Result, fsx};

const TOKENIZER: &str = "tokenizer.json";
const TOKENS: &str = "tokens.safetensors";
const SHOWCASE: &str = "showcase.json";
/// Held-out sentences kept to be shown with their masks filled.
const SHOWN: usize = 12;

/// Tokenized text, and the tokenizer.
pub struct Text {
    /// The tokenizer, trained on the training part.
    pub tokenizer: Tokenizer,
    /// What is learned.
    pub train: TokenStream,
    /// What is measured on.
    pub held_out: TokenStream,
    /// Held-out sentences for people to look at.
    pub showcase: Vec<String>,
}

impl Text {
    /// The text that the settings name: read, tokenized, and kept in the folder.
    ///
    /// # Errors
    /// If the text cannot be read or is too little, or the folder cannot be written.
    pub fn make(settings: &Settings, folder: &Path) -> Result<Self> {
        let corpus = if settings.text.is_empty() { Corpus::of_project()? } else { Corpus::read(&settings.text)? };
        log::info!("read {} files, {} kB of text", corpus.files, corpus.train_bytes() / 1000);
        let tokenizer = match settings.decoder {
            true => Tokenizer::train_bytes(&corpus.train, settings.vocab)?,
            false => Tokenizer::train(&corpus.train, settings.vocab, true)?,
        };
        let train = TokenStream::new(&corpus.train, &tokenizer, settings.length)?;
        let held_out = TokenStream::new(&corpus.held_out, &tokenizer, settings.length)?;
        let showcase: Vec<String> = corpus.showcase(SHOWN).into_iter().map(str::to_string).collect();
        tokenizer.save(&folder.join(TOKENIZER))?;
        super::settings::write_json(&folder.join(SHOWCASE), &showcase)?;
        let cpu = Device::cpu();
        let tensor = |stream: &TokenStream| Tensor::from_slice(stream.tokens(), &[stream.len()], &cpu);
        let tensors = [("train".to_string(), tensor(&train)?), ("held_out".to_string(), tensor(&held_out)?)];
        save(folder.join(TOKENS), &tensors)?;
        Ok(Text { tokenizer, train, held_out, showcase })
    }

    /// The text that a run in this folder was begun with.
    ///
    /// # Errors
    /// If a file of the folder is missing or damaged.
    pub fn load(settings: &Settings, folder: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::load(&folder.join(TOKENIZER))?;
        let path = folder.join(SHOWCASE);
        let showcase = serde_json::from_str(&fsx::read_text(&path)?).map_err(|e| Error::file(&path, e))?;
        let tokens = Weights::open(folder.join(TOKENS))?;
        let stream = |name: &str| -> Result<TokenStream> {
            let ids = tokens.tensor(name, &Device::cpu())?.to_vec::<u32>()?;
            TokenStream::from_tokens(ids, &tokenizer, settings.length)
        };
        let (train, held_out) = (stream("train")?, stream("held_out")?);
        Ok(Text { tokenizer, train, held_out, showcase })
    }
}
