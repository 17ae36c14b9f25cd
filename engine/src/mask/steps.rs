//! What tiles of rows go over: `shaders/common/steps.wgsl` for the CPU.

use std::ops::Range;

use super::words::{TERM, Tile, Words};
use crate::sparse::keys::KEYS;
use crate::sparse::words::{LISTS, ROW};

/// Columns that are tested at once.
const FINE: usize = 64;

/// Whether rows are queries and columns keys, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Query,
    Key,
}

impl Side {
    fn index(self) -> usize {
        usize::from(self == Side::Key)
    }

    fn other(self) -> Side {
        if self == Side::Query { Side::Key } else { Side::Query }
    }
}

impl Words<'_> {
    /// The first term, if it is that of an index.
    pub fn index(self) -> Option<[u32; TERM]> {
        self.words.get(1..)?.first_chunk().copied().filter(|term: &[u32; TERM]| [LISTS, KEYS].contains(&term[0]))
    }

    /// The first term, if it tells of lists of blocks.
    fn lists(self) -> Option<[u32; TERM]> {
        self.index().filter(|term| term[0] == LISTS)
    }

    fn length(self, side: Side) -> usize {
        if side == Side::Query { self.pairs.queries } else { self.pairs.keys }
    }

    /// What rows are cut at: their blocks, if lists of them are there.
    pub fn block(self, side: Side) -> Option<usize> {
        Some(self.lists()?[5 + side.index()] as usize)
    }

    /// Rows in tiles of at most `most`, each inside of one block.
    pub fn tiles(self, side: Side, rows: Range<usize>, most: usize) -> Vec<Range<usize>> {
        let block = self.block(side).unwrap_or(usize::MAX);
        let mut tiles = Vec::new();
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min(start + most).min((start / block).saturating_add(1).saturating_mul(block));
            tiles.push(start..end);
            start = end;
        }
        tiles
    }

    /// The columns that rows of one block go over, at most `most` at a time, and what their tile is; without those that nobody sees.
    pub fn steps(
        self,
        side: Side,
        batch: usize,
        head: usize,
        rows: &Range<usize>,
        most: usize,
    ) -> Vec<(Range<usize>, Tile)> {
        let tile = |columns: &Range<usize>| match side {
            Side::Query => self.tile(batch, head, rows, columns),
            Side::Key => self.tile(batch, head, columns, rows),
        };
        let steps: Vec<_> = match self.lists() {
            None => {
                let range = match side {
                    Side::Query => self.keys_of(batch, rows),
                    Side::Key => self.queries_of(batch, rows),
                };
                // Tested by fine pieces, so that more is skipped, of which neighbours then go together.
                let fine = FINE.min(most);
                let pieces = range.clone().step_by(fine).map(|start| start..range.end.min(start + fine));
                let mut runs: Vec<(Tile, Range<usize>)> = Vec::new();
                for (tile, columns) in pieces.map(|columns| (tile(&columns), columns)) {
                    match runs.last_mut() {
                        Some((of_run, run)) if of_run.joins(tile) && columns.end - run.start <= most => {
                            run.end = columns.end;
                            *of_run = if *of_run == tile { tile } else { Tile::Partial };
                        }
                        _ => runs.push((tile, columns)),
                    }
                }
                runs
            }
            Some(lists) => self
                .listed(side, lists, batch, head, rows.start, most)
                .into_iter()
                .map(|(columns, full)| (if full { Tile::Full } else { tile(&columns) }, columns))
                .collect(),
        };
        steps.into_iter().filter(|(tile, _)| *tile != Tile::Empty).map(|(tile, columns)| (columns, tile)).collect()
    }

    /// Which of the matrices with lists of their own is that of a head.
    pub fn matrix(self, batch: usize, head: usize, [batches, heads]: [u32; 2]) -> usize {
        batch * batches as usize / self.pairs.batch * heads as usize + head * heads as usize / self.pairs.heads
    }

    /// The listed columns of the block of a row, neighbours together, and whether nothing hides a pair of them.
    fn listed(
        self,
        side: Side,
        [_, by_query, by_key, batches, heads, query_block, key_block, whole]: [u32; TERM],
        batch: usize,
        head: usize,
        row: usize,
        most: usize,
    ) -> Vec<(Range<usize>, bool)> {
        let (list, blocks) = ([by_query, by_key][side.index()] as usize, [query_block as usize, key_block as usize]);
        let (own, along) = (blocks[side.index()], blocks[side.other().index()]);
        let matrix = self.matrix(batch, head, [batches, heads]);
        let place = list + ROW * (matrix * self.length(side).div_ceil(own) + row / own);
        let (start, count) = (list + self.words[place] as usize, self.words[place + 1] as usize);
        let end = self.length(side.other());
        let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
        for &entry in &self.words[start..start + count] {
            let (first, full) = ((entry / 2) as usize * along, entry & whole == 1);
            for start in (first..end.min(first + along)).step_by(most) {
                let columns = start..end.min(first + along).min(start + most);
                match runs.last_mut() {
                    Some((run, of_run))
                        if *of_run == full && run.end == columns.start && columns.end - run.start <= most =>
                    {
                        run.end = columns.end;
                    }
                    _ => runs.push((columns, full)),
                }
            }
        }
        runs
    }
}
