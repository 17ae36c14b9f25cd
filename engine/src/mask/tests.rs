//! Random conjunctions: rows, tiles and ranges against the dense mask.

use super::words::Tile;
use super::{Mask, Pairs, lower};
use crate::rng::Philox;
use crate::{Device, Tensor};

struct Draw(Philox);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u32) as usize
    }

    /// One for each batch element, or one for all.
    fn lengths(&mut self, batch: usize, most: usize) -> Vec<usize> {
        let count = if self.below(2) == 0 { 1 } else { batch };
        (0..count).map(|_| self.below(most + 1)).collect()
    }

    fn ids(&mut self, batch: usize, length: usize) -> Tensor {
        let batch = if self.below(2) == 0 { 1 } else { batch };
        let mut ids = Vec::new();
        for _ in 0..batch {
            let mut id = self.below(2) as u32;
            for _ in 0..length {
                if self.below(20) == 0 {
                    id += 1;
                }
                ids.push(if self.below(40) == 0 { u32::MAX } else { id });
            }
        }
        Tensor::from_vec(ids, &[batch, length], &Device::cpu()).unwrap()
    }

    fn times(&mut self, shape: &[usize], from: i32, spread: usize) -> Tensor {
        let values = (0..shape.iter().product()).map(|i: usize| (i % 97) as i32 + from + self.below(spread) as i32);
        Tensor::from_vec(values.collect(), shape, &Device::cpu()).unwrap()
    }

    fn seen(&mut self, full: [usize; 4]) -> Tensor {
        let shape = full.map(|n| if self.below(3) == 0 { 1 } else { n });
        let mostly = self.below(3);
        let width = shape[3];
        let values = (0..shape.iter().product()).map(|i: usize| match mostly {
            0 => self.below(2) == 0,
            1 => i % width < width / 2,
            _ => self.below(400) > 0,
        });
        Tensor::from_vec(values.collect::<Vec<bool>>(), &shape, &Device::cpu()).unwrap()
    }

    fn mask(&mut self, pairs: Pairs) -> Mask {
        let Pairs { batch, heads, queries, keys } = pairs;
        match self.below(11) {
            0 => Mask::causal(self.below(40) as i64 - 20),
            1 => Mask::window(self.below(60), self.below(60)),
            2 => Mask::sink_window(self.below(keys + 9), self.below(40), self.below(4)),
            3 => Mask::prefix(&self.lengths(batch, keys)),
            4 => Mask::key_lengths(&self.lengths(batch, keys)),
            5 => Mask::query_lengths(&self.lengths(batch, queries)),
            6 => Mask::segments(&self.ids(batch, queries), &self.ids(batch, keys)),
            7 => {
                let (b, h) = (if self.below(2) == 0 { 1 } else { batch }, if self.below(2) == 0 { 1 } else { heads });
                let times = (self.below(2) == 0).then(|| self.times(&[b, queries], -10, 30));
                Mask::intervals(&self.times(&[b, h, keys], -60, 40), &self.times(&[1, h, keys], 0, 80), times.as_ref())
            }
            9 => Mask::global_window(self.below(keys + 9), self.below(30), self.below(30)),
            8 => Mask::dense(&self.seen([batch, heads, queries, keys])),
            _ => {
                let (rows, columns) = (1 + self.below(80), 1 + self.below(80));
                let seen = self.seen([batch, heads, queries.div_ceil(rows), keys.div_ceil(columns)]);
                Mask::blocks(&seen, rows, columns)
            }
        }
    }
}

#[test]
fn rows_tiles_and_ranges_are_those_of_the_dense_mask() {
    let mut draw = Draw(Philox::new(5, 0));
    let (mut empty, mut full) = (0, 0);
    for _ in 0..400 {
        let pairs = Pairs {
            batch: 1 + draw.below(3),
            heads: 1 + draw.below(3),
            queries: 1 + draw.below(150),
            keys: 1 + draw.below(150),
        };
        let mut mask = draw.mask(pairs);
        for _ in 0..draw.below(3) {
            mask = mask.and(draw.mask(pairs));
        }
        mask = mask.at(draw.below(3) as i64);
        let Pairs { batch, heads, queries, keys } = pairs;
        let shape = [batch, heads, queries, keys];
        let seen = mask.to_dense(batch, heads, queries, keys, &Device::cpu()).unwrap();
        let seen = seen.expand(&shape).unwrap().to_vec::<bool>().unwrap();
        let words = mask.lowered("test", pairs, &Device::cpu()).unwrap();
        let words = lower::words("test", words.as_ref(), None, pairs).unwrap();
        let seen = |b: usize, h: usize, i: usize, j: usize| seen[((b * heads + h) * queries + i) * keys + j];
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            for i in 0..queries {
                let mut row = vec![true; keys];
                words.hide(b, h, i, &(0..keys), &mut row, false);
                assert!((0..keys).all(|j| row[j] == seen(b, h, i, j)), "{mask:?}, {pairs:?}, row {i}");
            }
            for _ in 0..20 {
                let (i, j) = (draw.below(queries), draw.below(keys));
                let rows = i..queries.min(i + 1 + draw.below(70));
                let columns = j..keys.min(j + 1 + draw.below(70));
                let tile = words.tile(b, h, &rows, &columns);
                let mut of_tile = rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j)));
                let what = format!("{mask:?}, {pairs:?}, {rows:?} x {columns:?}");
                match tile {
                    Tile::Empty => assert!(of_tile.all(|(i, j)| !seen(b, h, i, j)), "not empty: {what}"),
                    Tile::Full => assert!(of_tile.all(|(i, j)| seen(b, h, i, j)), "not full: {what}"),
                    Tile::Partial => {}
                }
                empty += usize::from(tile == Tile::Empty);
                full += usize::from(tile == Tile::Full);
                let (of_rows, of_columns) = (words.keys_of(b, &rows), words.queries_of(b, &columns));
                let inside = |(i, j): (usize, usize)| !seen(b, h, i, j) || of_rows.contains(&j);
                assert!(
                    rows.clone().flat_map(|i| (0..keys).map(move |j| (i, j))).all(inside),
                    "keys {of_rows:?} of {what}"
                );
                let inside = |(i, j): (usize, usize)| !seen(b, h, i, j) || of_columns.contains(&i);
                assert!(
                    (0..queries).flat_map(|i| columns.clone().map(move |j| (i, j))).all(inside),
                    "queries {of_columns:?} of {what}"
                );
            }
        }
    }
    assert!(empty > 500 && full > 500, "{empty} tiles were empty and {full} full: the test looks at too little");
}
