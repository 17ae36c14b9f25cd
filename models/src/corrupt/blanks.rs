//! Blank infilling (Du et al., GLM, 2022, arXiv 2103.10360): spans are cut out of a text and written behind it.

use std::ops::Range;

use wgrad::rng::Philox;

use super::mlm::IGNORE;
use crate::front::synthetic::below;
use crate::{Error, Result};

/// How long spans are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SpanLength {
    /// All the same.
    Fixed(usize),
    /// From a Poisson distribution of this mean, at least 1.
    Poisson(f64),
}

/// How a text is cut. A blank of any length becomes one mask token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blanks {
    /// The token of a blank.
    pub mask: u32,
    /// What a span begins with where it is written.
    pub start: u32,
    /// What follows its last token.
    pub end: u32,
    /// Share of the text that is cut, at least.
    pub share: f64,
    /// How long spans are.
    pub length: SpanLength,
}

/// A text with blanks, and behind it the spans in shuffled order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Tokens: those that are shown, then of each span its start and its tokens.
    pub ids: Vec<u32>,
    /// What follows each token of a span; nothing for what is shown.
    pub labels: Vec<i32>,
    /// Where each token stands in the text with blanks, a span's tokens where its blank does.
    pub places: Vec<u32>,
    /// Where a token of a span stands in it, from 1 on; 0 for what is shown.
    pub within: Vec<u32>,
    /// How many tokens are shown. All see them; a span's tokens see those before them as well.
    pub shown: usize,
    /// The spans, by their places in the text as it was, in the order in which they were written.
    pub spans: Vec<Range<usize>>,
}

impl Blanks {
    /// Cuts a text.
    ///
    /// # Errors
    /// If the share is not between 0 and 1, or spans have no length.
    pub fn cut(&self, text: &[u32], rng: &mut Philox) -> Result<Filled> {
        let least = match self.length {
            SpanLength::Fixed(n) => n as f64,
            SpanLength::Poisson(mean) => mean,
        };
        if !(0.0..=1.0).contains(&self.share) || !least.is_finite() || least <= 0.0 {
            return Err(Error::argument("blanks", format!("a share of {} in spans of {least}", self.share)));
        }
        let mut spans = self.spans(text.len(), rng);
        let mut filled =
            Filled { ids: vec![], labels: vec![], places: vec![], within: vec![], shown: 0, spans: vec![] };
        let mut at = 0;
        let mut blanks = Vec::new();
        for span in spans.iter().chain([&(text.len()..text.len())]) {
            filled.ids.extend(&text[at..span.start]);
            if !span.is_empty() {
                blanks.push(filled.ids.len() as u32);
                filled.ids.push(self.mask);
            }
            at = span.end;
        }
        filled.shown = filled.ids.len();
        filled.labels = vec![IGNORE; filled.shown];
        filled.places = (0..filled.shown as u32).collect();
        filled.within = vec![0; filled.shown];
        for next in 0..spans.len() {
            let other = next + below(spans.len() - next, rng);
            spans.swap(next, other);
            blanks.swap(next, other);
            let tokens = &text[spans[next].clone()];
            filled.ids.push(self.start);
            filled.ids.extend(tokens);
            filled.labels.extend(tokens.iter().chain([&self.end]).map(|&id| id as i32));
            filled.places.extend(std::iter::repeat_n(blanks[next], tokens.len() + 1));
            filled.within.extend(1..=tokens.len() as u32 + 1);
        }
        filled.spans = spans;
        Ok(filled)
    }

    /// Spans that do not touch each other, from left to right.
    fn spans(&self, length: usize, rng: &mut Philox) -> Vec<Range<usize>> {
        let wanted = (self.share * length as f64).ceil() as usize;
        let mut taken = vec![false; length + 2];
        let (mut spans, mut cut): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
        // A crowded text may have no room for one more.
        for _ in 0..8 * length {
            if cut >= wanted {
                break;
            }
            let size = match self.length {
                SpanLength::Fixed(n) => n,
                SpanLength::Poisson(mean) => poisson(mean, rng).max(1),
            };
            if size > length {
                continue;
            }
            let start = below(length - size + 1, rng);
            // One place of room on both sides: `taken` is shifted by one.
            if taken[start..start + size + 2].iter().any(|&taken| taken) {
                continue;
            }
            taken[start + 1..start + size + 1].fill(true);
            spans.push(start..start + size);
            cut += size;
        }
        spans.sort_by_key(|span| span.start);
        spans
    }
}

/// A Poisson variate, by the product of uniform ones (Knuth).
fn poisson(mean: f64, rng: &mut Philox) -> usize {
    let floor = (-mean).exp();
    let (mut count, mut product) = (0, 1.0);
    loop {
        product *= (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0;
        if product <= floor {
            return count;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown and the spans make up the text.
    #[test]
    fn nothing_is_lost() {
        let text: Vec<u32> = (0..50).collect();
        for (seed, length) in (0..20).zip([SpanLength::Poisson(3.0), SpanLength::Fixed(4)].into_iter().cycle()) {
            let blanks = Blanks { mask: 100, start: 101, end: 102, share: 0.3, length };
            let f = blanks.cut(&text, &mut Philox::new(seed, 0)).unwrap();
            assert!([f.labels.len(), f.places.len(), f.within.len()].iter().all(|&n| n == f.ids.len()));
            let mut again = Vec::new();
            for (place, &id) in f.ids[..f.shown].iter().enumerate() {
                if id != blanks.mask {
                    again.push(id);
                    continue;
                }
                let of_span = (f.shown..f.ids.len()).filter(|&at| f.places[at] == place as u32);
                for (nth, at) in of_span.enumerate() {
                    assert_eq!(f.within[at], nth as u32 + 1);
                    if f.labels[at] != blanks.end as i32 {
                        assert_eq!(f.ids[at + 1] as i32, f.labels[at]);
                        again.push(f.labels[at] as u32);
                    }
                }
            }
            assert_eq!(again, text);
            assert!(f.spans.iter().map(Range::len).sum::<usize>() >= 15);
        }
        let none = Blanks { mask: 1, start: 2, end: 3, share: 0.5, length: SpanLength::Fixed(0) };
        assert!(none.cut(&text, &mut Philox::new(1, 0)).is_err());
        let empty = Blanks { length: SpanLength::Fixed(2), ..none }.cut(&[], &mut Philox::new(1, 0)).unwrap();
        assert!(empty.ids.is_empty() && empty.spans.is_empty());
    }
}
