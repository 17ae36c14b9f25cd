//! Masks that prune parameters. The work is in [`crate::ops::prune`] and [`crate::ops::patterns`].

use crate::ops::{patterns, prune};
use crate::{PatternOptions, Result, Tensor};

impl Tensor {
    /// Of each `m` consecutive scores of the last dimension the `n` largest: true where a score is one of them, of the shape of the
    /// scores. Of equal scores the one with the smaller column is kept; the two zeros are equal, and NaN counts as greater than all
    /// numbers. The last group of a row may be shorter than `m`: of it, too, the `n` largest are kept, or all if it has fewer.
    ///
    /// Scores of magnitude pruning are `weight.abs()`, those of Wanda that times the norms of the inputs. It carries no gradient.
    ///
    /// ```
    /// # fn main() -> wgrad::Result<()> {
    /// let weight = wgrad::Tensor::from_slice(&[0.5f32, -2.0, 0.0, 1.0], &[1, 4], &wgrad::Device::cpu())?;
    /// assert_eq!(weight.abs()?.n_of_m_mask(2, 4)?.to_vec::<bool>()?, [false, true, false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If `n` exceeds `m`, `m` is not from 1 to 1024, or for truth values or a scalar.
    pub fn n_of_m_mask(&self, n: usize, m: usize) -> Result<Tensor> {
        prune::n_of_m_mask(self, n, m)
    }

    /// The mask of the largest sum of scores that keeps two of four both along the last dimension and along the one before, so that a
    /// matrix pruned by it is 2:4 sparse, and its transpose too (Hubara et al., "Accelerated sparse neural training", 2021). `[.., rows,
    /// columns]` gives truth values of that shape. Each tile of 4 x 4 has 90 such patterns, of which the best is found by trying
    /// all; of equally good ones the first in the order of its rows' patterns, as [`six_pattern_weight`](Self::six_pattern_weight)
    /// numbers them.
    ///
    /// A tile that is cut off by the edge is chosen as if scores of 0 followed: there each row and each column keeps at most two.
    /// It carries no gradient.
    ///
    /// # Errors
    /// If there are fewer than two dimensions, or the dtype is not a float.
    pub fn transposable_mask(&self) -> Result<Tensor> {
        prune::transposable_mask(self)
    }

    /// A weight under a learned 2:4 mask, and the mask: MaskLLM's choice among the six patterns of a group (Fang et al., "MaskLLM:
    /// learnable semi-structured sparsity for large language models", 2024). `self` holds the gates `[outputs,
    /// inputs / 4, 6]`, of the patterns `1100, 1010, 1001, 0110, 0101, 0011` in this order, and `weight` is `[outputs, inputs]`;
    /// both results are, too.
    ///
    /// With `y = softmax((scale gates + noise) / temperature)` the mask is the sum of the patterns weighted by `y`, and the masked
    /// weight the weight times the mask. `hard` takes the likeliest pattern alone, with the gradient of the soft mask (straight
    /// through). The noise is that of [`Tensor::gumbel`] for a tensor of the gates' shape, by the next draw of the device; the
    /// backward draws it again. Both results carry gradients to gates and weight.
    ///
    /// # Errors
    /// If shapes do not fit, `inputs` is not a multiple of 4, dtypes or devices differ, the dtype is not a float, the temperature is not
    /// above 0, or it or the scale is not finite.
    pub fn six_pattern_weight(&self, weight: &Tensor, options: &PatternOptions) -> Result<(Tensor, Tensor)> {
        patterns::six_pattern_weight(self, weight, options)
    }
}
