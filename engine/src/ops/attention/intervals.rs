//! Attention under masks that let each key be seen by the queries of one interval, with the keys in another order. No kernel knows of it: attention
//! does not depend on the order of the keys, and skips the tiles that a mask hides.

use super::options::check;
use super::{AttentionOptions, attention};
use crate::mask::Mask;
use crate::{Error, Result, Tensor};

/// See [`Tensor::interval_attention`].
pub(crate) fn interval_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let op = "interval_attention";
    let plan = check(op, query, key, value, options)?;
    if options.relative_bias.is_some() || options.disentangled.is_some() || options.score.is_some() {
        return Err(Error::argument(op, "scores that depend on the places of keys, expected none: keys change places"));
    }
    if options.rotary.is_some() || options.head_scale.is_some() {
        let (query, key, options) = options.before(op, query, key)?;
        return interval_attention(&query, &key, value, &options);
    }
    let Some([low, high]) = options.mask.spans(plan.pairs, query.device())? else {
        return Err(Error::argument(op, "a mask with terms that are no intervals of queries for each key"));
    };
    let (batch, heads, keys) = (plan.pairs.batch, plan.pairs.heads, plan.pairs.keys);
    if batch * heads * keys * plan.pairs.queries == 0 {
        return attention(query, key, value, options);
    }
    let Order { places, low, high } = Order::new(&low, &high, plan.pairs.queries, plan.key_heads)?;
    // [batch, key heads, keys], and the rows of all heads, one after another.
    let of_keys = places.expand(&[batch, plan.key_heads, keys])?;
    let first: Vec<u32> = (0..batch * plan.key_heads).map(|head| (head * keys) as u32).collect();
    let first = Tensor::from_vec(first, &[batch, plan.key_heads, 1], query.device())?;
    let rows = of_keys.add(&first)?.reshape(&[-1])?;
    let moved = |x: &Tensor| {
        let shape = x.dims();
        let shape: Vec<isize> = shape.iter().map(|&n| n as isize).collect();
        x.reshape(&[-1, shape[3]])?.index_select(0, &rows)?.reshape(&shape)
    };
    let bias = match &options.bias {
        None => None,
        Some(bias) => {
            let rows = if bias.rank() < 2 { 1 } else { bias.shape()[bias.rank() - 2] };
            let of_heads = of_keys.repeat_interleave(plan.group(), 1)?.unsqueeze(2)?;
            let shape = [batch, heads, rows, keys];
            Some(bias.expand(&shape)?.gather(-1, &of_heads.expand(&shape)?)?)
        }
    };
    let options = AttentionOptions { mask: Mask::intervals(&low, &high, None), bias, ..options.clone() };
    attention(query, &moved(key)?, &moved(value)?, &options)
}

/// Another order of keys, and their intervals in it.
struct Order {
    /// Which key stands at each place: u32 [batch or 1, key heads or 1, keys].
    places: Tensor,
    /// i32 [batch or 1, heads or 1, keys].
    low: Tensor,
    high: Tensor,
}

impl Order {
    /// The keys in the order in which queries lose sight of them, those that nobody sees behind all others. Then the keys of a tile go out of sight
    /// together, and it is seen by few tiles of queries; keys that come into sight one by one do so all the time, and would keep every tile
    /// in sight were they left where they are.
    fn new(low: &Tensor, high: &Tensor, queries: usize, key_heads: usize) -> Result<Self> {
        let most = queries as f64;
        let high = high.clamp(None, Some(most))?;
        let unseen = high.le(low)?;
        let shape = unseen.dims();
        // So that a tile of such keys is empty.
        let low = low.expand(&shape)?.masked_fill(&unseen, most)?;
        let high = high.expand(&shape)?.masked_fill(&unseen, 0.0)?;
        let mut last = high.masked_fill(&unseen, most + 1.0)?;
        if shape[1] > 1 {
            // The heads of a group share their keys, and so one order: any will do.
            let sizes = [shape[0], key_heads, shape[1] / key_heads, shape[2]].map(|n| n as isize);
            last = last.reshape(&sizes)?.max(&[2], false)?;
        }
        let places = last.argsort(-1, false)?;
        let own = places.repeat_interleave(shape[1] / places.shape()[1], 1)?;
        let moved = |x: &Tensor| x.gather(-1, &own);
        Ok(Order { low: moved(&low)?, high: moved(&high)?, places })
    }
}
