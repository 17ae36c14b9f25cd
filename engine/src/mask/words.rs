//! A mask as kernels read it: one list of 32-bit words. `shaders/common/mask.wgsl` reads the same.
//!
//! Word 0 is the number of terms. Each term has eight words, its kind and its numbers, among them the places of its arrays,
//! which follow, and their strides by batch element and head, 0 where one serves all. Behind each row of numbers, and each matrix
//! of bits, stands a summary of each [`BLOCK`] of them, so that tiles can be tested.

use std::ops::Range;

use super::Pairs;
use crate::snippet::Visible;

/// `[kind, lengths, stride]`.
pub(super) const KEY_LENGTHS: u32 = 0;
/// `[kind, lengths, stride]`.
pub(super) const QUERY_LENGTHS: u32 = 1;
/// `[kind, low, high, first or 0, stride, rows]`.
pub(super) const BAND: u32 = 2;
/// `[kind, queries, stride, keys, stride]`; summary: least and largest.
pub(super) const SEGMENTS: u32 = 3;
/// `[kind, pairs, batch stride, head stride, times or 0, stride or shift]`; pairs are start and end; summary of a block of keys:
/// least and largest start, least and largest end; of times: least and largest.
pub(crate) const INTERVALS: u32 = 4;
/// `[kind, bits, batch stride, head stride, row stride, queries a row, keys a bit]`; summary of 32 x 32 bits: 0 none, 1 some, 2 all.
pub(super) const BITS: u32 = 5;
/// `[kind, shift]`: what a function of the user says.
pub(super) const CODE: u32 = 7;
/// `[kind, lists, k, batches, heads]`: ascending, padding behind.
pub(super) const KEYS: u32 = 9;
/// Words of a term.
pub(super) const TERM: usize = 8;
/// Numbers of one summary.
pub(super) const BLOCK: usize = 32;
/// The segment of padding.
pub(super) const PADDING: u32 = u32::MAX;
/// Bits of a tile up to which they are looked at one by one.
const FEW: usize = 16;

/// What a tile of pairs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// No query sees any key.
    Empty,
    /// Each pair has to be tested.
    Partial,
    /// Every query sees every key.
    Full,
}

impl Tile {
    /// Whether both are seen by somebody, or neither is.
    pub fn joins(self, other: Tile) -> bool {
        (self == Tile::Empty) == (other == Tile::Empty)
    }

    fn of(empty: bool, full: bool) -> Tile {
        match (empty, full) {
            (true, _) => Tile::Empty,
            (_, true) => Tile::Full,
            _ => Tile::Partial,
        }
    }
}

/// The words of a mask for so many queries and keys, for reading. Without words, all is seen.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub words: &'a [u32],
    /// Of the term that is a function of the user.
    pub visible: Option<&'a Visible>,
    pub pairs: Pairs,
    /// Position of the first query among the keys, for rows and ranges of keys; tiles are those of queries at their own positions.
    pub shift: usize,
}

type Term = [u32; TERM];

