//! Joining, padding and repeating. The work is in [`crate::ops::join`].

use crate::ops::join::{self, PadMode};
use crate::{Result, Tensor};

impl Tensor {
    /// Joins tensors along a dimension in which their sizes may differ.
    ///
    /// # Errors
    /// If there are none, or they differ in another dimension, in dtype or in device.
    pub fn concat(parts: &[&Tensor], dim: isize) -> Result<Tensor> {
        join::concat("concat", parts, dim)
    }

    /// Joins tensors of one shape along a new dimension, inserted before `dim`; -1 appends it.
    ///
    /// # Errors
    /// As [`Tensor::concat`], and if the rank would exceed the maximum.
    pub fn stack(parts: &[&Tensor], dim: isize) -> Result<Tensor> {
        join::stack(parts, dim)
    }

    /// Adds `(before, after)` to each dimension, outermost first. Negative numbers crop.
    ///
    /// # Errors
    /// If there is not one pair for each dimension, more is cropped than there is, or there is not enough to mirror.
    pub fn pad(&self, pads: &[(isize, isize)], mode: PadMode) -> Result<Tensor> {
        join::pad(self, pads, mode)
    }

    /// Reverses dimensions; all if none is named.
    ///
    /// # Errors
    /// If one is out of range or named twice.
    pub fn flip(&self, dims: &[isize]) -> Result<Tensor> {
        join::flip(self, dims)
    }

    /// Moves slices along `dim` by `shift` places; what leaves at one end comes in at the other.
    ///
    /// # Errors
    /// If the dimension is out of range.
    pub fn roll(&self, shift: isize, dim: isize) -> Result<Tensor> {
        join::roll(self, shift, dim)
    }

    /// Repeats the whole along each dimension, as tiles. With more numbers than dimensions, dimensions come in front.
    ///
    /// # Errors
    /// If there are fewer numbers than dimensions, or the result has too many elements.
    pub fn repeat(&self, repeats: &[usize]) -> Result<Tensor> {
        join::repeat(self, repeats)
    }

    /// Repeats each slice along `dim` `n` times in a row.
    ///
    /// # Errors
    /// If the dimension is out of range, or the result has too many elements.
    pub fn repeat_interleave(&self, n: usize, dim: isize) -> Result<Tensor> {
        join::repeat_interleave(self, n, dim)
    }
}
