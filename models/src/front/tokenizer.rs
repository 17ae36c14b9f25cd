//! Word pieces: training, reading and writing a tokenizer with BERT's special tokens in Hugging Face's `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer,
};

use crate::{Error, Result};

/// The special tokens in the order of their ids in a trained vocabulary.
pub(super) const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Marks a piece that continues a word.
const CONTINUES: &str = "##";
/// A word piece has to occur so often in the text.
pub(super) const MIN_COUNT: u64 = 2;
/// Smallest vocabulary: room for the special tokens, some characters and some pieces.
const MIN_VOCAB: usize = 64;

/// Ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// Fills rows up to their length.
    pub pad: u32,
    /// Stands for a word with an unknown character.
    pub unk: u32,
    /// Begins a row.
    pub cls: u32,
    /// Ends a segment.
    pub sep: u32,
    /// Stands for a token to predict.
    pub mask: u32,
}

/// A tokenizer with BERT's special tokens: BERT's word pieces, or pieces of bytes.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialIds,
}

impl Tokenizer {
    /// Learns at most `vocab_size` word pieces from `texts`. The result depends on the words and their counts alone.
    pub fn train(texts: &[String], vocab_size: usize, lowercase: bool) -> Result<Self> {
        let normalizer = BertNormalizer::new(true, true, None, lowercase);
        let split = |text: &str| {
            let mut normalized = NormalizedString::from(text);
            normalizer.normalize(&mut normalized)?;
            let mut words = PreTokenizedString::from(normalized);
            BertPreTokenizer.pre_tokenize(&mut words)?;
            Ok(words)
        };
        let counts = count_words(texts, split)?;
        let model = learn(&counts, vocab_size)?;
        let special = SPECIAL.map(|name| AddedToken::from(name, true));
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_normalizer(Some(normalizer)).map_err(text_error)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.with_decoder(Some(WordPieceDecoder::default()));
        inner.add_special_tokens(special).map_err(text_error)?;
        let template = TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")
            .and_then(|builder| builder.try_pair("[CLS] $A [SEP] $B:1 [SEP]:1"))
            .map_err(Error::text)?
            .special_tokens(vec![("[CLS]", 2), ("[SEP]", 3)])
            .build()
            .map_err(text_error)?;
        inner.with_post_processor(Some(template));
        Self::from_inner(inner, "the trained tokenizer".as_ref())
    }

    /// Reads a `tokenizer.json`, which must know BERT's five special tokens.
    pub fn load(path: &Path) -> Result<Self> {
        let text = crate::fsx::read_text(path)?;
        let mut inner: tokenizers::Tokenizer = text.parse().map_err(|error| Error::file(path, error))?;
        // Rows are cut and filled by the caller, whatever the file says.
        inner.with_truncation(None).map_err(text_error)?;
        inner.with_padding(None);
        Self::from_inner(inner, path)
    }

    pub(super) fn from_inner(inner: tokenizers::Tokenizer, path: &Path) -> Result<Self> {
        let id = |name: &str| {
            inner
                .token_to_id(name)
                .ok_or_else(|| Error::file(path, format!("the vocabulary has no special token {name}")))
        };
        let [pad, unk, cls, sep, mask] = SPECIAL.map(id);
        let special = SpecialIds { pad: pad?, unk: unk?, cls: cls?, sep: sep?, mask: mask? };
        Ok(Self { inner, special })
    }

    /// Writes a `tokenizer.json` that Hugging Face's libraries read, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::fsx::write(path, self.to_json()?.as_bytes())
    }

    /// What [`save`](Self::save) writes.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(text_error)
    }

    /// What it is made of.
    pub(super) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        // Ids may have gaps in files of others: a table indexed by id needs room up to the largest.
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// Ids of the special tokens.
    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// Whether `id` is one of the five special tokens.
    pub fn is_special(&self, id: u32) -> bool {
        let SpecialIds { pad, unk, cls, sep, mask } = self.special;
        [pad, unk, cls, sep, mask].contains(&id)
    }

    /// For each id of the vocabulary whether its piece begins a word.
    pub fn word_starts(&self) -> Vec<bool> {
        (0..self.vocab_size() as u32)
            .map(|id| self.token(id).is_none_or(|piece| !piece.starts_with(CONTINUES)))
            .collect()
    }

    /// The piece with this id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Ids of `text` between `[CLS]` and `[SEP]`. A `[MASK]` in the text is the special token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, true).map_err(text_error)?.get_ids().to_vec())
    }

    /// Ids of each of `texts` without special tokens; what looks like one, such as `[MASK]`, is plain text here.
    pub fn encode_plain(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let mut plain = self.inner.clone();
        plain.set_encode_special_tokens(true);
        let inputs = texts.iter().map(String::as_str).collect();
        let encodings = plain.encode_batch_fast(inputs, false).map_err(text_error)?;
        Ok(encodings.into_iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Text of `ids`, without the special tokens if `skip_special`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(text_error)
    }
}

pub(super) fn text_error(error: impl ToString) -> Error {
    Error::text(error.to_string())
}

/// The words of the texts as the tokenizer will see them, with their counts.
pub(super) fn count_words(
    texts: &[String],
    split: impl Fn(&str) -> tokenizers::Result<PreTokenizedString>,
) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for text in texts {
        let words = split(text).map_err(text_error)?;
        for (word, ..) in words.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    }
    Ok(counts)
}

