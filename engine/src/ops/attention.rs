//! Scaled dot-product attention as a composition of primitive operations: simple, differentiable, with every score in
//! memory. It defines what attention means here; fused kernels are measured against it.

use crate::layout::{Dims, broadcast_shape};
use crate::ops::view::reshape_to;
use crate::{DType, Device, Error, Result, Tensor};

/// What attention does beside `softmax(query key^T * scale) value`. The default is just that.
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// Factor on the scores; `1 / sqrt(head_dim)` if absent.
    pub scale: Option<f64>,
    /// Causal: query `i` sees the keys `j <= i + offset`. 0 where queries and keys are the same positions, the number of
    /// keys that come before the first query where there are more keys than queries.
    pub causal_offset: Option<i64>,
    /// Query `i` sees the keys from `i - left` to `i + right`.
    pub window: Option<(usize, usize)>,
    /// Bool, true where a query may see a key; broadcasts to [batch, heads, queries, keys].
    pub mask: Option<Tensor>,
    /// Added to the scores after `softcap`; broadcasts to [batch, heads, queries, keys]. Gets a gradient.
    pub bias: Option<Tensor>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// Probability with which a weight is dropped, and the others are scaled up. For training only.
    pub dropout: f64,
}

/// A score that no real one comes near, yet finite: shaders may assume that infinities do not occur.
const MASKED: f64 = -1e30;

/// `query` [batch, heads, queries, head_dim], `key` and `value` [batch, key heads, keys, ..], where heads is a multiple of
/// key heads: query head `h` uses key head `h / (heads / key heads)`. A query without any visible key gives zeros, and
/// contributes nothing to any gradient. Halves are computed in f32 throughout.
pub(crate) fn attention_reference(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let Sizes { batch, heads, key_heads, queries, keys, head_dim, value_dim } = check(query, key, value, options)?;
    let dtype = query.dtype();
    if dtype.is_half() {
        let wide = |x: &Tensor| x.cast(DType::F32);
        let bias = options.bias.as_ref().map(wide).transpose()?;
        let options = AttentionOptions { bias, ..options.clone() };
        return attention_reference(&wide(query)?, &wide(key)?, &wide(value)?, &options)?.cast(dtype);
    }
    let op = "attention";
    let full = Dims::new(op, &[batch, heads, queries, keys])?;
    if full.elements() == 0 || value_dim == 0 {
        // No key to see, or nothing to compute; a product keeps the graph in one piece.
        let none = query.narrow(3, 0, 0)?.matmul(&Tensor::zeros(&[0, value_dim], dtype, query.device())?)?;
        return Ok(none);
    }
    // The query heads of one key head are rows of one matrix, so that keys and values are never repeated.
    let grouped =
        |x: &Tensor, width| reshape_to(x, Dims::new(op, &[batch, key_heads, heads / key_heads * queries, width])?);
    let scale = options.scale.unwrap_or(1.0 / (head_dim.max(1) as f64).sqrt());
    let scores = grouped(query, head_dim)?.matmul(&key.transpose(2, 3)?)?;
    let mut scores = reshape_to(&scores, full)?.mul_scalar(scale)?;
    if let Some(cap) = options.softcap {
        scores = scores.mul_scalar(1.0 / cap)?.tanh()?.mul_scalar(cap)?;
    }
    if let Some(bias) = &options.bias {
        scores = scores.add(bias)?;
    }
    let forbidden = forbidden(queries, keys, options, query.device())?;
    let mut weights = match &forbidden {
        // Filled again after the softmax: a row with nothing allowed is uniform until then.
        Some(forbidden) => scores.masked_fill(forbidden, MASKED)?.softmax(-1)?.masked_fill(forbidden, 0.0)?,
        None => scores.softmax(-1)?,
    };
    if options.dropout > 0.0 {
        weights = weights.dropout(options.dropout)?;
    }
    let out = grouped(&weights, keys)?.matmul(value)?;
    reshape_to(&out, Dims::new(op, &[batch, heads, queries, value_dim])?)
}

struct Sizes {
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
}

fn check(query: &Tensor, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Sizes> {
    let op = "attention";
    query.expect_float(op)?;
    query.expect_like(op, key)?;
    query.expect_like(op, value)?;
    let (&[batch, heads, queries, head_dim], &[kb, key_heads, keys, kd], &[vb, vh, vt, value_dim]) =
        (query.shape(), key.shape(), value.shape())
    else {
        let (q, k, v) = (query.rank(), key.rank(), value.rank());
        return Err(Error::shape(op, format!("ranks {q}, {k}, {v} of query, key, value, expected 4 each")));
    };
    let shapes = || format!("query {:?}, key {:?}, value {:?}", query.shape(), key.shape(), value.shape());
    if kb != batch || kd != head_dim || (vb, vh, vt) != (kb, key_heads, keys) {
        let message = format!("{} do not fit [B, H, Tq, D], [B, Hk, Tk, D], [B, Hk, Tk, Dv]", shapes());
        return Err(Error::shape(op, message));
    }
    if key_heads == 0 || !heads.is_multiple_of(key_heads) {
        let message = format!("{}: {heads} query heads are no multiple of {key_heads} key heads", shapes());
        return Err(Error::shape(op, message));
    }
    let full = [batch, heads, queries, keys];
    for (name, extra) in [("mask", &options.mask), ("bias", &options.bias)] {
        let Some(extra) = extra else { continue };
        query.expect_same_device(op, extra)?;
        if broadcast_shape(op, extra.shape(), &full).map_or(true, |shape| *shape != full) {
            return Err(Error::shape(
                op,
                format!("{name} of shape {:?} does not broadcast to {full:?}", extra.shape()),
            ));
        }
    }
    if let Some(mask) = &options.mask {
        mask.expect_dtype(op, DType::Bool, "bool, true where a query may see a key")?;
    }
    if let Some(bias) = &options.bias {
        query.expect_like(op, bias)?;
    }
    if options.softcap.is_some_and(|cap| cap.is_nan() || cap <= 0.0) {
        return Err(Error::argument(op, format!("softcap {:?} is not positive", options.softcap)));
    }
    Ok(Sizes { batch, heads, key_heads, queries, keys, head_dim, value_dim })
}

/// True where a query may not see a key, broadcastable to the scores; None if every query sees every key.
fn forbidden(queries: usize, keys: usize, options: &AttentionOptions, device: &Device) -> Result<Option<Tensor>> {
    let mask = options.mask.as_ref().map(Tensor::logical_not).transpose()?;
    if options.causal_offset.is_none() && options.window.is_none() {
        return Ok(mask);
    }
    let (left, right) = options.window.map_or((i128::MAX, i128::MAX), |(l, r)| (l as i128, r as i128));
    let ahead = options.causal_offset.map_or(i128::MAX, i128::from).min(right);
    let pairs = (0..queries as i128).flat_map(|i| (0..keys as i128).map(move |j| j - i));
    let hidden: Vec<bool> = pairs.map(|distance| distance > ahead || -distance > left).collect();
    let hidden = Tensor::from_vec(hidden, &[queries, keys], device)?;
    match mask {
        Some(mask) => Ok(Some(mask.logical_or(&hidden)?)),
        None => Ok(Some(hidden)),
    }
}
