//! Rows of a fixed length from a tokenized corpus, in an order that a resumed run finds again.

use serde::{Deserialize, Serialize};
use wgrad::rng::Philox;

use crate::corrupt::mlm::{IGNORE, Mlm, Row};
use crate::front::tokenizer::{SpecialIds, Tokenizer};
use crate::{Error, Result};

/// Streams of random numbers of one seed: these are the upper bits, an epoch or a row stand below.
const STREAM_ORDER: u64 = 1 << 62;
const STREAM_TRAIN: u64 = 2 << 62;
const STREAM_HELD_OUT: u64 = 3 << 62;

/// What the rows of a text ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// The tokens that were hidden, in rows between `[CLS]` and `[SEP]`.
    Masked(Mlm),
    /// After each token the next one, in rows that begin and end anywhere in the text.
    Next,
}

/// A place in the sequence of training rows, to be saved with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Number of the pass over the corpus.
    pub epoch: u32,
    /// Rows of this pass that were already given out.
    pub index: u32,
}

/// Rows for one training step; the vectors hold `rows * length` values, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens in each row.
    pub length: usize,
    /// Token ids as the model sees them.
    pub input_ids: Vec<u32>,
    /// True ids where something is to be predicted, [`IGNORE`] elsewhere.
    pub labels: Vec<i32>,
    /// Tokens of each row that are not padding.
    pub lengths: Vec<u32>,
}

/// A tokenized corpus: the segments one after another, each ended by `[SEP]`.
#[derive(Debug, Clone)]
pub struct TokenStream {
    tokens: Vec<u32>,
    length: usize,
    special: SpecialIds,
    word_starts: Vec<bool>,
}

impl TokenStream {
    /// Tokenizes `segments` for rows of `length` tokens. There must be enough of them for one row at least.
    pub fn new(segments: &[String], tokenizer: &Tokenizer, length: usize) -> Result<Self> {
        if length < 8 {
            return Err(Error::argument("length", format!("{length} tokens given, but a row needs at least 8")));
        }
        let special = tokenizer.special();
        let mut tokens = Vec::new();
        for segment in tokenizer.encode_plain(segments)? {
            tokens.extend(segment);
            tokens.push(special.sep);
        }
        Ok(Self { tokens, length, special, word_starts: tokenizer.word_starts() })
    }

    /// A stream of tokens that were tokenized before, by this tokenizer.
    pub fn from_tokens(tokens: Vec<u32>, tokenizer: &Tokenizer, length: usize) -> Result<Self> {
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
            let pieces = tokenizer.vocab_size();
            return Err(Error::text(format!("token {id} is outside the tokenizer's vocabulary of {pieces}")));
        }
        Ok(Self { tokens, ..Self::new(&[], tokenizer, length)? })
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens, those that end segments included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Up to `count` ids with their shares of the stream, the most frequent first: what one would guess without looking at the context.
    pub fn unigrams(&self, count: usize) -> Vec<(u32, f64)> {
        let mut counts = vec![0u64; self.word_starts.len()];
        let words = || self.tokens.iter().filter(|&&id| id != self.special.sep);
        words().filter_map(|&id| counts.get_mut(id as usize).map(|n| *n += 1)).for_each(drop);
        let total: u64 = counts.iter().sum();
        let mut ranked: Vec<(u32, u64)> = (0..).zip(counts).filter(|&(_, n)| n > 0).collect();
        ranked.sort_by_key(|&(id, n)| (std::cmp::Reverse(n), id));
        ranked.truncate(count);
        ranked.into_iter().map(|(id, n)| (id, n as f64 / total as f64)).collect()
    }

    /// Tokens of the stream in one row: of a masked one those between `[CLS]` and `[SEP]`.
    fn window(&self, objective: &Objective) -> usize {
        match objective {
            Objective::Masked(_) => self.length - 2,
            Objective::Next => self.length,
        }
    }

