//! From a grid of estimated weights to keys: `columns` of it stand for the keys that a query may see, `seen` of them, in parts as even as can be.
//! Column m begins at key `round(m seen / columns)`.

use wgrad::{DType, Device, KeyIndex, Tensor};

use crate::{Error, Result};

/// The keys that each query may see.
pub(super) enum Seen {
    /// Those up to it.
    Causal,
    /// All real ones: how many there are `[batch, 1, 1, 1]`, as i32, and which they are, in order, and behind them the others `[batch, keys]`, as u32.
    Real { count: Tensor, order: Tensor },
}

impl Seen {
    /// All of `length` keys, or of those that are real, `[batch, keys]`.
    pub(super) fn real(real: Option<&Tensor>, length: usize, device: &Device) -> Result<Self> {
        let Some(real) = real else {
            let count = Tensor::full(length as f64, &[1, 1, 1, 1], DType::I32, device)?;
            return Ok(Seen::Real {
                count,
                order: Tensor::arange(0, length as i64, DType::U32, device)?.unsqueeze(0)?,
            });
        };
        let count = real.cast(DType::I32)?.sum(&[1], true)?.unsqueeze(1)?.unsqueeze(1)?;
        // Real ones first, each in its order.
        let rank = real.cast(DType::I32)?;
        Ok(Seen::Real { count, order: rank.argsort(1, true)? })
    }

    /// How many keys each query may see, which broadcasts to `[batch, heads, queries, 1]`.
    pub(super) fn count(&self, queries: usize, device: &Device) -> Result<Tensor> {
        match self {
            Seen::Causal => Ok(Tensor::arange(1, queries as i64 + 1, DType::I32, device)?.unsqueeze(1)?),
            Seen::Real { count, .. } => Ok(count.clone()),
        }
    }
}

fn number(n: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::scalar(n as f64, DType::I32, device)?)
}

/// The column of each key by its number among those seen, as u32: of `numbers` that broadcast with `seen`. Keys beyond get the last.
pub(super) fn column_of(numbers: &Tensor, seen: &Tensor, columns: usize) -> Result<Tensor> {
    let device = seen.device();
    let number = |n| number(n, device);
    let odd = numbers.mul(&number(2)?)?.add(&number(1)?)?.mul(&number(columns)?)?;
    let twice = seen.mul(&number(2)?)?;
    // Rounded up.
    let column = odd.add(&twice)?.sub(&number(1)?)?.div(&twice)?.sub(&number(1)?)?;
    Ok(column.minimum(&number(columns - 1)?)?.maximum(&number(0)?)?.cast(DType::U32)?)
}

