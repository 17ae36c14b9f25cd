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
}