/// Merges the most frequent pairs of pieces until there are `vocab_size` of them.
fn learn(counts: &BTreeMap<String, u64>, vocab_size: usize) -> Result<WordPiece> {
    if vocab_size < MIN_VOCAB {
        return Err(Error::argument(
            "vocab",
            format!("{vocab_size} word pieces given, but at least {MIN_VOCAB} are needed"),
        ));
    }
    // Single characters, once as a beginning and once as a continuation, take half of the vocabulary at most.
    let alphabet = alphabet(counts, vocab_size / 4);
    if alphabet.is_empty() {
        return Err(Error::text("there is no word in the text to learn word pieces from"));
    }
    let continuing: BTreeSet<char> =
        counts.keys().flat_map(|word| word.chars().skip(1)).filter(|c| alphabet.contains(c)).collect();
    // The trainer numbers pieces in the order in which a hash map gives them, and breaks ties by these numbers. Naming all
    // single characters in advance fixes the numbers, so that the same text gives the same vocabulary.
    let continuing = continuing.into_iter().map(|c| format!("{CONTINUES}{c}"));
    let first: Vec<AddedToken> =
        SPECIAL.map(String::from).into_iter().chain(continuing).map(|name| AddedToken::from(name, true)).collect();
    let mut trainer = WordPieceTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(MIN_COUNT)
        .special_tokens(first)
        .limit_alphabet(alphabet.len())
        .initial_alphabet(alphabet)
        .show_progress(false)
        .build();
    let repeat = |word: &str| Ok(vec![word.to_owned(); counts.get(word).map_or(0, |&count| count as usize)]);
    trainer.feed(counts.keys(), repeat).map_err(text_error)?;
    let mut model = WordPiece::default();
    trainer.train(&mut model).map_err(text_error)?;
    Ok(model)
}

/// The `limit` most frequent characters, of equally frequent ones the first by code.
fn alphabet(counts: &BTreeMap<String, u64>, limit: usize) -> HashSet<char> {
    let mut characters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for c in word.chars() {
            *characters.entry(c).or_default() += count;
        }
    }
    let mut ranked: Vec<(char, u64)> = characters.into_iter().collect();
    ranked.sort_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    ranked.into_iter().take(limit).map(|(c, _)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        let words = ["norm", "normal", "normalize", "normalization", "layer", "layers", "token", "tokenizer", "tokens"];
        (0..200)
            .map(|n| format!("The {} of {} sees {}, {}.", words[n % 9], words[n * 7 % 9], words[n * 5 % 9], n % 13))
            .collect()
    }

    #[test]
    fn pieces_round_trip_and_specials_are_in_place() {
        let tokenizer = Tokenizer::train(&texts(), 300, true).unwrap();
        let special = SpecialIds { pad: 0, unk: 1, cls: 2, sep: 3, mask: 4 };
        assert_eq!(tokenizer.special(), special);
        let ids = tokenizer.encode("The normalization of [MASK] layers.").unwrap();
        assert_eq!((ids[0], ids[ids.len() - 1]), (special.cls, special.sep));
        assert_eq!(ids.iter().filter(|&&id| id == special.mask).count(), 1);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "the normalization of layers.");
        let plain = tokenizer.encode_plain(&["see the [MASK]".into()]).unwrap();
        assert!(!plain[0].contains(&special.mask) && !plain[0].contains(&special.cls));
        assert!(tokenizer.encode("\u{4e2d}").unwrap().contains(&special.unk));
    }

    #[test]
    fn word_starts_follow_the_pieces() {
        let tokenizer = Tokenizer::train(&texts(), 160, true).unwrap();
        let starts = tokenizer.word_starts();
        assert_eq!(starts.len(), tokenizer.vocab_size());
        let ids = tokenizer.encode_plain(&["tokenizes norm".into()]).unwrap().remove(0);
        assert!(ids.len() > 2 && !ids.contains(&tokenizer.special().unk));
        assert_eq!(ids.iter().filter(|&&id| starts[id as usize]).count(), 2);
    }

    #[test]
    fn the_same_text_gives_the_same_vocabulary() {
        let first = Tokenizer::train(&texts(), 200, true).unwrap().to_json().unwrap();
        for _ in 0..10 {
            assert_eq!(Tokenizer::train(&texts(), 200, true).unwrap().to_json().unwrap(), first);
        }
    }

    #[test]
    fn saved_file_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let tokenizer = Tokenizer::train(&texts(), 200, false).unwrap();
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        let text = "The tokenizer, The layers";
        assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        assert_eq!(loaded.to_json().unwrap(), tokenizer.to_json().unwrap());
    }

    #[test]
    fn bad_files_and_sizes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{").unwrap();
        assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("tokenizer.json"));
        let json = Tokenizer::train(&texts(), 200, true).unwrap().to_json().unwrap();
        std::fs::write(&path, json.replace("[MASK]", "[OTHER]")).unwrap();
        let sentence = Tokenizer::load(&path).unwrap_err().to_string();
        assert!(sentence.contains("no special token [MASK]"), "{sentence}");
        let small = Tokenizer::train(&texts(), 10, true).unwrap_err().to_string();
        assert!(small.contains("10 word pieces"), "{small}");
        assert!(Tokenizer::train(&[], 100, true).is_err());
    }
}