impl<'a> Words<'a> {
    fn terms(self) -> impl Iterator<Item = Term> + 'a {
        let count = self.words.first().map_or(0, |&n| n as usize);
        let (terms, _) = self.words.get(1..).unwrap_or_default().as_chunks::<TERM>();
        terms.iter().take(count).skip(usize::from(self.index().is_some())).copied()
    }

    fn at(self, start: u32, index: usize) -> u32 {
        self.words[start as usize + index]
    }

    fn signed(self, start: u32, index: usize) -> i64 {
        i64::from(self.at(start, index) as i32)
    }

    /// Writes `hidden` where query `i` does not see one of `keys`, which `row` stands for.
    pub fn hide<T: Copy>(self, batch: usize, head: usize, i: usize, keys: &Range<usize>, row: &mut [T], hidden: T) {
        self.terms().for_each(|term| self.term_hides(term, [batch, head, i], keys, row, hidden));
    }

    fn term_hides<T: Copy>(
        self,
        [kind, a, b, c, d, e, f, _]: Term,
        [batch, head, i]: [usize; 3],
        keys: &Range<usize>,
        row: &mut [T],
        hidden: T,
    ) {
        let of = |stride: u32| batch * stride as usize;
        let position = (i + self.shift) as i64;
        // The place in the row of a position among the keys.
        let length = row.len() as i64;
        let place = |position: i64| (position - keys.start as i64).clamp(0, length) as usize;
        match kind {
            KEY_LENGTHS => {
                let end = place(self.signed(a, of(b)));
                row[end..].fill(hidden);
            }
            QUERY_LENGTHS if i < self.at(a, of(b)) as usize => {}
            QUERY_LENGTHS => row.fill(hidden),
            BAND if position < i64::from(e) => {}
            BAND => {
                let (low, high) = (i64::from(a as i32), i64::from(b as i32));
                let first = if c > 0 { place(self.signed(c, of(d))) } else { 0 };
                let (start, end) = (place(position + low), place(position + high + 1));
                row[first..start.max(first)].fill(hidden);
                row[end.max(first)..].fill(hidden);
            }
            SEGMENTS => {
                let number = self.at(a, of(b) + i);
                let numbers = &self.words[c as usize + of(d)..];
                row.iter_mut()
                    .zip(keys.clone())
                    .for_each(|(x, j)| *x = if numbers[j] == number && number != PADDING { *x } else { hidden });
            }
            INTERVALS => {
                let time = if d > 0 { self.signed(d, of(e) + i) } else { position + i64::from(e as i32) };
                let pairs = &self.words[a as usize + of(b) + head * c as usize..];
                let sees =
                    |j: usize| i64::from(pairs[2 * j] as i32) <= time && time < i64::from(pairs[2 * j + 1] as i32);
                row.iter_mut().zip(keys.clone()).for_each(|(x, j)| *x = if sees(j) { *x } else { hidden });
            }
            KEYS => {
                let list = self.key_list(a, b, batch, head, [c, d], i);
                let mut listed = list[list.partition_point(|&key| (key as usize) < keys.start)..].iter().peekable();
                for (x, j) in row.iter_mut().zip(keys.clone()) {
                    if listed.next_if(|&&key| key as usize == j).is_none() {
                        *x = hidden;
                    }
                }
            }
            CODE => {
                let Some(visible) = self.visible else { return };
                let q = (position + i64::from(a as i32)) as usize;
                row.iter_mut()
                    .zip(keys.clone())
                    .for_each(|(x, j)| *x = if visible(q, j, head, batch) { *x } else { hidden });
            }
            _ => {
                let bits = of(b) + head * c as usize + i / e as usize * d as usize;
                row.iter_mut()
                    .zip(keys.clone())
                    .for_each(|(x, j)| *x = if self.bit(a, bits, j / f as usize) { *x } else { hidden });
            }
        }
    }

    /// The keys of a query, and padding.
    fn key_list(self, lists: u32, k: u32, batch: usize, head: usize, own: [u32; 2], i: usize) -> &'a [u32] {
        let row = self.matrix(batch, head, own) * self.pairs.queries + i;
        &self.words[lists as usize + row * k as usize..][..k as usize]
    }

    fn bit(self, bits: u32, row: usize, column: usize) -> bool {
        self.at(bits, row + column / 32) >> (column % 32) & 1 == 1
    }

    /// What the tile of these queries and keys is. Never empty or full where it is not; may be partial where it is either.
    pub fn tile(self, batch: usize, head: usize, queries: &Range<usize>, keys: &Range<usize>) -> Tile {
        let mut tile = Tile::Full;
        for term in self.terms() {
            match self.term_tile(term, batch, head, queries, keys) {
                Tile::Empty => return Tile::Empty,
                Tile::Partial => tile = Tile::Partial,
                Tile::Full => {}
            }
        }
        tile
    }

    fn term_tile(self, term: Term, batch: usize, head: usize, queries: &Range<usize>, keys: &Range<usize>) -> Tile {
        let [kind, a, b, c, d, e, _, _] = term;
        let row = |stride: u32| batch * stride as usize;
        let before =
            |range: &Range<usize>, length: u32| Tile::of(range.start >= length as usize, range.end <= length as usize);
        match kind {
            KEY_LENGTHS => before(keys, self.at(a, row(b))),
            QUERY_LENGTHS => before(queries, self.at(a, row(b))),
            BAND => {
                let least = keys.start as i64 - (queries.end as i64 - 1);
                let most = keys.end as i64 - 1 - queries.start as i64;
                let (low, high) = (i64::from(a as i32), i64::from(b as i32));
                let band = Tile::of(least > high || most < low, low <= least && most <= high);
                let first = if c > 0 { before(keys, self.at(c, row(d))) } else { Tile::Empty };
                let rows = before(queries, e);
                let parts = [band, first, rows];
                Tile::of(parts.iter().all(|&tile| tile == Tile::Empty), parts.contains(&Tile::Full))
            }
            SEGMENTS => {
                let (q, k) = (
                    self.least_and_most(a, row(b), self.pairs.queries, queries),
                    self.least_and_most(c, row(d), self.pairs.keys, keys),
                );
                let one = q.0 == q.1 && k.0 == k.1 && q.0 == k.0 && q.0 != PADDING;
                Tile::of(q.1 < k.0 || k.1 < q.0, one)
            }
            INTERVALS => {
                let time = match d {
                    0 => (queries.start as i64 + i64::from(e as i32), queries.end as i64 - 1 + i64::from(e as i32)),
                    _ => self.signed_extremes(d, row(e) + self.pairs.queries, 2, queries),
                };
                let pairs = row(b) + head * c as usize + 2 * self.pairs.keys;
                let start = self.signed_extremes(a, pairs, 4, keys);
                let end = self.signed_extremes(a, pairs + 2, 4, keys);
                Tile::of(time.1 < start.0 || time.0 >= end.1, start.1 <= time.0 && time.1 < end.0)
            }
            KEYS => {
                let inside = |i| {
                    let list = self.key_list(a, b, batch, head, [c, d], i);
                    let below = |end: usize| list.partition_point(|&key| (key as usize) < end);
                    below(keys.end) - below(keys.start)
                };
                let count: usize = queries.clone().map(inside).sum();
                Tile::of(count == 0, count == queries.len() * keys.len())
            }
            CODE => Tile::Partial,
            _ => self.bits_tile(term, batch, head, queries, keys),
        }
    }

    /// The least and the largest number of the blocks that hold `range`, of a row of `length` at `row`.
    fn least_and_most(self, start: u32, row: usize, length: usize, range: &Range<usize>) -> (u32, u32) {
        (range.start / BLOCK..range.end.div_ceil(BLOCK)).fold((u32::MAX, 0), |(least, most), block| {
            let at = row + length + 2 * block;
            (least.min(self.at(start, at)), most.max(self.at(start, at + 1)))
        })
    }

    /// The same of signed numbers, by summaries of `width` words from `summary` on.
    fn signed_extremes(self, start: u32, summary: usize, width: usize, range: &Range<usize>) -> (i64, i64) {
        (range.start / BLOCK..range.end.div_ceil(BLOCK)).fold((i64::MAX, i64::MIN), |(least, most), block| {
            let at = summary + width * block;
            (least.min(self.signed(start, at)), most.max(self.signed(start, at + 1)))
        })
    }

    fn bits_tile(
        self,
        [_, bits, b, h, row_stride, rows, columns, _]: Term,
        batch: usize,
        head: usize,
        queries: &Range<usize>,
        keys: &Range<usize>,
    ) -> Tile {
        let matrix = batch * b as usize + head * h as usize;
        let step = row_stride as usize;
        let count = if step == 0 { 1 } else { self.pairs.queries.div_ceil(rows as usize) };
        let width = self.pairs.keys.div_ceil(columns as usize).div_ceil(32);
        let i = match step {
            0 => 0..1,
            _ => queries.start / rows as usize..queries.end.div_ceil(rows as usize),
        };
        let j = keys.start / columns as usize..keys.end.div_ceil(columns as usize);
        let (mut none, mut all) = (true, true);
        if i.len() * j.len() <= FEW {
            for (i, j) in i.flat_map(|i| j.clone().map(move |j| (i, j))) {
                let seen = self.bit(bits, matrix + i * step, j);
                (none, all) = (none && !seen, all && seen);
            }
            return Tile::of(none, all);
        }
        for row in i.start / BLOCK..i.end.div_ceil(BLOCK) {
            for word in j.start / 32..j.end.div_ceil(32) {
                let class = self.at(bits, matrix + count * width + row * width + word);
                (none, all) = (none && class == 0, all && class == 2);
            }
        }
        Tile::of(none, all)
    }

    /// Keys outside of which these queries see nothing.
    pub fn keys_of(self, batch: usize, queries: &Range<usize>) -> Range<usize> {
        let (mut start, mut end) = (0, self.pairs.keys as i64);
        for [kind, a, b, c, d, e, ..] in self.terms() {
            match kind {
                SEGMENTS => {
                    let keys = self.sharing([a, b, c, d], batch, [queries.clone(), 0..self.pairs.keys]);
                    (start, end) = (start.max(keys.start as i64), end.min(keys.end as i64));
                }
                KEY_LENGTHS => end = end.min(self.signed(a, batch * b as usize)),
                BAND if c == 0 && e == 0 => {
                    start = start.max((queries.start + self.shift) as i64 + i64::from(a as i32));
                    end = end.min((queries.end + self.shift) as i64 + i64::from(b as i32));
                }
                _ => {}
            }
        }
        start.clamp(0, end.max(0)) as usize..end.max(0) as usize
    }

    /// The range of the others outside of which nobody has a segment number between the least and the most of some: of places and strides of
    /// the numbers of both.
    fn sharing(self, [a, b, c, d]: [u32; 4], batch: usize, [some, others]: [Range<usize>; 2]) -> Range<usize> {
        let row = |place: u32, stride: u32| &self.words[place as usize + batch * stride as usize..];
        let real = || row(a, b)[some.clone()].iter().filter(|&&number| number != PADDING);
        let (Some(least), Some(most)) = (real().min(), real().max()) else { return 0..0 };
        let others = &row(c, d)[others];
        let shared = |number: &u32| least <= number && number <= most;
        let start = others.iter().position(shared).unwrap_or(others.len());
        start..others.iter().rposition(shared).map_or(start, |last| last + 1)
    }

    /// Queries outside of which nobody sees these keys.
    pub fn queries_of(self, batch: usize, keys: &Range<usize>) -> Range<usize> {
        let (mut start, mut end) = (0, self.pairs.queries as i64);
        for [kind, a, b, c, d, e, ..] in self.terms() {
            match kind {
                SEGMENTS => {
                    let queries = self.sharing([c, d, a, b], batch, [keys.clone(), 0..self.pairs.queries]);
                    (start, end) = (start.max(queries.start as i64), end.min(queries.end as i64));
                }
                QUERY_LENGTHS => end = end.min(self.signed(a, batch * b as usize)),
                BAND if c == 0 && e == 0 => {
                    start = start.max(keys.start as i64 - i64::from(b as i32));
                    end = end.min(keys.end as i64 - i64::from(a as i32));
                }
                _ => {}
            }
        }
        start.clamp(0, end.max(0)) as usize..end.max(0) as usize
    }
}
