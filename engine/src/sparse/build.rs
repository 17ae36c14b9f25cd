//! Block indices from masks and from lists.

use std::ops::Range;

use super::{BlockIndex, BlockLayout, BlockLists, expect_lists, tensor, words};
use crate::cpu::parallel::fill_rows;
use crate::device::Kind;
use crate::kernels::sparse as kernels;
use crate::mask::words::{Tile, Words};
use crate::mask::{Mask, lower};
use crate::{Device, Error, Result, Tensor};

impl BlockIndex {
    /// The blocks that `mask` does not wholly hide, by the test of tiles that attention uses, on the device that the index is for.
    /// Both devices list the same blocks. On a GPU there is room for each block of the layout, 8 bytes.
    ///
    /// # Errors
    /// If the mask does not fit the layout, there is no block, or a block is no multiple of 32.
    pub fn from_mask(mask: &Mask, layout: BlockLayout, device: &Device) -> Result<Self> {
        let op = "BlockIndex::from_mask";
        layout.check(op)?;
        Self::from_kinds(op, &kinds(op, mask, false, layout, device)?, layout, mask.clone())
    }

    /// From lists of key blocks, by batch element, head and block of queries. `mask` hides pairs inside of listed blocks.
    ///
    /// # Errors
    /// If the lists do not fit the layout, are not ascending or reach beyond it, the mask does not fit, or hides a pair of a full
    /// block.
    pub fn from_lists(lists: BlockLists, mask: &Mask, layout: BlockLayout, device: &Device) -> Result<Self> {
        let op = "BlockIndex::from_lists";
        Self::checked(op, lists, mask, layout, device)
    }

    /// From the four arrays of FlexAttention's `BlockMask`, all u32: the numbers [batch, heads, query blocks] and the key blocks [batch, heads,
    /// query blocks, width] of partial blocks, and the same of full ones, if any. What stands behind a row's number is not read.
    ///
    /// # Errors
    /// As [`BlockIndex::from_lists`], and if the arrays are of other shapes.
    pub fn from_flex(
        partial: [&Tensor; 2],
        full: Option<[&Tensor; 2]>,
        mask: &Mask,
        layout: BlockLayout,
        device: &Device,
    ) -> Result<Self> {
        let op = "BlockIndex::from_flex";
        layout.check(op)?;
        let [rows, _] = layout.blocks();
        let mut of_rows = vec![Vec::new(); layout.matrices() * rows];
        for ([numbers, blocks], is_full) in
            [(Some(partial), false), (full, true)].into_iter().filter_map(|(x, f)| Some((x?, f)))
        {
            let shape = [layout.batch, layout.heads, rows];
            let width = blocks.shape().last().copied().unwrap_or(0);
            let counts = expect_lists(op, "numbers of blocks", numbers, &shape)?;
            let entries = expect_lists(op, "blocks", blocks, &[layout.batch, layout.heads, rows, width])?;
            for (row, &count) in counts.iter().enumerate() {
                if count as usize > width {
                    let message = format!("row {row} has {count} blocks, but there is room for {width}");
                    return Err(Error::argument(op, message));
                }
                of_rows[row].extend(entries[row * width..][..count as usize].iter().map(|&b| (b as usize, is_full)));
            }
        }
        // There each array is ascending, and need not be.
        of_rows.iter_mut().for_each(|row| row.sort_unstable());
        Self::checked(op, BlockLists::collect(of_rows.into_iter()), mask, layout, device)
    }

    fn checked(op: &'static str, lists: BlockLists, mask: &Mask, layout: BlockLayout, device: &Device) -> Result<Self> {
        layout.check(op)?;
        let [rows, columns] = layout.blocks();
        lists.check(op, layout.matrices() * rows, columns)?;
        let kinds = kinds(op, mask, true, layout, device)?.to_vec::<u32>()?;
        for (row, blocks) in lists.rows().enumerate() {
            if let Some((block, _)) =
                blocks.into_iter().find(|&(block, full)| full && kinds[row * columns + block] != 2)
            {
                let message =
                    format!("block {}, {block} is listed as full, but the mask hides pairs of it", row % rows);
                return Err(Error::argument(op, message));
            }
        }
        Self::from_host(lists, layout, mask.clone(), device)
    }

