//! Block indices from scores of blocks.

use super::build::kinds;
use super::{BlockIndex, BlockLayout};
use crate::mask::Mask;
use crate::{DType, Error, Result, Tensor};

impl BlockIndex {
    /// For each block of queries, the `k` key blocks of the highest scores among those that `mask` does not wholly hide, those with the lower index
    /// among equals, and before them the ones that `forced` names, as far as there is room. `scores` is [batch, heads, query blocks, key
    /// blocks], and the index is made on its device; `forced` is bool and broadcasts to it. The choice has no gradient.
    ///
    /// # Errors
    /// If scores, forced blocks or the mask do not fit the layout, or `k` is 0.
    pub fn from_scores(
        scores: &Tensor,
        k: usize,
        forced: Option<&Tensor>,
        mask: &Mask,
        layout: BlockLayout,
    ) -> Result<Self> {
        let op = "BlockIndex::from_scores";
        layout.check(op)?;
        scores.expect_float(op)?;
        let [rows, columns] = layout.blocks();
        let shape = [layout.batch, layout.heads, rows, columns];
        if scores.shape() != shape {
            return Err(Error::shape(op, format!("scores of shape {:?}, expected {shape:?}", scores.shape())));
        }
        if k == 0 {
            return Err(Error::argument(op, "the best 0 blocks of each row, expected at least one"));
        }
        let possible = kinds(op, mask, false, layout, scores.device())?.reshape(&shape.map(|n| n as isize))?;
        let hidden = possible.eq(&possible.zeros_like()?)?;
        // First what is forced, then the others by score; what is hidden is last, and left out below.
        let mut order = scores.detach();
        if order.dtype().is_half() {
            order = order.cast(DType::F32)?;
        }
        let mut order = order.clamp(Some(-LARGE), Some(LARGE))?;
        if let Some(forced) = forced {
            forced.expect_dtype(op, DType::Bool, "a bool for each block that is forced")?;
            order = order.masked_fill(forced, 2.0 * LARGE)?;
            if order.shape() != shape {
                let message = format!("forced blocks of shape {:?} do not broadcast to {shape:?}", forced.shape());
                return Err(Error::shape(op, message));
            }
        }
        let order = order.masked_fill(&hidden, -2.0 * LARGE)?;
        let (_, best) = order.topk(k.min(columns), -1, true)?;
        let chosen = possible.gather(-1, &best)?;
        let kinds = possible.zeros_like()?.scatter(-1, &best, &chosen)?;
        Self::from_kinds(op, &kinds, layout, mask.clone())
    }
}

/// Beyond all scores.
const LARGE: f64 = 1e30;
