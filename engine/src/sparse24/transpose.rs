//! The transposed matrix of one that is 2:4 both ways, packed too: what the gradient of a product's input is computed with.

use super::Sparse24;
use super::pack::pack;
use crate::{Result, Tensor};

impl Sparse24 {
    /// The same matrix with its transpose packed beside it, in as much memory again, for products whose gradient to the input is to read a
    /// packed matrix too. Of each 4 x 4 weights no column may keep more than two, as [`Tensor::transposable_mask`] chooses them
    /// (Hubara et al., "Accelerated sparse neural training", 2021, arXiv 2102.08124). It goes with these values: with
    /// [others](Self::with_values) it is dropped. Waits for the device.
    ///
    /// # Errors
    /// If a column keeps more than two of four rows: names it, as a row of the transpose.
    pub fn with_transpose(self) -> Result<Self> {
        let turn = |packed: &Sparse24| packed.to_dense()?.detach().transpose(0, 1)?.contiguous();
        let kept = self.with_values(&self.values.ones_like()?)?;
        let zero = Tensor::scalar(0.0, self.dtype(), self.device())?;
        let transposed = pack("Sparse24::with_transpose", &turn(&self)?, &turn(&kept)?.ne(&zero)?)?;
        Ok(Sparse24 { transposed: Some(Box::new(transposed)), ..self })
    }

    /// The transposed matrix, if [it is there](Self::with_transpose).
    pub fn transposed(&self) -> Option<&Sparse24> {
        self.transposed.as_deref()
    }
}