    fn from_host(lists: BlockLists, layout: BlockLayout, mask: Mask, device: &Device) -> Result<Self> {
        let matrices = layout.matrices();
        let by_key = lists.transposed(matrices, layout.blocks()[1]);
        let list = |lists: &BlockLists| tensor(words::write(lists, matrices), device);
        Ok(Self::of(layout, list(&lists)?, list(&by_key)?, mask))
    }

    /// From what each block is, [matrices, query blocks, key blocks] u32: 0 not listed, 1 partial, 2 full.
    pub(super) fn from_kinds(op: &'static str, kinds: &Tensor, layout: BlockLayout, mask: Mask) -> Result<Self> {
        let [rows, columns] = layout.blocks();
        if kinds.device().is_gpu() {
            let list = |by_key: bool| kernels::lists(op, kinds, layout.matrices(), [rows, columns], by_key);
            return Ok(Self::of(layout, list(false)?, list(true)?, mask));
        }
        let kinds_of = kinds.to_vec::<u32>()?;
        let of_row = |row: &[u32]| {
            row.iter().enumerate().filter(|(_, kind)| **kind > 0).map(|(block, &kind)| (block, kind == 2)).collect()
        };
        let lists = BlockLists::collect(kinds_of.chunks(columns).map(of_row));
        Self::from_host(lists, layout, mask, kinds.device())
    }
}

/// What the mask makes of each block of a layout that was checked: [matrices, query blocks, key blocks] u32, 0 hidden, 1 partial, 2 full. With `each`,
/// and for a function of the user, pairs are looked at where the test of tiles cannot tell.
pub(super) fn kinds(op: &'static str, mask: &Mask, each: bool, layout: BlockLayout, device: &Device) -> Result<Tensor> {
    let each = each || mask.code().is_some();
    let pairs = layout.pairs();
    mask.check(op, pairs)?;
    // A mask of its own, so that this one is not prepared for a batch of another size.
    let lowered = Mask::all().and(mask.clone()).lowered(op, pairs, device)?;
    if let Kind::Gpu(_) = device.kind() {
        return kernels::kinds(op, lowered.as_ref(), mask, each, layout, device);
    }
    let seen = lower::words(op, lowered.as_ref(), mask.code(), pairs)?;
    let [rows, columns] = layout.blocks();
    let kinds = fill_rows(layout.matrices() * rows, columns, |row, kinds: &mut [u32]| {
        let (matrix, row) = (row / rows, row % rows);
        for (block, kind) in kinds.iter_mut().enumerate() {
            let [queries, keys] = layout.ranges(row, block);
            *kind = exact(seen, each, matrix / layout.heads, matrix % layout.heads, &queries, &keys) as u32;
        }
    });
    Tensor::from_vec(kinds, &[layout.matrices(), rows, columns], device)
}

/// What a block is: by the test of tiles, which may say partial of a full or an empty one, or looking at each pair where it cannot tell.
fn exact(seen: Words, each: bool, batch: usize, head: usize, queries: &Range<usize>, keys: &Range<usize>) -> Tile {
    let tile = seen.tile(batch, head, queries, keys);
    if tile != Tile::Partial || !each {
        return tile;
    }
    let mut count = 0;
    for i in queries.clone() {
        let mut row = vec![true; keys.len()];
        seen.hide(batch, head, i, keys, &mut row, false);
        count += row.into_iter().filter(|&seen| seen).count();
    }
    match count {
        0 => Tile::Empty,
        all if all == queries.len() * keys.len() => Tile::Full,
        _ => Tile::Partial,
    }
}
