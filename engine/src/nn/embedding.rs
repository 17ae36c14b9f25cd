//! Look-up tables.

use super::{Build, Module, Param, Visitor};
use crate::{Error, Result, Tensor};

/// Rows of a table, chosen by ids: `[..]` to `[.., width]`.
pub struct Embedding {
    /// `[count, width]`.
    pub weight: Param,
    /// A row that look-ups give no gradient to.
    pub padding_idx: Option<usize>,
}

impl Embedding {
    /// A table with new values; the row `padding_idx` starts at zero.
    ///
    /// # Errors
    /// If `padding_idx` is not below `count`, or as [`Build::weight`].
    pub fn new(count: usize, width: usize, padding_idx: Option<usize>, build: &Build) -> Result<Self> {
        let weight = build.weight(&[count, width])?;
        if let Some(row) = padding_idx {
            if row >= count {
                return Err(Error::Index { op: "Embedding::new", index: row as i64, size: count });
            }
            if !build.is_blank() {
                let table = weight.tensor().detach();
                let zero = Tensor::zeros(&[1, width], build.dtype, &build.device)?;
                let (before, after) = (table.slice(0, 0, row, 1)?, table.slice(0, row + 1, count, 1)?);
                weight.set(&Tensor::concat(&[&before, &zero, &after], 0)?)?;
            }
        }
        Ok(Embedding { weight, padding_idx })
    }

    /// The rows of `ids` (u32 or i32).
    ///
    /// # Errors
    /// If an id is out of range (on a GPU the next call that waits says so), or the dtype is none of these.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.weight.tensor().embedding(ids, self.padding_idx)
    }
}

impl Module for Embedding {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
    }
}
