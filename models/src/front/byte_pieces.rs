//! Pieces of bytes, as GPT-2's tokenizer has them (Radford et al., 2019, section 2.2): every text can be written with them, and they give it
//! back as it was.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, PreTokenizedString, PreTokenizer, Trainer};

use super::tokenizer::{MIN_COUNT, SPECIAL, Tokenizer, count_words, text_error};
use crate::{Error, Result};

/// Smallest vocabulary: the special tokens and each byte.
const LEAST: usize = SPECIAL.len() + 256;

impl Tokenizer {
    /// Learns at most `vocab_size` pieces from `texts`: all bytes, and what the commonest pairs of pieces are merged to. With no room for
    /// merges each byte is a token. No special tokens stand around a text. The result depends on the words and their counts alone.
    ///
    /// # Errors
    /// If there is no room for all bytes, or no word in the texts.
    pub fn train_bytes(texts: &[String], vocab_size: usize) -> Result<Self> {
        if vocab_size < LEAST {
            let message = format!("{vocab_size} pieces given, but bytes and special tokens are {LEAST}");
            return Err(Error::argument("vocab", message));
        }
        let bytes = ByteLevel::new(false, true, true);
        let counts = count_words(texts, |text| {
            let mut words = PreTokenizedString::from(text);
            bytes.pre_tokenize(&mut words)?;
            Ok(words)
        })?;
        if counts.is_empty() {
            return Err(Error::text("there is no word in the text to learn pieces from"));
        }
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(MIN_COUNT)
            .special_tokens(SPECIAL.map(|name| AddedToken::from(name, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build();
        let repeat = |word: &str| Ok(vec![word.to_owned(); counts.get(word).map_or(0, |&count| count as usize)]);
        trainer.feed(counts.keys(), repeat).map_err(text_error)?;
        let mut model = BPE::default();
        trainer.train(&mut model).map_err(text_error)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(bytes));
        inner.with_decoder(Some(bytes));
        inner.add_special_tokens(SPECIAL.map(|name| AddedToken::from(name, true))).map_err(text_error)?;
        Self::from_inner(inner, "the trained tokenizer".as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        let words = ["norm", "Normal", "normalize", "layer_norm", "layers", "token", "tokenizer"];
        (0..200).map(|n| format!("The {} of {}, \u{e9}{}", words[n % 7], words[n * 5 % 7], n % 13)).collect()
    }

    #[test]
    fn any_text_comes_back_as_it_was() {
        for size in [LEAST, 280] {
            let tokenizer = Tokenizer::train_bytes(&texts(), size).unwrap();
            assert_eq!(tokenizer.vocab_size(), size);
            for text in ["The normalizer,  of\n\tlayers", "\u{4e2d}\u{1f600} [SEP] don't", ""] {
                let ids = tokenizer.encode_plain(&[text.to_string()]).unwrap().remove(0);
                assert!(ids.iter().all(|&id| !tokenizer.is_special(id) && (id as usize) < size), "{text}: {ids:?}");
                assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
                assert!(size > LEAST || ids.len() == text.len(), "{text}: {ids:?}");
            }
        }
        let merged = Tokenizer::train_bytes(&texts(), 300).unwrap();
        assert!(merged.encode("The normalize").unwrap().len() < 6, "nothing stands around it, and pieces are long");
    }

    #[test]
    fn the_same_text_gives_the_same_pieces_and_files() {
        let first = Tokenizer::train_bytes(&texts(), 320).unwrap().to_json().unwrap();
        for _ in 0..10 {
            assert_eq!(Tokenizer::train_bytes(&texts(), 320).unwrap().to_json().unwrap(), first);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, &first).unwrap();
        assert_eq!(Tokenizer::load(&path).unwrap().to_json().unwrap(), first);
    }

    #[test]
    fn no_room_and_no_text_are_said() {
        let small = Tokenizer::train_bytes(&texts(), 200).unwrap_err().to_string();
        assert!(small.contains("200 pieces") && small.contains("261"), "{small}");
        assert!(Tokenizer::train_bytes(&[], 300).is_err());
    }
}
