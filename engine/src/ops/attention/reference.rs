//! Attention as a composition of primitive operations: simple, differentiable, with every score in memory. It defines what
//! attention means here; the fused one is measured against it.

use super::options::check;
use super::{AttentionOptions, Disentangled, NOTHING};
use crate::autograd::record;
use crate::layout::Dims;
use crate::mask::Pairs;
use crate::ops::view::reshape_to;
use crate::snippet::{Score, ScoreModifier};
use crate::sparse::SparseIndex;
use crate::{DType, Device, Result, Tensor};

/// [`Tensor::attention`] from primitive operations.
///
/// # Errors
/// As [`Tensor::attention`].
pub fn attention(query: &Tensor, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    let op = "attention";
    let plan = check(op, query, key, value, options)?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let dtype = query.dtype();
    if dtype.is_half() {
        let (query, key, value, options) = widened(query, key, value, options)?;
        return attention(&query, &key, &value, &options)?.cast(dtype);
    }
    if batch * heads * queries * keys * plan.value_dim == 0 {
        // No key to see, or nothing to compute; a product keeps the graph in one piece.
        let none = Tensor::zeros(&[0, plan.value_dim], dtype, query.device())?;
        return query.narrow(3, 0, 0)?.matmul(&none);
    }
    let weights = weights(query, key, value, options)?;
    let out = grouped(&weights, plan.key_heads, keys)?.matmul(value)?;
    reshape_to(&out, Dims::new(op, &[batch, heads, queries, plan.value_dim])?)
}

/// [`Tensor::sparse_attention`] from primitive operations: that of all pairs, under the mask that says the same.
///
/// # Errors
/// As [`Tensor::sparse_attention`].
pub fn sparse_attention<'a>(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    index: impl Into<SparseIndex<'a>>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let index = index.into();
    let plan = check("sparse_attention", query, key, value, options)?;
    index.check("sparse_attention", &options.mask, plan.pairs, plan.key_heads)?;
    let mask = options.mask.clone().and(index.to_mask(plan.pairs.heads)?);
    attention(query, key, value, &AttentionOptions { mask, ..options.clone() })
}

/// The weights [batch, heads, queries, keys] with which [`Tensor::attention`] adds up values.
///
/// # Errors
/// As [`Tensor::attention`].
pub fn attention_weights(query: &Tensor, key: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    check("attention_weights", query, key, key, options)?;
    let dtype = query.dtype();
    if dtype.is_half() {
        let (query, key, _, options) = widened(query, key, key, options)?;
        return weights(&query, &key, &key, &options)?.cast(dtype);
    }
    weights(query, key, key, options)
}

/// The weights of [`Tensor::sparse_attention`], zeros where nothing is listed.
///
/// # Errors
/// As [`Tensor::sparse_attention`].
pub fn sparse_attention_weights<'a>(
    query: &Tensor,
    key: &Tensor,
    index: impl Into<SparseIndex<'a>>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let op = "sparse_attention_weights";
    let index = index.into();
    let plan = check(op, query, key, key, options)?;
    index.check(op, &options.mask, plan.pairs, plan.key_heads)?;
    let mask = options.mask.clone().and(index.to_mask(plan.pairs.heads)?);
    attention_weights(query, key, &AttentionOptions { mask, ..options.clone() })
}

