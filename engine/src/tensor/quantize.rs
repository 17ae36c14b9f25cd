//! Rounding to few bits. The work is in [`crate::ops::quantize`].

use crate::ops::quantize;
use crate::{Result, Tensor};

impl Tensor {
    /// Each row of the last dimension rounded to what a symmetric code of 2 to 8 bits holds of it: the nearest of the `2^bits - 1` numbers
    /// `-n s, .., 0, .., n s` with `n = 2^(bits - 1) - 1` and the row's step `s = max|x| / n`; halves go to the even code. The dtype stays;
    /// halves are worked on in f32. A row that holds a number that is not finite becomes NaN.
    ///
    /// Its gradient is that of the identity (straight through, Bengio et al., "Estimating or propagating gradients through stochastic
    /// neurons", 2013): a step is taken as a constant, and as it follows the largest element, none is cut off.
    ///
    /// ```
    /// # fn main() -> wgrad::Result<()> {
    /// let weight = wgrad::Tensor::from_slice(&[4.0f32, -1.0, 2.5, 0.0], &[1, 4], &wgrad::Device::cpu())?;
    /// assert_eq!(weight.fake_quantize(2)?.to_vec::<f32>()?, [4.0, 0.0, 4.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the dtype is not a float, there are fewer than 2 or more than 8 bits, or for a scalar.
    pub fn fake_quantize(&self, bits: u32) -> Result<Tensor> {
        quantize::fake_quantize(self, bits)
    }
}
