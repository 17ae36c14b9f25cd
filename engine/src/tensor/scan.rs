//! Running sums and products. The work is in [`crate::ops::scan`].

use crate::ops::scan;
use crate::{Result, Tensor};

impl Tensor {
    /// Running sum along a dimension, each element included. Integers wrap around.
    ///
    /// # Errors
    /// For bool tensors, or if the dimension is out of range.
    pub fn cumsum(&self, dim: isize) -> Result<Tensor> {
        scan::cumsum(self, dim)
    }

    /// Running product along a dimension, each element included. The gradient is exact where factors are 0. Integers wrap
    /// around.
    ///
    /// # Errors
    /// As [`Tensor::cumsum`].
    pub fn cumprod(&self, dim: isize) -> Result<Tensor> {
        scan::cumprod(self, dim)
    }

    /// A running sum that forgets along dimension 2 of `[batch, heads, n, ..]`: `y_c = x_c + factor y_(c-1)` with one factor a
    /// head, `factor [heads]`. The state of linear attention runs from chunk to chunk so, and every exponential mean does.
    ///
    /// # Errors
    /// If there are less than three dimensions, the factors are not one a head, or dtypes or devices do not fit.
    pub fn decaying_sum(&self, factor: &Tensor) -> Result<Tensor> {
        scan::decaying_sum(self, factor)
    }
}
