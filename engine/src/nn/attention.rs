//! Multi-head attention with its projections.

use super::{Build, Dropout, Linear, Module, Visitor};
use crate::{AttentionOptions, DType, Error, KvCache, Result, Rope, Rotary, Tensor};

/// Attention of `heads` heads between learned projections (Vaswani et al., 2017).
pub struct MultiHeadAttention {
    /// `[width, width]`.
    pub query: Linear,
    /// `[key_heads * width / heads, width]`.
    pub key: Linear,
    /// As the keys'.
    pub value: Linear,
    /// `[width, width]`, applied to the heads' joined results.
    pub output: Linear,
    /// Of the attention weights.
    pub dropout: Dropout,
    /// Turns queries and keys by their positions.
    pub rope: Option<Rope>,
    heads: usize,
    key_heads: usize,
}

impl MultiHeadAttention {
    /// Attention over vectors of `width`, with dropout of the attention weights.
    ///
    /// # Errors
    /// If `heads` does not divide `width`, or as [`Linear::new`] and [`Dropout::new`].
    pub fn new(width: usize, heads: usize, bias: bool, dropout: f64, build: &Build) -> Result<Self> {
        Self::grouped(width, [heads, heads], bias, dropout, build)
    }

    /// As [`MultiHeadAttention::new`], with keys and values of fewer heads, each of which serves as many query heads in a row
    /// (Ainslie et al., "GQA", 2023).
    ///
    /// # Errors
    /// As [`MultiHeadAttention::new`], or if the key heads do not divide the heads.
    pub fn grouped(
        width: usize,
        [heads, key_heads]: [usize; 2],
        bias: bool,
        dropout: f64,
        build: &Build,
    ) -> Result<Self> {
        if heads == 0 || key_heads == 0 || !width.is_multiple_of(heads) || !heads.is_multiple_of(key_heads) {
            let message =
                format!("width {width} does not divide into {heads} heads, or these into {key_heads} key heads");
            return Err(Error::argument("MultiHeadAttention::new", message));
        }
        let linear = |outputs: usize| Linear::new(width, outputs, bias, build);
        let key_width = width / heads * key_heads;
        Ok(MultiHeadAttention {
            query: linear(width)?,
            key: linear(key_width)?,
            value: linear(key_width)?,
            output: linear(width)?,
            dropout: Dropout::new(dropout)?,
            rope: None,
            heads,
            key_heads,
        })
    }

    /// With rotary positions.
    #[must_use]
    pub fn with_rope(self, rope: Rope) -> Self {
        MultiHeadAttention { rope: Some(rope), ..self }
    }

    /// Attention of `x [batch, queries, width]` to `context [batch, keys, width]` (`x` itself for self-attention). Masks and
    /// biases in `options` are broadcast to `[batch, heads, queries, keys]`; its dropout is the layer's. With rotary positions that `options`
    /// does not give, keys count from 0, and queries are the last of them.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor, context: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        let mut options = AttentionOptions { dropout: self.dropout.probability(), ..options.clone() };
        let [query, key, value] = self.projected(x, context)?;
        if let (Some(rope), None) = (&self.rope, &options.rotary) {
            let (queries, keys) = (query.size(2)?, key.size(2)?);
            let at = |first: usize, length: usize| positions(&vec![first; x.shape()[0]], length, x);
            let (queries, keys) = (at(keys.saturating_sub(queries), queries)?, at(0, keys)?);
            options.rotary = Some(Rotary { rope: rope.clone(), queries, keys });
        }
        self.output.forward(&join_heads(&query.attention(&key, &value, &options)?)?)
    }

    /// An empty cache for [`MultiHeadAttention::cached`], for a batch, of a dtype that may be smaller than the layer's.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn cache(&self, batch: usize, dtype: DType) -> Result<KvCache> {
        let weight = self.query.weight.tensor();
        let head_dim = weight.size(0)? / self.heads;
        KvCache::new(batch, self.key_heads, head_dim, head_dim, dtype, weight.device())
    }

    /// Self-attention of `x [batch, new, width]`, the next tokens of sequences whose earlier ones are in `cache`, which takes theirs too. Without
    /// dropout and without a gradient to what the cache holds. Masks and biases are as [`Tensor::decode`] has them: several new tokens
    /// need a causal mask, a prompt as well.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or the cache is full.
    pub fn cached(&self, x: &Tensor, cache: &mut KvCache, options: &AttentionOptions) -> Result<Tensor> {
        let [mut query, mut key, value] = self.projected(x, x)?;
        let new = query.size(2)?;
        if let Some(rope) = &self.rope {
            let at = positions(cache.lengths(), new, x)?;
            (query, key) = (query.rope(&at, rope)?, key.rope(&at, rope)?);
        }
        // A prompt attends to itself alone, which needs no cache, and is fast.
        let prompt = cache.longest() == 0 && new > 1 && options.relative_bias.is_none();
        cache.append(&key, &value)?;
        let out = if prompt { query.attention(&key, &value, options)? } else { query.decode(cache, options)? };
        self.output.forward(&join_heads(&out)?)
    }

    /// Query, key and value by heads.
    fn projected(&self, x: &Tensor, context: &Tensor) -> Result<[Tensor; 3]> {
        Ok([
            split_heads(&self.query.forward(x)?, self.heads)?,
            split_heads(&self.key.forward(context)?, self.key_heads)?,
            split_heads(&self.value.forward(context)?, self.key_heads)?,
        ])
    }
}

impl Module for MultiHeadAttention {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("output", &self.output);
        v.module("dropout", &self.dropout);
    }
}

/// Positions [batch, length] that count on from a first one for each sequence.
fn positions(first: &[usize], length: usize, beside: &Tensor) -> Result<Tensor> {
    let values = first.iter().flat_map(|&first| (first..first + length).map(|t| t as u32)).collect();
    Tensor::from_vec(values, &[first.len(), length], beside.device())
}

/// `[batch, length, heads * head_dim]` as `[batch, heads, length, head_dim]`.
///
/// # Errors
/// If `x` has another rank, or `heads` does not divide its last dimension.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let &[batch, length, width] = x.shape() else {
        let message = format!("expected [batch, length, width], got shape {:?}", x.shape());
        return Err(Error::shape("split_heads", message));
    };
    if heads == 0 || width % heads != 0 {
        return Err(Error::shape("split_heads", format!("width {width} does not divide into {heads} heads")));
    }
    let sizes = [batch, length, heads, width / heads].map(|n| n as isize);
    x.reshape(&sizes)?.transpose(1, 2)
}

/// The inverse of [`split_heads`].
///
/// # Errors
/// If `x` is not of rank 4.
pub fn join_heads(x: &Tensor) -> Result<Tensor> {
    let &[batch, heads, length, head_dim] = x.shape() else {
        let message = format!("expected [batch, heads, length, head_dim], got shape {:?}", x.shape());
        return Err(Error::shape("join_heads", message));
    };
    let sizes = [batch, length, heads * head_dim].map(|n| n as isize);
    x.transpose(1, 2)?.reshape(&sizes)
}
