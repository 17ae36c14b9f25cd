//! What a mask costs: turns of the loops of `shaders/common/mask.wgsl`, and the pairs that are worked on.

use super::{Mask, Pairs, Term};

/// Turns of loops, of which each has one more than it goes round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// For a query and four keys.
    pub row: usize,
    /// For what a tile is.
    pub tile: usize,
    /// For the range that a tile of rows goes over.
    pub range: usize,
    /// Most keys that a query can see, and queries that a key can, where a window says so.
    pub widest: Option<usize>,
}

impl Cost {
    /// Of all masks together, for sequences of at most `length`. Loops in texts of the user count nothing.
    pub fn of<'a>(masks: impl Iterator<Item = &'a Mask> + Clone, length: usize) -> Self {
        let mut cost = Cost { widest: masks.clone().filter_map(Mask::widest).min(), ..Cost::default() };
        for term in masks.flat_map(|mask| &mask.terms) {
            let [row, tile, range] = term.turns(length);
            (cost.row, cost.tile, cost.range) = (cost.row + 1 + row, cost.tile + 1 + tile, cost.range + 1 + range);
        }
        if cost.row > 0 {
            (cost.row, cost.tile, cost.range) = (cost.row + 1, cost.tile + 1, cost.range + 1);
        }
        cost
    }
}

impl Term {
    /// For a query and four keys, for a tile, for a range.
    fn turns(&self, length: usize) -> [usize; 3] {
        match self {
            // The blocks of each side; and all of them where none has a segment of the tile.
            Term::Segments { .. } => [0, 4, length.div_ceil(32) + 4],
            Term::Intervals { .. } => [0, 6, 0],
            // Up to 16 bits one by one.
            Term::Bits { .. } => [0, 49, 0],
            Term::Keys(index) => {
                // `lower_bound`, and for a tile two of them for each of 32 queries.
                let halvings = usize::BITS - index.sizes()[3].leading_zeros();
                let search = halvings.div_ceil(4) as usize + 2;
                [search, 64 * search + 33, 0]
            }
            Term::KeyLengths(_) | Term::QueryLengths(_) | Term::Band { .. } | Term::Code { .. } => [0; 3],
        }
    }
}

impl Mask {
    /// Pairs of one head in the whole batch that are seen at most, as far as lengths and bands say.
    pub(crate) fn most_pairs(&self, pairs: Pairs) -> usize {
        let Pairs { batch, queries, keys, .. } = pairs;
        let total = |lengths: &[usize]| match lengths {
            [one] => one * batch,
            all => all.iter().sum(),
        };
        let of_term = |term: &Term| match term {
            Term::KeyLengths(lengths) => total(lengths) * queries,
            Term::QueryLengths(lengths) => total(lengths) * keys,
            Term::Band { low, high, first, rows: 0 } if first.is_empty() => {
                batch * before(queries, keys, high + 1).saturating_sub(before(queries, keys, *low))
            }
            Term::Keys(index) => batch * queries * index.sizes()[3],
            _ => batch * queries * keys,
        };
        self.terms.iter().map(of_term).min().unwrap_or(usize::MAX).min(batch * queries * keys)
    }

    /// Most keys that a query can see, and queries that a key can, where a window says so.
    fn widest(&self) -> Option<usize> {
        let of_term = |term: &Term| match term {
            Term::Band { low, high, first, rows: 0 } if first.is_empty() => usize::try_from(high - low + 1).ok(),
            _ => None,
        };
        self.terms.iter().filter_map(of_term).min()
    }
}

/// The number of pairs with `j - i < distance`.
fn before(queries: usize, keys: usize, distance: i64) -> usize {
    let (queries, keys) = (queries as i64, keys as i64);
    // The sum of min(n, keys) over n below this.
    let up_to = |end: i64| match end.max(0) {
        end if end <= keys => end * (end - 1).max(0) / 2,
        end => keys * (keys - 1) / 2 + (end - keys) * keys,
    };
    usize::try_from(up_to(queries + distance) - up_to(distance)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_bands_are_counted() {
        for (queries, keys) in [(1, 1), (5, 9), (9, 5), (7, 7)] {
            let pairs = Pairs { batch: 2, heads: 3, queries, keys };
            for (low, high) in [(-3, 2), (0, 0), (-20, 1), (2, 30), (-9, -4), (8, 8)] {
                let band = Mask::of(Term::Band { low, high, first: Vec::new(), rows: 0 });
                let seen = |i: usize, j: usize| (low..=high).contains(&(j as i64 - i as i64));
                let want = (0..queries * keys).filter(|n| seen(n / keys, n % keys)).count();
                assert_eq!(band.most_pairs(pairs), 2 * want, "{queries} x {keys}, {low} to {high}");
            }
            let lengths = Mask::key_lengths(&[1, 0]).and(Mask::causal(30));
            assert_eq!(lengths.most_pairs(pairs), queries);
            assert_eq!(Mask::all().most_pairs(pairs), 2 * queries * keys);
            assert_eq!(Mask::causal(0).and(Mask::prefix(&[1])).most_pairs(pairs), Mask::causal(0).most_pairs(pairs));
        }
    }
}