    /// The row that starts at token `start`, filled with padding where the stream ends, and added to `batch`.
    fn add_row(
        &self,
        batch: &mut Batch,
        start: usize,
        objective: &Objective,
        step: u64,
        rng: &mut Philox,
    ) -> Result<()> {
        let end = self.tokens.len().min(start + self.window(objective));
        let mlm = match objective {
            Objective::Masked(mlm) => mlm,
            Objective::Next => {
                let (row, next) = (&self.tokens[start..end], &self.tokens[start + 1..self.tokens.len().min(end + 1)]);
                batch.rows += 1;
                batch.lengths.push(row.len() as u32);
                batch.input_ids.extend(row);
                batch.labels.extend(next.iter().map(|&id| id as i32));
                batch.input_ids.resize(batch.rows * self.length, self.special.pad);
                batch.labels.resize(batch.rows * self.length, IGNORE);
                return Ok(());
            }
        };
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.special.cls);
        ids.extend(&self.tokens[start..end]);
        ids.push(self.special.sep);
        batch.lengths.push(ids.len() as u32);
        ids.resize(self.length, self.special.pad);
        let SpecialIds { pad, cls, sep, .. } = self.special;
        let special: Vec<bool> = ids.iter().map(|id| [pad, cls, sep].contains(id)).collect();
        let starts: Vec<bool> = ids.iter().map(|&id| self.word_starts.get(id as usize) != Some(&false)).collect();
        let row = mlm.corrupt(Row { ids: &ids, special: &special, word_start: &starts }, step, rng)?;
        batch.rows += 1;
        batch.input_ids.extend(row.input_ids);
        batch.labels.extend(row.labels);
        Ok(())
    }

    fn empty_batch(&self) -> Batch {
        Batch { rows: 0, length: self.length, input_ids: Vec::new(), labels: Vec::new(), lengths: Vec::new() }
    }

    /// The stream in batches of at most `rows` rows without overlap, `max_rows` altogether at most, with masks that depend on the seed alone: for
    /// measuring. The last row is padded.
    pub fn fixed_batches(&self, objective: &Objective, rows: usize, max_rows: usize, seed: u64) -> Result<Vec<Batch>> {
        let starts: Vec<usize> = (0..self.tokens.len()).step_by(self.window(objective)).take(max_rows).collect();
        let mut batches = Vec::new();
        for (number, chunk) in starts.chunks(rows.max(1)).enumerate() {
            let mut batch = self.empty_batch();
            for (at, &start) in chunk.iter().enumerate() {
                let mut rng = Philox::new(seed, STREAM_HELD_OUT | (number * rows.max(1) + at) as u64);
                self.add_row(&mut batch, start, objective, 0, &mut rng)?;
            }
            batches.push(batch);
        }
        Ok(batches)
    }
}

/// Endless training batches over a stream. Each epoch cuts the stream at another offset, so that tokens meet new neighbours
/// at the ends of rows, shuffles the rows, and draws new masks.
#[derive(Debug)]
pub struct Loader<'a> {
    stream: &'a TokenStream,
    objective: Objective,
    rows: usize,
    seed: u64,
    position: Position,
    /// Starts of the rows of the epoch at hand.
    order: Vec<u32>,
}

impl<'a> Loader<'a> {
    /// Batches of `rows` rows from `position` on; the default position is the beginning.
    pub fn new(
        stream: &'a TokenStream,
        objective: Objective,
        rows: usize,
        seed: u64,
        position: Position,
    ) -> Result<Self> {
        // The least that every offset leaves one row of.
        let needed = 2 * stream.window(&objective);
        if stream.len() < needed {
            return Err(Error::text(format!(
                "{} tokens are too few for rows of {}: at least {needed} are needed",
                stream.len(),
                stream.length
            )));
        }
        if stream.len() > u32::MAX as usize {
            return Err(Error::text(format!("{} tokens are more than one run can index, {}", stream.len(), u32::MAX)));
        }
        if rows == 0 {
            return Err(Error::argument("batch", "0 rows given, but a batch has at least one"));
        }
        let mut loader = Self { stream, objective, rows, seed, position, order: Vec::new() };
        loader.order = loader.order_of(position.epoch);
        Ok(loader)
    }