fn widened(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<(Tensor, Tensor, Tensor, AttentionOptions)> {
    let wide = |x: &Tensor| x.cast(DType::F32);
    let some = |x: &Option<Tensor>| x.as_ref().map(wide).transpose();
    let options = AttentionOptions {
        bias: some(&options.bias)?,
        relative_bias: some(&options.relative_bias)?,
        sinks: some(&options.sinks)?,
        head_scale: some(&options.head_scale)?,
        disentangled: match &options.disentangled {
            Some(terms) => {
                let (c2p, p2c) = (some(&terms.c2p)?, some(&terms.p2c)?);
                Some(Disentangled { c2p, p2c, buckets: terms.buckets.clone() })
            }
            None => None,
        },
        ..options.clone()
    };
    Ok((wide(query)?, wide(key)?, wide(value)?, options))
}

/// The query heads of one key head as rows of one matrix, so that keys and values are never repeated.
fn grouped(x: &Tensor, key_heads: usize, width: usize) -> Result<Tensor> {
    let &[batch, heads, rows, _] = x.shape() else { return Ok(x.clone()) };
    reshape_to(x, Dims::new("attention", &[batch, key_heads, heads / key_heads * rows, width])?)
}

/// What the modifier's Rust makes of scores [batch, heads, queries, keys], on the host, and its derivative: not differentiable twice.
fn modified(scores: &Tensor, modifier: &ScoreModifier) -> Result<Tensor> {
    let op = "attention";
    let [score, gradient] = modifier.on_cpu(op)?.clone();
    let (shape, device, dtype) = (scores.dims(), scores.device().clone(), scores.dtype());
    let map = move |x: &Tensor, f: &Score| {
        let place = |n: usize| [n % shape[3], n / shape[3] % shape[2], n / shape[3] / shape[2] % shape[1]];
        let values = x.to_f64_vec()?.into_iter().enumerate().map(|(n, s)| {
            let [k, q, head] = place(n);
            f(s, q, k, head, n / shape[3] / shape[2] / shape[1])
        });
        Tensor::from_vec(values.collect::<Vec<f64>>(), &shape, &Device::cpu())?.cast(dtype)?.to_device(&device)
    };
    let (plain, slopes) = (scores.detach(), scores.detach());
    let out = map(&plain, &score)?;
    Ok(record(op, out, &[scores], move |d_out, _| Ok(vec![Some(d_out.mul(&map(&slopes, &gradient)?)?)])))
}

fn weights(query: &Tensor, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    let op = "attention";
    let plan = check(op, query, key, value, options)?;
    if options.rotary.is_some() {
        let without = AttentionOptions { head_scale: None, ..options.clone() };
        let (query, key, rest) = without.before(op, query, key)?;
        return weights(&query, &key, value, &AttentionOptions { head_scale: options.head_scale.clone(), ..rest });
    }
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let full = Dims::new(op, &[batch, heads, queries, keys])?;
    let scores = grouped(query, plan.key_heads, plan.head_dim)?.matmul(&key.transpose(2, 3)?)?;
    let mut scores = reshape_to(&scores, full)?.mul_scalar(plan.scale)?;
    if let Some(factor) = &options.head_scale {
        scores = scores.mul(&factor.reshape(&[-1, 1, 1])?)?;
    }
    if let Some(modifier) = &options.score {
        scores = modified(&scores, modifier)?;
    }
    if let Some(cap) = options.softcap {
        scores = scores.mul_scalar(1.0 / cap)?.tanh()?.mul_scalar(cap)?;
    }
    if let Some(bias) = &options.bias {
        scores = scores.add(bias)?;
    }
    if let Some(relative) = &options.relative_bias {
        let places = (0..queries).flat_map(|i| (0..keys).map(move |j| (j + queries - 1 - i) as u32));
        let places = Tensor::from_vec(places.collect(), &[queries * keys], query.device())?;
        let bias = relative.index_select(1, &places)?;
        scores = scores.add(&reshape_to(&bias, Dims::new(op, &[bias.shape()[0], queries, keys])?)?)?;
    }
    if let Some(Disentangled { c2p, p2c, buckets }) = &options.disentangled {
        let ids =
            (0..queries).flat_map(|i| (0..keys).map(move |j| j + queries - 1 - i)).map(|place| buckets.ids[place]);
        let ids = Tensor::from_vec(ids.collect(), &[1, 1, queries, keys], query.device())?;
        if let Some(c2p) = c2p {
            scores = scores.add(&c2p.gather(3, &ids.expand(&full)?)?)?;
        }
        if let Some(p2c) = p2c {
            let by_key = ids.transpose(2, 3)?.expand(&[batch, heads, keys, queries])?;
            scores = scores.add(&p2c.gather(3, &by_key)?.transpose(2, 3)?)?;
        }
    }
    let hidden = options.mask.seen(plan.pairs, query.device())?.map(|seen| seen.logical_not()).transpose()?;
    if let Some(hidden) = &hidden {
        scores = scores.masked_fill(hidden, NOTHING)?;
    }
    let mut weights = match &options.sinks {
        None => scores.softmax(-1)?,
        Some(sinks) => {
            let sinks = reshape_to(sinks, Dims::new(op, &[1, heads, 1, 1])?)?.expand(&[batch, heads, queries, 1])?;
            Tensor::concat(&[&scores, &sinks], -1)?.softmax(-1)?.narrow(-1, 0, keys)?
        }
    };
    if let Some(hidden) = &hidden {
        // Filled again after the softmax: a row with nothing allowed is uniform until then.
        weights = weights.masked_fill(hidden, 0.0)?;
    }
    if options.dropout > 0.0 { weights.dropout(options.dropout) } else { Ok(weights) }
}
