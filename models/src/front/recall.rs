//! Synthetic tests of memory: pairs of keys and values, and later keys whose values are to be named.

use wgrad::rng::Philox;

use super::synthetic::below;
use crate::corrupt::mlm::IGNORE;
use crate::{Error, Result};

/// Multi-query associative recall (Arora et al., Zoology, 2023, arXiv 2312.04927): a row begins with pairs of a key and its value; among filler
/// keys come once more, and what follows each is to be its value. Pairs are drawn anew for each row, so that the answer is nowhere but
/// in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Tokens that are keys; as many are values, and one is filler.
    pub keys: usize,
    /// Pairs of a row.
    pub pairs: usize,
    /// Keys that come once more; a key may come more than once.
    pub questions: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Tokens of filler between the pairs and the first place of a question.
    pub gap: usize,
}

/// Rows of tokens and what is to be answered where, [`IGNORE`] elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Questions {
    /// Row after row.
    pub ids: Vec<u32>,
    /// The answer at each position.
    pub labels: Vec<i32>,
}

impl Recall {
    /// Tokens in the vocabulary.
    pub fn vocab(&self) -> usize {
        2 * self.keys + 1
    }

    /// `rows` rows.
    ///
    /// # Errors
    /// If a row has no room for pairs, gap and questions, or there are fewer keys than pairs.
    pub fn sample(&self, rows: usize, rng: &mut Philox) -> Result<Questions> {
        let Recall { keys, pairs, questions, length, gap } = *self;
        if pairs > keys || pairs == 0 || 2 * pairs + gap + questions > length {
            let message =
                format!("{pairs} pairs of {keys} keys, a gap of {gap} and {questions} questions in {length} tokens");
            return Err(Error::argument("recall", message));
        }
        let filler = 2 * keys as u32;
        let mut all = Questions::default();
        for _ in 0..rows {
            let (mut ids, mut labels) = (vec![filler; length], vec![IGNORE; length]);
            for (pair, key) in choose(keys, pairs, rng).into_iter().enumerate() {
                ids[2 * pair] = key as u32;
                ids[2 * pair + 1] = (keys + below(keys, rng)) as u32;
            }
            for at in choose(length - 2 * pairs - gap, questions, rng) {
                let (pair, at) = (below(pairs, rng), 2 * pairs + gap + at);
                ids[at] = ids[2 * pair];
                labels[at] = ids[2 * pair + 1] as i32;
            }
            all.ids.extend(ids);
            all.labels.extend(labels);
        }
        Ok(all)
    }
}

/// Needles in a haystack: pairs of a key and its value somewhere among distractors, and at the end the keys once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needle {
    /// Tokens that are keys; as many are values, and as many distract.
    pub keys: usize,
    /// Pairs of a row.
    pub needles: usize,
    /// Tokens of a row.
    pub length: usize,
}

impl Needle {
    /// Tokens in the vocabulary.
    pub fn vocab(&self) -> usize {
        3 * self.keys
    }

    /// `rows` rows. With a depth, the first needle lies there, from 0 (the beginning) to 1 (right before the questions), and it alone is
    /// asked for; all are else, and lie anywhere.
    ///
    /// # Errors
    /// If a row has no room for the needles and their questions, or there are fewer keys than needles.
    pub fn sample(&self, rows: usize, depth: Option<f64>, rng: &mut Philox) -> Result<Questions> {
        let Needle { keys, needles, length } = *self;
        let slots = length.saturating_sub(needles) / 2;
        if needles == 0 || needles > keys || slots < needles {
            return Err(Error::argument("needle", format!("{needles} needles of {keys} keys in {length} tokens")));
        }
        let mut all = Questions::default();
        for _ in 0..rows {
            let mut ids: Vec<u32> = (0..length).map(|_| (2 * keys + below(keys, rng)) as u32).collect();
            let mut labels = vec![IGNORE; length];
            let mut places = choose(slots, needles, rng);
            if let Some(depth) = depth {
                let wanted = (depth.clamp(0.0, 1.0) * (slots - 1) as f64).round() as usize;
                match places.iter().position(|&place| place == wanted) {
                    Some(other) => places.swap(0, other),
                    None => places[0] = wanted,
                }
            }
            let asked = choose(needles, needles, rng);
            for (needle, (key, place)) in choose(keys, needles, rng).into_iter().zip(places).enumerate() {
                let value = (keys + below(keys, rng)) as u32;
                ids[2 * place] = key as u32;
                ids[2 * place + 1] = value;
                let at = length - needles + asked[needle];
                ids[at] = key as u32;
                if depth.is_none() || needle == 0 {
                    labels[at] = value as i32;
                }
            }
            all.ids.extend(ids);
            all.labels.extend(labels);
        }
        Ok(all)
    }
}

/// `k` of the numbers below `n`, in random order.
fn choose(n: usize, k: usize, rng: &mut Philox) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for at in 0..k {
        let other = at + below(n - at, rng);
        all.swap(at, other);
    }
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_values_of_the_keys() {
        let task = Recall { keys: 12, pairs: 5, questions: 8, length: 40, gap: 7 };
        let Questions { ids, labels } = task.sample(20, &mut Philox::new(1, 0)).unwrap();
        for (ids, labels) in ids.chunks(40).zip(labels.chunks(40)) {
            let asked: Vec<usize> = (0..40).filter(|&at| labels[at] != IGNORE).collect();
            assert!(asked.len() == 8 && asked[0] >= 17);
            for at in asked {
                let pair = (0..5).find(|pair| ids[2 * pair] == ids[at]).unwrap();
                assert_eq!(ids[2 * pair + 1] as i32, labels[at]);
            }
        }
        assert!(Recall { pairs: 13, ..task }.sample(1, &mut Philox::new(1, 0)).is_err());
        assert!(Recall { length: 24, ..task }.sample(1, &mut Philox::new(1, 0)).is_err());
    }

    #[test]
    fn needles_lie_where_they_are_wanted() {
        let task = Needle { keys: 8, needles: 3, length: 33 };
        for (depth, at) in [(0.0, 0), (1.0, 28)] {
            let Questions { ids, labels } = task.sample(5, Some(depth), &mut Philox::new(2, 0)).unwrap();
            for (ids, labels) in ids.chunks(33).zip(labels.chunks(33)) {
                let asked = labels.iter().position(|&label| label != IGNORE).unwrap();
                assert!(asked >= 30);
                assert_eq!((ids[at], ids[at + 1] as i32), (ids[asked], labels[asked]));
                assert_eq!(ids.iter().filter(|&&id| id < 8).count(), 6);
            }
        }
        let all = task.sample(1, None, &mut Philox::new(3, 0)).unwrap();
        assert_eq!(all.labels.iter().filter(|&&label| label != IGNORE).count(), 3);
        assert!(Needle { needles: 12, keys: 12, ..task }.sample(1, None, &mut Philox::new(1, 0)).is_err());
    }
}
