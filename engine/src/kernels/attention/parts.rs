//! Parts that kernels divide a row of tiles into, where a driver ends loops after some turns: how many, and their results put together.

use super::{Call, LISTS, TILE, Variant};
use crate::device::gpu::Caps;
use crate::mask::steps::Side;
use crate::ops::attention::Plan;
use crate::{Dims, Result, Tensor};

/// Turns of the loops before and after the steps.
const AROUND: usize = 200;
/// Of a loop over 32 columns by halves that loads 4 and adds 16 at a time, if nothing is unrolled.
const HALVES: usize = 52;

/// A row of tiles, or a list.
struct Row {
    /// Tiles of 32 columns, or fours of entries.
    steps: usize,
    /// Turns of one step, in all heads that the row is gone over for.
    each: usize,
    /// Turns that no step is part of.
    around: usize,
}

impl Row {
    /// The least parts within the limit, which is 1 where the driver has none.
    fn parts(&self, caps: &Caps) -> usize {
        let Some(limit) = caps.max_turns else { return 1 };
        let steps = limit.saturating_sub(self.around) / self.each;
        self.steps.div_ceil(steps.max(1)).max(1)
    }
}

impl Call {
    /// Of the kernel that goes over the keys of queries, or the queries of keys, for these products of fours of elements.
    pub(super) fn parts(&self, caps: &Caps, plan: &Plan, side: Side, variant: &Variant, products: &[usize]) -> usize {
        let heads = if side == Side::Key { plan.group() } else { 1 };
        let each = if variant.rows == LISTS.rows {
            self.listed(plan, products)
        } else if variant.is_lanes() {
            self.lanes(plan, side, variant, products)
        } else {
            self.tiles(plan, side, products)
        };
        let steps = match (plan.lists, side) {
            (Some([keys, queries]), _) if variant.rows == LISTS.rows => {
                if side == Side::Query { keys } else { queries }.div_ceil(4)
            }
            // A union of 32 lists.
            (Some([keys, _]), _) => keys.min(columns(plan, side)),
            (None, _) => columns(plan, side),
        };
        Row { steps, each: heads * each, around: AROUND + heads * plan.mask.range }.parts(caps)
    }

    /// Of sums of scores by rows or diagonals.
    pub(super) fn parts_of_sums(&self, caps: &Caps, plan: &Plan) -> usize {
        let pairs = plan.pairs;
        let entries = plan.lists.map_or(pairs.keys.div_ceil(TILE), |[keys, _]| keys);
        let search = (usize::BITS - entries.leading_zeros()) as usize + 2;
        let listed = match (plan.lists, plan.blocks) {
            (Some(_), _) => 17 + 16 * search,
            (None, Some(_)) => search,
            (None, None) => 0,
        };
        let each = self.tiles(plan, Side::Key, &[self.d4, self.dv4]) + listed + 20 + TILE + 1;
        Row { steps: pairs.queries.max(pairs.keys).div_ceil(TILE), each, around: AROUND }.parts(caps)
    }

    /// Turns that a row and a four of columns take to tell who sees whom.
    fn sights(&self, plan: &Plan, side: Side) -> usize {
        match plan.mask.row {
            row if plan.united && side == Side::Query && row > 0 => 5 + 4 * row,
            row => row,
        }
    }

    /// `attention/gather_*.wgsl`, for each four.
    fn listed(&self, plan: &Plan, products: &[usize]) -> usize {
        let products: usize = products.iter().map(|fours| fours + 1).sum();
        1 + products + 4 * plan.mask.row + 5 * 4 + 17
    }

    /// `attention/*_lanes.wgsl`, for each tile: loops over four rows are unrolled where scores are only scaled.
    fn lanes(&self, plan: &Plan, side: Side, variant: &Variant, products: &[usize]) -> usize {
        let rows = variant.rows;
        let scores = if self.is_plain { 0 } else { 3 * 5 * rows / 4 };
        let vectors = if side == Side::Key { 2 * 9 } else { 9 };
        let products: usize = products.iter().map(|fours| fours / 2 + 1).sum();
        1 + products + vectors + scores + rows + 1 + rows * self.sights(plan, side) + plan.mask.tile
    }

    /// `attention/forward.wgsl` and those beside it, for each tile.
    fn tiles(&self, plan: &Plan, side: Side, products: &[usize]) -> usize {
        let products: usize = products.iter().map(|fours| fours.div_ceil(4) * 23 + 1).sum();
        let scores = if self.is_plain { 0 } else { 4 * 5 };
        1 + products + 2 * HALVES + scores + 3 * 9 + 5 + 4 * self.sights(plan, side) + plan.mask.tile
    }
}

/// Tiles of 32 columns that a row of tiles goes over at most. Which blocks are listed, only a device may know.
fn columns(plan: &Plan, side: Side) -> usize {
    let length = if side == Side::Query { plan.pairs.keys } else { plan.pairs.queries };
    // A tile has rows beside each other, and begins and ends anywhere in the tiles of columns.
    plan.mask.widest.map_or(length, |widest| widest.saturating_add(3 * TILE).min(length)).div_ceil(TILE)
}

/// The results of parts [parts, batch, rows, heads, width] and the logarithms of their sums [parts, batch, heads, rows] as one: each weighs as
/// much as its sum.
pub(super) fn joined(out: &Tensor, log_sums: &Tensor) -> Result<(Tensor, Tensor)> {
    let most = log_sums.max(&[0], true)?;
    let weights = log_sums.sub(&most)?.exp()?;
    let total = weights.sum(&[0], true)?;
    let weights = weights.div(&total)?.transpose(2, 3)?.unsqueeze(-1)?;
    let log_sums = most.add(&total.log()?)?.squeeze(0)?;
    Ok((out.mul(&weights)?.sum(&[0], false)?, log_sums))
}

/// A shape behind a number of parts, if there is more than one.
pub(super) fn shape(op: &'static str, parts: usize, shape: &[usize]) -> Result<Dims> {
    let all: Vec<usize> = (parts > 1).then_some(parts).into_iter().chain(shape.iter().copied()).collect();
    Dims::new(op, &all)
}

/// The sum of a tensor of parts.
pub(super) fn summed(parts: usize, x: Tensor) -> Result<Tensor> {
    if parts > 1 { x.sum(&[0], false) } else { Ok(x) }
}
