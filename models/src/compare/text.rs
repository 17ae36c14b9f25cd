//! Text as bytes, in rows that any step can be asked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wgrad::rng::Philox;
use wgrad::{Device, Tensor};

use crate::front::corpus::Corpus;
use crate::front::synthetic::below;
use crate::{Error, Result, fsx};

/// The text of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    train: String,
    held_out: String,
}

/// Which part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is learned.
    Train,
    /// What is measured on.
    HeldOut,
}

impl Bytes {
    /// The text of these files, or of the project.
    ///
    /// # Errors
    /// If a file cannot be read, or the text is too little for rows of this length.
    pub fn read(paths: &[PathBuf], length: usize) -> Result<Self> {
        Self::of(&if paths.is_empty() { Corpus::of_project()? } else { Corpus::read(paths)? }, length)
    }

    /// The text of a corpus.
    ///
    /// # Errors
    /// If it is too little for rows of this length.
    pub fn of(corpus: &Corpus, length: usize) -> Result<Self> {
        let bytes = Bytes { train: corpus.train.join("\n"), held_out: corpus.held_out.join("\n") };
        let least = bytes.train.len().min(bytes.held_out.len());
        match least > length + 1 {
            true => Ok(bytes),
            false => Err(Error::text(format!("{least} bytes are too few for rows of {length}"))),
        }
    }

    /// The text that a comparison was begun with.
    ///
    /// # Errors
    /// If the file is missing or damaged.
    pub fn load(path: &Path) -> Result<Self> {
        serde_json::from_str(&fsx::read_text(path)?).map_err(|e| Error::file(path, e))
    }

    /// Batch `number`: bytes, and the bytes after them, `[rows, length]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn batch(
        &self,
        part: Part,
        [rows, length]: [usize; 2],
        seed: u64,
        number: u64,
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let text = if part == Part::Train { self.train.as_bytes() } else { self.held_out.as_bytes() };
        let mut rng = Philox::new(seed, (part as u64 + 1) << 32 | number);
        let starts: Vec<usize> = (0..rows).map(|_| below(text.len().saturating_sub(length), &mut rng)).collect();
        let at = |shift: usize| {
            let bytes = starts.iter().flat_map(|&start| &text[start + shift..start + shift + length]);
            Tensor::from_vec(bytes.map(|&byte| i32::from(byte)).collect(), &[starts.len(), length], device)
        };
        Ok((at(0)?, at(1)?))
    }
}