/// Which cells of `grid [batch, heads, queries, columns]`, logits, are kept, as i32: as many as make `keys` tokens of a query and head in the mean.
/// Of causal queries each has its share over all heads; else the largest of all queries and heads of a sample are kept.
pub(super) fn kept(grid: &Tensor, seen: &Seen, keys: usize, real: Option<&Tensor>) -> Result<Tensor> {
    let &[batch, heads, queries, columns] = grid.shape() else {
        return Err(Error::argument("Estimated", format!("a grid of shape {:?}", grid.shape())));
    };
    let device = grid.device();
    let number = |n| number(n, device);
    let weights = grid.detach().softmax(-1)?;
    match seen {
        Seen::Causal => {
            // The rank of each cell of a query among those of all heads.
            let cells = weights.permute(&[0, 2, 1, 3])?.flatten(2, 3)?;
            let order = cells.argsort(-1, true)?;
            let places = Tensor::arange(0, (heads * columns) as i64, DType::I32, device)?;
            let places = places.expand(order.shape())?.contiguous()?;
            let ranks = places.scatter(-1, &order, &places)?;
            // Rounded: cells that make `keys` tokens of each head.
            let seen = seen.count(queries, device)?;
            let share = number(2 * heads * keys * columns)?.add(&seen)?.div(&seen.mul(&number(2)?)?)?;
            let kept = ranks.lt(&share.maximum(&number(1)?)?)?;
            let kept = kept.reshape(&[batch, queries, heads, columns].map(|n| n as isize))?;
            Ok(kept.permute(&[0, 2, 1, 3])?.cast(DType::I32)?)
        }
        Seen::Real { .. } => {
            // Queries that see n keys keep n heads x n x (keys columns / n) cells: a number that does not depend on n.
            let many = (heads * keys * columns).min(heads * queries * columns);
            let weights = match real {
                Some(real) => weights.masked_fill(&real.logical_not()?.unsqueeze(1)?.unsqueeze(-1)?, -1.0)?,
                None => weights,
            };
            let places = weights.flatten(1, 3)?.topk_places(many, true)?;
            let none = Tensor::zeros(&[batch, heads * queries * columns], DType::I32, device)?;
            let ones = Tensor::ones(&[batch, many], DType::I32, device)?;
            let kept = none.scatter(-1, &places, &ones)?;
            let kept = kept.reshape(&[batch, heads, queries, columns].map(|n| n as isize))?;
            Ok(match real {
                Some(real) => kept.mul(&real.cast(DType::I32)?.unsqueeze(1)?.unsqueeze(-1)?)?,
                None => kept,
            })
        }
    }
}

/// The keys of the kept cells: lists with `room`; where that is not enough, the last keys.
pub(super) fn lists(kept: &Tensor, seen: &Seen, room: usize) -> Result<KeyIndex> {
    let &[batch, heads, queries, columns] = kept.shape() else {
        return Err(Error::argument("Estimated", format!("a grid of shape {:?}", kept.shape())));
    };
    let device = kept.device();
    let number = |n| number(n, device);
    let count = |end: usize| Tensor::arange(0, end as i64, DType::I32, device);
    let counts = seen.count(queries, device)?;
    // Where the tokens of each kept cell go in the list of all.
    let starts = count(columns + 1)?.mul(&counts)?.mul(&number(2)?)?.add(&number(columns)?)?;
    let starts = starts.div(&number(2 * columns)?)?;
    let (starts, ends) = (starts.narrow(-1, 0, columns)?, starts.narrow(-1, 1, columns)?);
    let tokens = kept.mul(&ends.sub(&starts)?)?;
    let until = tokens.cumsum(-1)?;
    let all = until.narrow(-1, columns - 1, 1)?;
    let skipped = all.sub(&number(room)?)?.maximum(&number(0)?)?;
    let at = count(room)?.add(&skipped)?;
    // The cell of each place, without a tensor of places by cells.
    let mut cell = at.zeros_like()?;
    for column in 0..columns {
        cell = cell.add(&until.narrow(-1, column, 1)?.le(&at)?.cast(DType::I32)?)?;
    }
    let cell = cell.minimum(&number(columns - 1)?)?;
    let lead = starts.sub(&until.sub(&tokens)?)?;
    let mut keys = lead.gather(-1, &cell)?.add(&at)?.cast(DType::U32)?;
    let listed = at.lt(&all)?;
    let mut length = queries;
    if let Seen::Real { order, .. } = seen {
        length = order.size(1)?;
        // The n-th real key; what is no entry must yet be a place.
        let places = Tensor::where_cond(&listed, &keys, &keys.zeros_like()?)?.flatten(1, 3)?;
        let order = order.expand(&[batch, length])?.contiguous()?;
        keys = order.gather(-1, &places)?.reshape(&[batch, heads, queries, room].map(|n| n as isize))?;
    }
    let none = Tensor::scalar(f64::from(u32::MAX), DType::U32, device)?;
    let lists = Tensor::where_cond(&listed, &keys, &none)?;
    debug_assert_eq!(lists.shape(), [batch, heads, queries, room]);
    Ok(KeyIndex::new(&lists, length)?)
}
