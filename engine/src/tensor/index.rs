//! Reading and writing at positions that are data. The work is in [`crate::ops::index`].
//!
//! Indices are u32 or i32 and count from 0. One that is out of range is [`crate::Error::Index`]: at once on the CPU device;
//! on a GPU from the next call that waits (a read or [`crate::Device::sync`]), while the results until then are finite but arbitrary.

use crate::ops::index;
use crate::{Result, Tensor};

impl Tensor {
    /// Looks up rows of this table `[rows, features]`: `ids` of any shape give `[ids.., features]`. The row `padding_idx` gets
    /// no gradient.
    ///
    /// # Errors
    /// If this is not of rank 2, `ids` are not integers, or an id or `padding_idx` is out of range.
    pub fn embedding(&self, ids: &Tensor, padding_idx: Option<usize>) -> Result<Tensor> {
        index::embedding(self, ids, padding_idx)
    }

    /// Slices along `dim` by a list of indices, which may repeat.
    ///
    /// # Errors
    /// If the index is not a list of integers, or out of range.
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        index::index_select(self, dim, index)
    }

    /// This with slice `i` of `src` added to slice `index[i]` along `dim`. Indices may repeat; sums are made in their order.
    ///
    /// # Errors
    /// If the index is not a list of integers or out of range, or `src` differs in dtype, or in shape other than by having
    /// as many slices as there are indices.
    pub fn index_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        index::index_add(self, dim, index, src)
    }

    /// Elements along `dim` by an index of the same rank: `y[i, j] = x[index[i, j], j]` for `dim` 0, `x[i, index[i, j]]` for 1.
    /// The result has the shape of the index, which elsewhere may be smaller than this.
    ///
    /// # Errors
    /// If the index is not of integers, has another rank, is larger in another dimension, or is out of range.
    pub fn gather(&self, dim: isize, index: &Tensor) -> Result<Tensor> {
        index::gather(self, dim, index)
    }

    /// This with each element of `src` added where [`Tensor::gather`] would read. Indices may repeat; sums are made in
    /// row-major order.
    ///
    /// # Errors
    /// As [`Tensor::gather`], and if `src` has not the shape of the index or not this dtype.
    pub fn scatter_add(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        index::scatter_add(self, dim, index, src)
    }

    /// This with each element of `src` put where [`Tensor::gather`] would read. Where several go to one place, the last in
    /// row-major order stays, and only it gets a gradient.
    ///
    /// # Errors
    /// As [`Tensor::scatter_add`].
    pub fn scatter(&self, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        index::scatter(self, dim, index, src)
    }

    /// u32 1 where the class is the index and 0 elsewhere, in a new last dimension of size `classes`.
    ///
    /// # Errors
    /// If these are not integers, or one is not below `classes`.
    pub fn one_hot(&self, classes: usize) -> Result<Tensor> {
        index::one_hot(self, classes)
    }
}
