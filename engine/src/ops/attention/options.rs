//! What attention takes, and what of it is refused.

use super::Plan;
use crate::layout::broadcast_shape;
use crate::mask::cost::Cost;
use crate::mask::{Mask, Pairs};
use crate::ops::rotary::{self, Rope};
use crate::snippet::ScoreModifier;
use crate::{Buckets, Error, Result, Tensor};

/// What attention does beside `softmax(query key^T * scale) value`. The default is just that.
///
/// Of query `i` and key `j`, the score is `s = softcap(score(scale q_i k_j)) + bias_ij + relative_bias_(j - i)`, and the result of a query
/// is the sum of the values that it sees, weighted by `exp(s)` over the sum of all of them and, if there are sinks, `exp(sink)`.
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// Factor on the products; `1 / sqrt(head_dim)` if absent.
    pub scale: Option<f64>,
    /// Which keys a query sees. A bool tensor that broadcasts to [batch, heads, queries, keys] can be turned into one.
    pub mask: Mask,
    /// Added to the scores after `softcap`; broadcasts to [batch, heads, queries, keys]. Gets a gradient; one that has a row for
    /// each query takes memory for all scores then.
    pub bias: Option<Tensor>,
    /// Added to the scores by distance: [heads or 1, queries + keys - 1], of which entry `j - i + queries - 1` serves key `j` at query
    /// `i`. ALiBi, T5's buckets and the like. Gets a gradient.
    pub relative_bias: Option<Tensor>,
    /// What becomes of a scaled product before `softcap`, in WGSL of the user.
    pub score: Option<ScoreModifier>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// A logit for each head, `[heads]`, that takes part in the softmax but has no value. Gets a gradient.
    pub sinks: Option<Tensor>,
    /// Products with positions, by bucket of the distance, as DeBERTa adds them to the scores. They get gradients.
    pub disentangled: Option<Disentangled>,
    /// Turns queries and keys by their positions first, in one pass over each.
    pub rotary: Option<Rotary>,
    /// A factor for each head on the products, beside `scale`: `[heads]`. Gets a gradient.
    pub head_scale: Option<Tensor>,
    /// Probability with which a weight is dropped, and the others are scaled up. For training only.
    pub dropout: f64,
}

/// Terms of DeBERTa's disentangled attention (He et al., 2021): the score of query `i` and key `j`, after `softcap`, gets
/// `c2p[b, h, i, bucket] + p2c[b, h, j, bucket]` with the bucket of `j - i`. No more than these products is in memory, which
/// grows with the length times the number of buckets. Scale them as the scores are.
#[derive(Clone, Debug)]
pub struct Disentangled {
    /// Of queries with the keys of positions, [batch, heads, queries, buckets].
    pub c2p: Option<Tensor>,
    /// Of keys with the queries of positions, [batch, heads, keys, buckets].
    pub p2c: Option<Tensor>,
    /// For as many queries and keys.
    pub buckets: Buckets,
}

/// [`Tensor::rope`] of queries and keys.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// The angles.
    pub rope: Rope,
    /// Of queries, u32 or i32 [batch, queries], or [batch, axes, queries].
    pub queries: Tensor,
    /// Of keys.
    pub keys: Tensor,
}

impl AttentionOptions {
    /// Queries and keys after what comes before the products, and the options of what is left.
    pub(super) fn before(&self, op: &'static str, query: &Tensor, key: &Tensor) -> Result<(Tensor, Tensor, Self)> {
        let (mut query, mut key) = (query.clone(), key.clone());
        if let Some(scale) = &self.head_scale {
            query = query.mul(&scale.reshape(&[-1, 1, 1])?)?;
        }
        if let Some(Rotary { rope, queries, keys }) = &self.rotary {
            (query, key) = (rotary::rope(&query, queries, rope)?, rotary::rope(&key, keys, rope)?);
        }
        let scale = Some(checked_scale(op, query.size(-1)?, self)?);
        Ok((query, key, AttentionOptions { rotary: None, head_scale: None, scale, ..self.clone() }))
    }
}

/// The sizes of an attention, if they and all options fit.
pub(super) fn check(
    op: &'static str,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<Plan> {
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
    let pairs = Pairs { batch, heads, queries, keys };
    options.mask.check(op, pairs)?;
    let mut buckets = 0;
    let (mut c2p, mut p2c) = (&None, &None);
    if let Some(terms) = &options.disentangled {
        (c2p, p2c, buckets) = (&terms.c2p, &terms.p2c, terms.buckets.count());
        let (got, want) = (terms.buckets.ids.len(), (queries + keys).saturating_sub(1));
        if got != want {
            let message = format!("buckets of {got} distances, {queries} queries and {keys} keys have {want}");
            return Err(Error::shape(op, message));
        }
    }
    let extras: [(&str, &Option<Tensor>, &[usize]); 6] = [
        ("bias", &options.bias, &[batch, heads, queries, keys]),
        ("relative bias", &options.relative_bias, &[heads, (queries + keys).saturating_sub(1)]),
        ("sinks", &options.sinks, &[heads]),
        ("head scale", &options.head_scale, &[heads]),
        ("c2p", c2p, &[batch, heads, queries, buckets]),
        ("p2c", p2c, &[batch, heads, keys, buckets]),
    ];
    for (name, extra, full) in extras {
        let Some(extra) = extra else { continue };
        query.expect_like(op, extra)?;
        let fits = match name {
            "bias" => broadcast_shape(op, extra.shape(), full).is_ok_and(|shape| *shape == *full),
            "relative bias" => extra.shape() == full || extra.shape() == [1, full[1]],
            _ => extra.shape() == full,
        };
        if !fits {
            let message = format!("{name} of shape {:?} does not broadcast to {full:?}", extra.shape());
            return Err(Error::shape(op, message));
        }
    }
    let scale = checked_scale(op, head_dim, options)?;
    Ok(Plan {
        pairs,
        key_heads,
        head_dim,
        value_dim,
        scale,
        softcap: options.softcap,
        dropout: None,
        blocks: None,
        buckets,
        kinds: 0,
        mask: Cost::default(),
        seen: 0,
        lists: None,
        united: false,
    })
}

/// The factor on the products, if it and the other numbers are within their domains.
pub(crate) fn checked_scale(op: &'static str, head_dim: usize, options: &AttentionOptions) -> Result<f64> {
    if options.softcap.is_some_and(|cap| cap.is_nan() || cap <= 0.0) {
        return Err(Error::argument(op, format!("softcap {:?} is not positive", options.softcap)));
    }
    let scale = options.scale.unwrap_or(1.0 / (head_dim.max(1) as f64).sqrt());
    if !scale.is_finite() {
        return Err(Error::argument(op, format!("scale {scale} is not finite")));
    }
    if !(0.0..=1.0).contains(&options.dropout) {
        return Err(Error::argument(op, format!("dropout {} is not between 0 and 1", options.dropout)));
    }
    Ok(scale)
}
