//! Attention and rotary positions. The work is in [`crate::ops::attention`] and [`crate::ops::rotary`].

use crate::ops::attention::{AttentionOptions, attention, reference, sparse_attention};
use crate::ops::rotary;
use crate::{Result, SparseIndex, Tensor};

impl Tensor {
    /// Scaled dot-product attention: `softmax(self key^T * scale) value`, with the masks and biases of `options`.
    ///
    /// `self` is the query [batch, heads, queries, head_dim]; `key` [batch, key heads, keys, head_dim] and `value` [batch, key
    /// heads, keys, value_dim] may have fewer heads, of which each serves heads / key heads query heads in a row. The
    /// result is [batch, heads, queries, value_dim]. A query that may see no key gives zeros, and no gradient.
    ///
    /// Scores are computed by tiles and never kept (Dao, "FlashAttention-2", 2023), so that memory grows with the lengths, not with
    /// their product, in both directions; tiles that the mask hides are skipped. [`reference::attention`](crate::reference::attention)
    /// is the same as a composition.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or an option is outside its domain.
    pub fn attention(&self, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        attention(self, key, value, options)
    }

    /// [`Tensor::attention`] within what `index` lists, and under `options.mask`: time and memory go with what is listed, in both
    /// directions. `index` is a [`BlockIndex`](crate::BlockIndex), for whole tiles of queries and keys, or a [`KeyIndex`](crate::KeyIndex), a list of
    /// keys for each query. [`reference::sparse_attention`](crate::reference::sparse_attention) is the same as a composition.
    ///
    /// # Errors
    /// As [`Tensor::attention`], and if the index is for other sizes.
    pub fn sparse_attention<'a>(
        &self,
        key: &Tensor,
        value: &Tensor,
        index: impl Into<SparseIndex<'a>>,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        sparse_attention(self, key, value, index.into(), options)
    }

    /// The weights [batch, heads, queries, keys] that [`Tensor::attention`] gives the values, for probes: all of them in memory.
    ///
    /// # Errors
    /// As [`Tensor::attention`].
    pub fn attention_weights(&self, key: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        reference::attention_weights(self, key, options)
    }

    /// Rotary position embedding of queries or keys [batch, heads, time, head_dim] at `positions` [batch, time] (u32 or i32).
    ///
    /// With `f_k = theta^(-2k / rotary_dim)`, the pair `(x_k, x_{k + rotary_dim / 2})`, or `(x_{2k}, x_{2k + 1})` if
    /// `interleaved`, is turned by the angle `position * f_k`. Elements from `rotary_dim` on pass through.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, `rotary_dim` is odd or above head_dim, or `theta` is not positive.
    pub fn rotary(&self, positions: &Tensor, theta: f64, rotary_dim: usize, interleaved: bool) -> Result<Tensor> {
        rotary::rotary(self, positions, theta, rotary_dim, interleaved)
    }
}
