//! Masked language modelling: choose tokens, hide most of them, ask for all of them.
//!
//! Devlin et al., "BERT" (2019): of the chosen tokens 80 % become `[MASK]`, 10 % a random token, 10 % stay. The ways of
//! choosing are BERT's fixed count, independent draws, whole words, and spans as in "SpanBERT" (Joshi et al., 2020).

use std::ops::Range;

use wgrad::rng::Philox;

use super::schedule::Rate;
use crate::{Error, Result};

/// Label of a position where nothing is to be predicted.
pub const IGNORE: i32 = -100;

/// How the tokens to predict are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Each token by its own draw: the count varies.
    Bernoulli,
    /// The same count in every row, `max(1, round(rate * n))` of `n` tokens that are not special.
    FixedCount,
    /// Whole words in random order, as long as they fit into the fixed count. A word that would overshoot is passed over.
    WholeWord,
    /// The row is cut into spans of 1 to `longest` tokens; whole spans in random order until the fixed count is reached.
    Span {
        /// Longest span in tokens.
        longest: u32,
    },
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not chosen: nothing to predict.
    Untouched,
    /// Chosen and replaced by `[MASK]`.
    Masked,
    /// Chosen and replaced by a random token.
    Random,
    /// Chosen and left as it is.
    Kept,
}

/// A masking policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlm {
    /// How tokens are chosen.
    pub choice: Choice,
    /// Share of tokens that are chosen.
    pub rate: Rate,
    /// Share of the chosen that become `[MASK]`; BERT's is 0.8.
    pub mask_share: f32,
    /// Share of the chosen that become a random token; BERT's is 0.1.
    pub random_share: f32,
    /// Id of `[MASK]`.
    pub mask_id: u32,
    /// Ids that random tokens are drawn from.
    pub random_ids: Range<u32>,
}

/// One row before its corruption; the three slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Tokens that are never chosen: `[CLS]`, `[SEP]`, padding.
    pub special: &'a [bool],
    /// Tokens that begin a word.
    pub word_start: &'a [bool],
}

/// One row after its corruption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupted {
    /// Token ids as the model sees them.
    pub input_ids: Vec<u32>,
    /// The true ids of the chosen tokens, [`IGNORE`] elsewhere.
    pub labels: Vec<i32>,
    /// What became of each token.
    pub fates: Vec<Fate>,
}

impl Mlm {
    /// BERT's policy: 15 % of the tokens, by independent draws, treated 80/10/10. Random tokens are any of the `vocab_size` ids.
    pub fn bert(mask_id: u32, vocab_size: usize) -> Self {
        Self {
            choice: Choice::Bernoulli,
            rate: Rate::Constant(0.15),
            mask_share: 0.8,
            random_share: 0.1,
            mask_id,
            random_ids: 0..vocab_size as u32,
        }
    }

    /// Corrupts a row at a training step. The result depends on the arguments and the state of `rng` alone.
    pub fn corrupt(&self, row: Row, step: u64, rng: &mut Philox) -> Result<Corrupted> {
        self.check(row)?;
        let rate = self.rate.at(step);
        let fates = match self.choice {
            Choice::Bernoulli => self.treat_each(&bernoulli(row, rate, rng), rng),
            Choice::FixedCount => self.treat_each(&fixed_count(row, rate, rng), rng),
            Choice::WholeWord => self.treat_each(&whole_words(row, rate, rng), rng),
            Choice::Span { longest } => self.spans(row, rate, longest, rng),
        };
        let apply = |(&id, &fate): (&u32, &Fate)| match fate {
            Fate::Masked => self.mask_id,
            Fate::Random => self.random_ids.start + rng.below(self.random_ids.end - self.random_ids.start),
            Fate::Untouched | Fate::Kept => id,
        };
        let input_ids = row.ids.iter().zip(&fates).map(apply).collect();
        let label = |(&id, &fate): (&u32, &Fate)| if fate == Fate::Untouched { IGNORE } else { id as i32 };
        let labels = row.ids.iter().zip(&fates).map(label).collect();
        Ok(Corrupted { input_ids, labels, fates })
    }

