//! Views: other shapes of the same data. The work is in [`crate::ops::view`].

use crate::ops::view;
use crate::{Result, Tensor};

impl Tensor {
    /// The same elements in row-major order under another shape. A view where strides allow it, else a copy. One size
    /// may be -1: it is what is left.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: &[isize]) -> Result<Tensor> {
        view::reshape(self, shape)
    }

    /// Reorders the dimensions: dimension `i` of the result is dimension `axes[i]` of this.
    ///
    /// # Errors
    /// If `axes` is not a permutation of all dimensions.
    pub fn permute(&self, axes: &[isize]) -> Result<Tensor> {
        view::permute("permute", self, axes)
    }

    /// Swaps two dimensions.
    ///
    /// # Errors
    /// If one of them is out of range.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        view::transpose(self, a, b)
    }

    /// `length` slices of one dimension from `start` on.
    ///
    /// # Errors
    /// If they reach beyond the end.
    pub fn narrow(&self, dim: isize, start: usize, length: usize) -> Result<Tensor> {
        view::slice("narrow", self, dim, start, start.saturating_add(length), 1)
    }

    /// Every `step`-th slice of one dimension from `start` up to but without `stop`.
    ///
    /// # Errors
    /// If `step` is 0, `start > stop`, or `stop` is beyond the end.
    pub fn slice(&self, dim: isize, start: usize, stop: usize, step: usize) -> Result<Tensor> {
        view::slice("slice", self, dim, start, stop, step)
    }

    /// One slice of a dimension, without the dimension.
    ///
    /// # Errors
    /// If the index is beyond the end.
    pub fn select(&self, dim: isize, index: usize) -> Result<Tensor> {
        view::select(self, dim, index)
    }

    /// Repeats dimensions of size 1 without a copy, by numpy's broadcasting rules.
    ///
    /// # Errors
    /// If the shape does not broadcast.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor> {
        view::expand(self, shape)
    }

    /// Inserts a dimension of size 1 before `dim`; -1 appends it.
    ///
    /// # Errors
    /// If `dim` is out of range or the rank would exceed the maximum.
    pub fn unsqueeze(&self, dim: isize) -> Result<Tensor> {
        view::unsqueeze(self, dim)
    }

    /// Removes a dimension of size 1.
    ///
    /// # Errors
    /// If its size is not 1.
    pub fn squeeze(&self, dim: isize) -> Result<Tensor> {
        view::squeeze(self, dim)
    }

    /// Joins the dimensions from `first` to `last` (both included) into one.
    ///
    /// # Errors
    /// If they are out of range or in the wrong order.
    pub fn flatten(&self, first: isize, last: isize) -> Result<Tensor> {
        view::flatten(self, first, last)
    }

    /// Cuts one dimension into pieces of the given sizes.
    ///
    /// # Errors
    /// If the sizes do not add up to the dimension's.
    pub fn split(&self, sizes: &[usize], dim: isize) -> Result<Vec<Tensor>> {
        view::split(self, sizes, dim)
    }

    /// Cuts one dimension into equal pieces.
    ///
    /// # Errors
    /// If the dimension's size is not a multiple of `pieces`.
    pub fn chunk(&self, pieces: usize, dim: isize) -> Result<Vec<Tensor>> {
        view::chunk(self, pieces, dim)
    }

    /// The same tensor with its elements in row-major order: itself if they are.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn contiguous(&self) -> Result<Tensor> {
        view::contiguous(self)
    }
}
