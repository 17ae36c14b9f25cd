//! Lists of blocks on the host.

use super::words::ROW;
use crate::{Error, Result};

/// For each row of blocks, those that are listed: compressed sparse rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockLists {
    /// Where the blocks of a row begin, with the end of the last: one more than there are rows, over all matrices in a row.
    pub starts: Vec<u32>,
    /// Columns, ascending in a row.
    pub blocks: Vec<u32>,
    /// Whether the mask hides nothing in a block.
    pub full: Vec<bool>,
}

impl BlockLists {
    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no block is listed.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The blocks of each row, and whether they are full.
    pub(super) fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, bool)>> {
        self.starts.windows(2).map(|ends| {
            let range = ends[0] as usize..ends[1] as usize;
            self.blocks[range.clone()].iter().map(|&block| block as usize).zip(self.full[range].iter().copied())
        })
    }

    /// From rows of blocks and whether they are full.
    pub(super) fn collect(rows: impl Iterator<Item = Vec<(usize, bool)>>) -> Self {
        let mut lists = BlockLists { starts: vec![0], ..BlockLists::default() };
        for row in rows {
            for (block, full) in row {
                lists.blocks.push(block as u32);
                lists.full.push(full);
            }
            lists.starts.push(lists.blocks.len() as u32);
        }
        lists
    }

    /// The same blocks by column, where each of `matrices` has `columns` columns.
    #[must_use]
    pub fn transposed(&self, matrices: usize, columns: usize) -> BlockLists {
        let rows = (self.starts.len().saturating_sub(1)) / matrices.max(1);
        let mut by_column = vec![Vec::new(); matrices * columns];
        for (row, blocks) in self.rows().enumerate() {
            let (matrix, row) = (row / rows.max(1), row % rows.max(1));
            blocks.for_each(|(block, full)| by_column[matrix * columns + block].push((row, full)));
        }
        BlockLists::collect(by_column.into_iter())
    }

    /// Errs unless there are so many rows of ascending blocks below `columns`.
    pub(super) fn check(&self, op: &'static str, rows: usize, columns: usize) -> Result<()> {
        let BlockLists { starts, blocks, full } = self;
        if starts.len() != rows + 1 || blocks.len() != full.len() {
            let message = format!(
                "{} starts, {} blocks and {} marks of full ones, expected {} starts and a mark for each block",
                starts.len(),
                blocks.len(),
                full.len(),
                rows + 1
            );
            return Err(Error::shape(op, message));
        }
        let ascend = starts.windows(2).all(|ends| ends[0] <= ends[1]);
        if starts.first() != Some(&0) || !ascend || starts.last().map(|&end| end as usize) != Some(blocks.len()) {
            let message = format!("starts do not rise from 0 to {}, the number of blocks", blocks.len());
            return Err(Error::argument(op, message));
        }
        for (row, ends) in starts.windows(2).enumerate() {
            let of_row = &blocks[ends[0] as usize..ends[1] as usize];
            if let Some(&block) = of_row.iter().find(|&&block| block as usize >= columns) {
                return Err(Error::Index { op, index: i64::from(block), size: columns });
            }
            if let Some(pair) = of_row.windows(2).find(|pair| pair[0] >= pair[1]) {
                let message = format!("row {row} lists block {} before block {}: not ascending", pair[0], pair[1]);
                return Err(Error::argument(op, message));
            }
        }
        Ok(())
    }

    /// From the words of [`super::words`], where each of `matrices` has so many rows and columns.
    pub(super) fn read(words: &[u32], matrices: usize, rows: usize, columns: usize) -> Result<Self> {
        let bad = || Error::argument("BlockIndex", "the lists are damaged");
        let rows = words.chunks_exact(ROW).take(matrices * rows).map(|row| {
            let (start, count) = (row[0] as usize, row[1] as usize);
            let entries = words.get(start..start + count).filter(|_| count <= columns)?;
            Some(entries.iter().map(|&entry| ((entry / 2) as usize, entry % 2 == 1)).collect())
        });
        Ok(BlockLists::collect(rows.collect::<Option<Vec<_>>>().ok_or_else(bad)?.into_iter()))
    }
}