    fn check(&self, row: Row) -> Result<()> {
        self.rate.check()?;
        let (length, special, starts) = (row.ids.len(), row.special.len(), row.word_start.len());
        if special != length || starts != length {
            let message =
                format!("{length} ids came with {special} special flags and {starts} word starts: all must be equal");
            return Err(Error::argument("masking row", message));
        }
        let (mask, random) = (self.mask_share, self.random_share);
        if !(mask >= 0.0 && random >= 0.0 && mask + random <= 1.0) {
            let message =
                format!("{mask} masked and {random} random given: both must be at least 0, their sum at most 1");
            return Err(Error::argument("masking shares", message));
        }
        if self.random_ids.is_empty() {
            return Err(Error::argument("random ids", "the range of ids to draw random tokens from is empty"));
        }
        if self.choice == (Choice::Span { longest: 0 }) {
            return Err(Error::argument("longest span", "0 given, but a span has at least one token"));
        }
        Ok(())
    }

    /// The treatment that a uniform draw stands for.
    fn treatment(&self, draw: f32) -> Fate {
        if draw < self.mask_share {
            Fate::Masked
        } else if draw < self.mask_share + self.random_share {
            Fate::Random
        } else {
            Fate::Kept
        }
    }

    /// A treatment for each chosen token by its own draw.
    fn treat_each(&self, chosen: &[bool], rng: &mut Philox) -> Vec<Fate> {
        chosen.iter().map(|&chosen| if chosen { self.treatment(rng.next_f32()) } else { Fate::Untouched }).collect()
    }

    /// Consecutive spans of random length, each with one draw for its place in the queue and one for its treatment.
    fn spans(&self, row: Row, rate: f32, longest: u32, rng: &mut Philox) -> Vec<Fate> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start < row.ids.len() {
            let end = row.ids.len().min(start + 1 + rng.below(longest) as usize);
            spans.push((start..end, self.treatment(rng.next_f32())));
            start = end;
        }
        rng.shuffle(&mut spans);
        let mut left = count_to_choose(row, rate);
        let mut fates = vec![Fate::Untouched; row.ids.len()];
        for (span, fate) in spans {
            if left == 0 {
                break;
            }
            for at in span.filter(|&at| !row.special[at]) {
                fates[at] = fate;
                left = left.saturating_sub(1);
            }
        }
        fates
    }
}

/// `max(1, round(rate * n))` of `n` tokens that may be chosen, and 0 of none or at rate 0.
fn count_to_choose(row: Row, rate: f32) -> usize {
    let candidates = row.special.iter().filter(|&&special| !special).count();
    if rate == 0.0 {
        return 0;
    }
    ((rate * candidates as f32).round() as usize).max(1).min(candidates)
}

fn bernoulli(row: Row, rate: f32, rng: &mut Philox) -> Vec<bool> {
    // A draw for special tokens too: what one token meets does not hang on its neighbours.
    row.special.iter().map(|&special| (rng.next_f32() < rate) && !special).collect()
}

fn fixed_count(row: Row, rate: f32, rng: &mut Philox) -> Vec<bool> {
    let mut candidates: Vec<usize> = (0..row.ids.len()).filter(|&at| !row.special[at]).collect();
    rng.shuffle(&mut candidates);
    let mut chosen = vec![false; row.ids.len()];
    candidates.iter().take(count_to_choose(row, rate)).for_each(|&at| chosen[at] = true);
    chosen
}

fn whole_words(row: Row, rate: f32, rng: &mut Philox) -> Vec<bool> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for at in (0..row.ids.len()).filter(|&at| !row.special[at]) {
        match words.last_mut() {
            Some(word) if word.end == at && !row.word_start[at] => word.end += 1,
            _ => words.push(at..at + 1),
        }
    }
    rng.shuffle(&mut words);
    let mut left = count_to_choose(row, rate);
    let mut chosen = vec![false; row.ids.len()];
    for word in words {
        if word.len() <= left {
            left -= word.len();
            chosen[word].fill(true);
        }
    }
    chosen
}
