//! Sorting. The work is in [`crate::ops::sort`].
//!
//! Sorts are stable: equal elements stay in their order, ascending and descending, so that the lower index comes first. NaN counts
//! as greater than all numbers; the two zeros are equal.

use crate::ops::sort;
use crate::{Result, Tensor};

impl Tensor {
    /// Sorts along a dimension: the values, differentiable, and their indices as u32.
    ///
    /// # Errors
    /// If the dimension is out of range, or for truth values.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Tensor, Tensor)> {
        sort::sort(self, dim, descending)
    }

    /// The indices that sort along a dimension, u32.
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Tensor> {
        sort::argsort(self, dim, descending)
    }

    /// The `k` largest or smallest along a dimension, in order, and their indices as u32. Of equal elements the one with the
    /// lower index comes first.
    ///
    /// # Errors
    /// As [`Tensor::sort`], and if `k` exceeds the size of the dimension.
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Tensor, Tensor)> {
        sort::topk(self, k, dim, largest)
    }

    /// Where the `k` largest or smallest of the last dimension stand, u32 in ascending order: lists of keys for sparse attention. Of equal
    /// elements the one with the lower index is taken. On GPUs by radix select, in time that grows with the length and not with `k`.
    ///
    /// # Errors
    /// As [`Tensor::topk`].
    pub fn topk_places(&self, k: usize, largest: bool) -> Result<Tensor> {
        sort::topk_places(self, k, largest)
    }
}
