//! What attention takes, and what of it is refused.

use super::Plan;
use crate::layout::broadcast_shape;
use crate::mask::{Mask, Pairs};
use crate::snippet::ScoreModifier;
use crate::{Error, Result, Tensor};

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
    /// Probability with which a weight is dropped, and the others are scaled up. For training only.
    pub dropout: f64,
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
    let extras: [(&str, &Option<Tensor>, &[usize]); 3] = [
        ("bias", &options.bias, &[batch, heads, queries, keys]),
        ("relative bias", &options.relative_bias, &[heads, (queries + keys).saturating_sub(1)]),
        ("sinks", &options.sinks, &[heads]),
    ];
    for (name, extra, full) in extras {
        let Some(extra) = extra else { continue };
        query.expect_like(op, extra)?;
        let fits = match name {
            "bias" => broadcast_shape(op, extra.shape(), full).is_ok_and(|shape| *shape == *full),
            "sinks" => extra.shape() == full,
            _ => extra.shape() == full || extra.shape() == [1, full[1]],
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
        masked: false,
        by_lists: false,
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