    /// Where the next batch begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Rows in one pass over the corpus.
    pub fn rows_per_epoch(&self) -> usize {
        self.order.len()
    }

    /// The next batch; `step` is what the masking rate may depend on.
    pub fn next_batch(&mut self, step: u64) -> Result<Batch> {
        let mut batch = self.stream.empty_batch();
        for _ in 0..self.rows {
            if self.position.index as usize >= self.order.len() {
                self.position = Position { epoch: self.position.epoch.wrapping_add(1), index: 0 };
                self.order = self.order_of(self.position.epoch);
            }
            let Position { epoch, index } = self.position;
            // The epoch has 30 bits here: a billion passes.
            let number = (u64::from(epoch) << 32 | u64::from(index)) & (STREAM_ORDER - 1);
            let mut rng = Philox::new(self.seed, STREAM_TRAIN | number);
            let start = self.order[index as usize] as usize;
            self.stream.add_row(&mut batch, start, &self.objective, step, &mut rng)?;
            self.position.index += 1;
        }
        Ok(batch)
    }

    fn order_of(&self, epoch: u32) -> Vec<u32> {
        let mut rng = Philox::new(self.seed, STREAM_ORDER | u64::from(epoch));
        let window = self.stream.window(&self.objective);
        let offset = rng.below(window as u32) as usize;
        let count = (self.stream.len() - offset) / window;
        let mut order: Vec<u32> = (0..count).map(|row| (offset + row * window) as u32).collect();
        rng.shuffle(&mut order);
        order
    }
}

