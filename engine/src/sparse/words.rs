//! Lists of blocks as kernels read them, which `shaders/common/steps.wgsl` explains.
//!
//! One list has, for each matrix of blocks (by batch element and head that has its own) and each of its rows, three words: the place of the row's
//! first entry, the number of its entries, and for the `n`-th row the one that is `n`-th by number of entries. Entries follow, twice
//! the column, and one more if the block is full.

use super::BlockLists;

/// Kind of the first term of a mask's words: `[kind, by query, by key, batches, heads, query block, key block, whole]`, where the lists'
/// places are those of their first words, from which the places of entries count.
pub(crate) const LISTS: u32 = 6;
/// Words of a row before the entries.
pub(crate) const ROW: usize = 3;

/// The words of the lists of so many matrices.
pub(super) fn write(lists: &BlockLists, matrices: usize) -> Vec<u32> {
    let count = lists.starts.len() - 1;
    let rows = count / matrices.max(1);
    let mut words = Vec::with_capacity(ROW * count + lists.blocks.len());
    for matrix in lists.starts[..count].chunks(rows.max(1)).enumerate() {
        let first = matrix.0 * rows;
        let length = |row: usize| lists.starts[first + row + 1] - lists.starts[first + row];
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(length(row)));
        for (row, longest) in order.into_iter().enumerate() {
            words.extend([(ROW * count) as u32 + lists.starts[first + row], length(row), longest as u32]);
        }
    }
    words.extend(lists.blocks.iter().zip(&lists.full).map(|(&block, &full)| 2 * block + u32::from(full)));
    words
}
