//! Multi-head attention with its projections.

use super::{Build, Dropout, Linear, Module, Visitor};
use crate::{AttentionOptions, Error, Result, Tensor};

/// Attention of `heads` heads between learned projections (Vaswani et al., 2017).
pub struct MultiHeadAttention {
    /// `[width, width]`.
    pub query: Linear,
    /// `[width, width]`.
    pub key: Linear,
    /// `[width, width]`.
    pub value: Linear,
    /// `[width, width]`, applied to the heads' joined results.
    pub output: Linear,
    /// Of the attention weights.
    pub dropout: Dropout,
    heads: usize,
}

impl MultiHeadAttention {
    /// Attention over vectors of `width`, with dropout of the attention weights.
    ///
    /// # Errors
    /// If `heads` does not divide `width`, or as [`Linear::new`] and [`Dropout::new`].
    pub fn new(width: usize, heads: usize, bias: bool, dropout: f64, build: &Build) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            let message = format!("width {width} does not divide into {heads} heads");
            return Err(Error::argument("MultiHeadAttention::new", message));
        }
        let linear = || Linear::new(width, width, bias, build);
        Ok(MultiHeadAttention {
            query: linear()?,
            key: linear()?,
            value: linear()?,
            output: linear()?,
            heads,
            dropout: Dropout::new(dropout)?,
        })
    }

    /// Attention of `x [batch, queries, width]` to `context [batch, keys, width]` (`x` itself for self-attention). Masks and
    /// biases in `options` are broadcast to `[batch, heads, queries, keys]`; its dropout is the layer's.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor, context: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        let options = AttentionOptions { dropout: self.dropout.probability(), ..options.clone() };
        let query = split_heads(&self.query.forward(x)?, self.heads)?;
        let key = split_heads(&self.key.forward(context)?, self.heads)?;
        let value = split_heads(&self.value.forward(context)?, self.heads)?;
        self.output.forward(&join_heads(&query.attention(&key, &value, &options)?)?)
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
