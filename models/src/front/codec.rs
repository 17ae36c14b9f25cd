//! Texts as token ids and back, by whatever tokenizer a folder holds.

use std::path::Path;

use crate::front::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What the token that stands for a word to fill may be called.
const MASKS: [&str; 2] = ["[MASK]", "<mask>"];

/// What the token at the end of a text may be called.
const ENDS: [&str; 2] = ["[SEP]", "</s>"];

/// The tokenizer of a Hugging Face folder. Without one, texts are token ids in digits.
pub struct Codec(Option<tokenizers::Tokenizer>);

impl Codec {
    /// Reads `tokenizer.json` of a folder, if it is there.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Ok(Codec(None));
        }
        let mut inner: tokenizers::Tokenizer =
            crate::fsx::read_text(&path)?.parse().map_err(|error| Error::file(&path, error))?;
        // Rows are cut and filled by the caller, whatever the file says.
        inner.with_truncation(None).map_err(text_error)?;
        inner.with_padding(None);
        Ok(Codec(Some(inner)))
    }

    /// Ids of a text, with the special tokens that the tokenizer puts around one, if they are wanted. A special token in the text is one.
    ///
    /// # Errors
    /// If the text cannot be tokenized, or, without a tokenizer, is not of ids.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let Some(inner) = &self.0 else {
            let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
            let id = |word: &str| {
                word.parse()
                    .map_err(|_| Error::text(format!("{word:?} is no token id, and the folder has no tokenizer.json")))
            };
            return words.map(id).collect();
        };
        Ok(inner.encode_fast(text, special).map_err(text_error)?.get_ids().to_vec())
    }

    /// Ids of a text with special tokens around it, and for each whether it is of the text.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_marked(&self, text: &str) -> Result<(Vec<u32>, Vec<bool>)> {
        let Some(inner) = &self.0 else {
            let ids = self.encode(text, true)?;
            let all = vec![true; ids.len()];
            return Ok((ids, all));
        };
        let encoding = inner.encode(text, true).map_err(text_error)?;
        let plain = encoding.get_special_tokens_mask().iter().map(|&special| special == 0);
        Ok((encoding.get_ids().to_vec(), plain.collect()))
    }

    /// Text of ids, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot join them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match &self.0 {
            Some(inner) => inner.decode(ids, true).map_err(text_error),
            None => Ok(ids.iter().map(|id| format!("{id} ")).collect()),
        }
    }

    /// The token of an id as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> String {
        let name = self.0.as_ref().and_then(|inner| inner.id_to_token(id));
        name.unwrap_or_else(|| if self.0.is_some() { format!("[{id}]") } else { id.to_string() })
    }

    /// Name and id of the token that stands for a word to fill, if there is one.
    pub fn mask(&self) -> Option<(&'static str, u32)> {
        MASKS.into_iter().find_map(|name| Some((name, self.0.as_ref()?.token_to_id(name)?)))
    }

    /// Ids of texts one after another, each ended by `[SEP]` or `</s>` if there is such a token, else by a line break. Without a tokenizer
    /// texts have no ends.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_all(&self, texts: &[String]) -> Result<Vec<u32>> {
        let end = ENDS.into_iter().find_map(|name| self.0.as_ref()?.token_to_id(name));
        let mut ids = Vec::new();
        for text in texts {
            match end {
                Some(end) => {
                    ids.extend(self.encode(text, false)?);
                    ids.push(end);
                }
                None => ids.extend(self.encode(&format!("{text}\n"), false)?),
            }
        }
        Ok(ids)
    }

    /// One more than the largest id; None without a tokenizer.
    pub fn size(&self) -> Option<usize> {
        let largest = self.0.as_ref()?.get_vocab(true).into_values().max();
        Some(largest.map_or(0, |id| id as usize + 1))
    }
}

impl From<&Tokenizer> for Codec {
    fn from(tokenizer: &Tokenizer) -> Self {
        Codec(Some(tokenizer.inner().clone()))
    }
}

fn text_error(error: impl ToString) -> Error {
    Error::text(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tokenizer_texts_are_ids() {
        let folder = tempfile::tempdir().unwrap();
        let codec = Codec::open(folder.path()).unwrap();
        assert_eq!(codec.encode(" 3, 14 15\n", true).unwrap(), [3, 14, 15]);
        assert_eq!(codec.decode(&[3, 14]).unwrap(), "3 14 ");
        assert!(codec.encode("a word", true).unwrap_err().to_string().contains("tokenizer.json"));
        assert_eq!((codec.mask(), codec.size(), codec.token(7)), (None, None, "7".into()));
        std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert!(Codec::open(folder.path()).is_err());
    }
}
