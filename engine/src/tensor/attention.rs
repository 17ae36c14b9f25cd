//! Attention and rotary positions. The work is in [`crate::ops::attention`] and [`crate::ops::rotary`].

use crate::ops::attention::{
    AttentionOptions, attention, chosen_attention, interval_attention, reference, sparse_attention,
};
use crate::ops::{decode, kept_until, rotary};
use crate::{KvCache, PagedCache, Result, Rope, Sequence, SparseIndex, Tensor};

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

    /// [`Tensor::attention`] under a mask that lets each key be seen by the queries of one interval
    /// ([`Mask::is_intervals`](crate::Mask::is_intervals)), with the keys in the order in which queries lose sight of them: so tiles are hidden
    /// that are in sight all the time if keys that stay for long and keys that do not stand side by side. The results are the same but for
    /// rounding, and the weights that dropout takes, which go by the place of a key. It pays where a query sees few of the keys before
    /// it ([`Tensor::kept_until`]); keys and values are copied once.
    ///
    /// # Errors
    /// As [`Tensor::attention`], if the mask has other terms, or there are biases by distance or a score function, which speak of the places of
    /// keys.
    pub fn interval_attention(&self, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        interval_attention(self, key, value, options)
    }

    /// Causal attention to whole blocks of `block` keys: a query sees its own block up to itself, and those blocks before it that `chosen` lists,
    /// u32 [batch, key heads, queries, blocks of a query], each once and in any order; a number that is no block before the query's own
    /// stands for nothing. The heads of a group share their choice. There are as many queries as keys. `scale` is that of
    /// [`AttentionOptions`]. As in native sparse attention (Yuan et al., 2025, arXiv 2502.11089).
    ///
    /// Time goes with the keys that are seen, in both directions: the queries that chose a block go over it together. Each query is copied once for each
    /// of its blocks, so memory does too. [`Mask::blocks`](crate::Mask::blocks) says the same for dense attention, which is faster where the
    /// blocks of 32 neighbours are few, or a query sees more than some tenth of all keys.
    ///
    /// # Errors
    /// As [`Tensor::attention`], and if the lists are of another shape or dtype, or too many.
    pub fn chosen_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        chosen: &Tensor,
        block: usize,
        scale: Option<f64>,
    ) -> Result<Tensor> {
        chosen_attention(self, key, value, chosen, block, scale)
    }

    /// Attention of a few queries [batch, heads, queries, head_dim], the last tokens of their sequences, to a cache that holds the keys and
    /// values of all tokens, their own among them. The result is [batch, heads, queries, value_dim]; there is no gradient.
    ///
    /// Query `i` of sequence `b` stands at position `t = lengths[b] - queries + i`: it is this position that causal, window, prefix and
    /// interval terms of the mask and the relative bias speak of, so that one mask serves every step. Of a relative bias
    /// [heads or 1, entries], entry `entries - queries + j - t` serves key `j`; it may be longer than the cache. Several queries need
    /// [`Mask::causal`](crate::Mask::causal) of 0 if none is to see those after it. A bias broadcasts to [batch, heads, queries, longest].
    ///
    /// The keys are split over workgroups, or cores, whose results are merged in a fixed order.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, there are more queries than tokens in a sequence, or an option is outside its
    /// domain; dropout is refused.
    pub fn decode(&self, cache: &KvCache, options: &AttentionOptions) -> Result<Tensor> {
        decode::contiguous(self, cache, options)
    }

    /// [`Tensor::decode`] with the keys and values of these sequences of a paged cache, one for each row of the batch.
    ///
    /// # Errors
    /// As [`Tensor::decode`], or if a sequence is unknown.
    pub fn decode_paged(
        &self,
        cache: &PagedCache,
        sequences: &[Sequence],
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        decode::paged(self, cache, sequences, options)
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

    /// The weights [batch, heads, queries, keys] that [`Tensor::sparse_attention`] gives the values, for probes: all of them in memory, zeros where
    /// nothing is listed.
    ///
    /// # Errors
    /// As [`Tensor::sparse_attention`].
    pub fn sparse_attention_weights<'a>(
        &self,
        key: &Tensor,
        index: impl Into<SparseIndex<'a>>,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        reference::sparse_attention_weights(self, key, index, options)
    }

    /// [`Tensor::rotary`] by any angles: `self` is [batch, heads, time, head_dim], `positions` u32 or i32 [batch, time], or for angles of
    /// several axes [batch, axes, time]. Angles are exact at any position.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or more is to be turned than head_dim.
    pub fn rope(&self, positions: &Tensor, angles: &Rope) -> Result<Tensor> {
        rotary::rope(self, positions, angles)
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

    /// How long each key of scores `[.., keys]` stays among the `window` best, as queries pass by: for key `j` the first query `i
    /// >= j` at which `window` of the keys up to `i` have larger scores, or equal ones and stand later; `keys` if there is none.
    /// i32, `[.., keys]`, without gradient, on the device.
    ///
    /// A key that fell out never returns, since the keys that compete only become more. So [`Mask::intervals`](crate::Mask::intervals)
    /// from each key's own place to here lets query `i` see the best `window` of the keys `0..=i`, without a list for each query
    /// ("Trainable Dynamic Mask Sparse Attention", arXiv 2508.02124). Equal scores give the sliding window.
    ///
    /// # Errors
    /// If the scores are not floats, or a scalar.
    pub fn kept_until(&self, window: usize) -> Result<Tensor> {
        kept_until::kept_until(self, window)
    }
}