impl Batch {
    /// Share of the labels that always guessing `id` would get right.
    pub fn accuracy_of_guess(batches: &[Batch], id: u32) -> f64 {
        let labels = || batches.iter().flat_map(|batch| &batch.labels).filter(|&&label| label != IGNORE);
        let right = labels().filter(|&&label| label == id as i32).count();
        right as f64 / labels().count().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 11;

    fn stream() -> (TokenStream, Objective) {
        let segments: Vec<String> =
            (0..300).map(|n| format!("row {n} holds the number {} and the word {}.", n * 7, n % 5)).collect();
        let tokenizer = Tokenizer::train(&segments, 200, true).unwrap();
        let mlm = Mlm::bert(tokenizer.special().mask, tokenizer.vocab_size());
        (TokenStream::new(&segments, &tokenizer, 32).unwrap(), Objective::Masked(mlm))
    }

    #[test]
    fn a_resumed_loader_continues_exactly_across_epochs() {
        let (stream, mlm) = stream();
        let mut whole = Loader::new(&stream, mlm.clone(), 7, SEED, Position::default()).unwrap();
        let steps = 3 * whole.rows_per_epoch() as u64 / 7;
        for step in 0..steps {
            let mut resumed = Loader::new(&stream, mlm.clone(), 7, SEED, whole.position()).unwrap();
            assert_eq!(resumed.next_batch(step).unwrap(), whole.next_batch(step).unwrap());
            assert_eq!(resumed.position(), whole.position());
        }
        assert!(whole.position().epoch >= 2);
    }

    #[test]
    fn an_epoch_gives_each_token_once_and_the_next_differs() {
        let (stream, mlm) = stream();
        let Objective::Masked(mlm) = mlm else { unreachable!() };
        let unmasked = Objective::Masked(Mlm { rate: crate::corrupt::schedule::Rate::Constant(0.0), ..mlm });
        let mut loader = Loader::new(&stream, unmasked, 1, SEED, Position::default()).unwrap();
        let epoch = |loader: &mut Loader| -> Vec<Vec<u32>> {
            (0..loader.rows_per_epoch()).map(|_| loader.next_batch(0).unwrap().input_ids).collect()
        };
        let first = epoch(&mut loader);
        let mut seen: Vec<u32> = first.iter().flat_map(|row| row[1..31].to_vec()).collect();
        let offset = loader.order.iter().min().copied().unwrap() as usize;
        let mut expected = stream.tokens[offset..offset + seen.len()].to_vec();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
        assert!(seen.len() + 60 > stream.len());
        assert_ne!(epoch(&mut loader), first);
    }

    #[test]
    fn held_out_masks_are_fixed_and_the_last_row_is_padded() {
        let (stream, mlm) = stream();
        let batches = stream.fixed_batches(&mlm, 4, usize::MAX, SEED).unwrap();
        assert_eq!(batches, stream.fixed_batches(&mlm, 4, usize::MAX, SEED).unwrap());
        let tokens: u32 = batches.iter().flat_map(|batch| &batch.lengths).map(|length| length - 2).sum();
        assert_eq!(tokens as usize, stream.len());
        let last = batches.last().unwrap();
        let used = *last.lengths.last().unwrap() as usize;
        let row = (last.rows - 1) * last.length;
        assert!(last.input_ids[row + used..].iter().all(|&id| id == stream.special.pad));
        assert!(last.labels[row + used..].iter().all(|&label| label == IGNORE));
        assert_eq!(stream.fixed_batches(&mlm, 4, 6, SEED).unwrap().iter().map(|batch| batch.rows).sum::<usize>(), 6);
    }

    #[test]
    fn each_token_but_the_first_is_asked_for_once_after_those_before_it() {
        let (stream, _) = stream();
        let batches = stream.fixed_batches(&Objective::Next, 4, usize::MAX, SEED).unwrap();
        let flat = |of: fn(&Batch) -> Vec<i32>| -> Vec<i32> { batches.iter().flat_map(of).collect() };
        let ids = flat(|batch| batch.input_ids.iter().map(|&id| id as i32).collect());
        let labels = flat(|batch| batch.labels.clone());
        let all: Vec<i32> = stream.tokens.iter().map(|&id| id as i32).collect();
        assert_eq!(ids[..all.len()], all);
        assert_eq!(labels[..all.len() - 1], all[1..]);
        assert!(labels[all.len() - 1..].iter().all(|&label| label == IGNORE));
        assert!(ids[all.len()..].iter().all(|&id| id == stream.special.pad as i32));
        let real: u32 = batches.iter().flat_map(|batch| &batch.lengths).sum();
        assert_eq!(real as usize, all.len());
        let mut loader = Loader::new(&stream, Objective::Next, 3, SEED, Position::default()).unwrap();
        for step in 0..2 * loader.rows_per_epoch() as u64 {
            let Batch { input_ids, labels, .. } = loader.next_batch(step).unwrap();
            for (ids, labels) in input_ids.chunks(32).zip(labels.chunks(32)) {
                assert!(ids[1..].iter().zip(labels).all(|(&id, &label)| id as i32 == label));
            }
        }
        let mut resumed = Loader::new(&stream, Objective::Next, 3, SEED, loader.position()).unwrap();
        assert_eq!(resumed.next_batch(0).unwrap(), loader.next_batch(0).unwrap());
    }

    #[test]
    fn unigram_guess_is_right_as_often_as_it_occurs() {
        let (stream, mlm) = stream();
        let unigrams = stream.unigrams(3);
        assert!(unigrams[0].1 >= unigrams[1].1 && unigrams[1].1 >= unigrams[2].1);
        let batches = stream.fixed_batches(&mlm, 8, usize::MAX, SEED).unwrap();
        let accuracy = Batch::accuracy_of_guess(&batches, unigrams[0].0);
        assert!((accuracy - unigrams[0].1).abs() < 0.06, "{accuracy} {}", unigrams[0].1);
        assert_eq!(Batch::accuracy_of_guess(&[], 0), 0.0);
    }

    #[test]
    fn too_little_text_is_said() {
        let (stream, mlm) = stream();
        let short = TokenStream { tokens: stream.tokens[..20].to_vec(), ..stream.clone() };
        let sentence = Loader::new(&short, mlm.clone(), 1, SEED, Position::default()).unwrap_err().to_string();
        assert!(sentence.contains("20 tokens") && sentence.contains("at least 60"), "{sentence}");
        assert!(Loader::new(&stream, mlm, 0, SEED, Position::default()).is_err());
    }
}
