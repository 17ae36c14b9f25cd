//! A mask as a bool tensor, term by term from the definitions: the oracle of the tests of tiles and kernels.

use super::{Mask, Pairs, Term};
use crate::{Device, Result, Tensor};

impl Mask {
    /// True where a query may see a key, broadcastable to [batch, heads, queries, keys]; None if everywhere. The terms must fit.
    pub(crate) fn seen(&self, pairs: Pairs, device: &Device) -> Result<Option<Tensor>> {
        let mut all: Option<Tensor> = None;
        for term in &self.terms {
            let term = term.seen(pairs, device)?;
            all = Some(match all {
                Some(all) => all.logical_and(&term)?,
                None => term,
            });
        }
        Ok(all)
    }
}

impl Term {
    fn seen(&self, pairs: Pairs, device: &Device) -> Result<Tensor> {
        let Pairs { batch, queries, keys, .. } = pairs;
        // By batch element, head, query and key, of which the first two are often one for all.
        let fill = |batch: usize, heads: usize, f: &dyn Fn(usize, usize, usize, usize) -> bool| {
            let mut seen = Vec::with_capacity(batch * heads * queries * keys);
            for b in 0..batch {
                for h in 0..heads {
                    for i in 0..queries {
                        seen.extend((0..keys).map(|j| f(b, h, i, j)));
                    }
                }
            }
            Tensor::from_vec(seen, &[batch, heads, queries, keys], device)
        };
        match self {
            Term::KeyLengths(lengths) => fill(lengths.len(), 1, &|b, _, _, j| j < lengths[b]),
            Term::QueryLengths(lengths) => fill(lengths.len(), 1, &|b, _, i, _| i < lengths[b]),
            Term::Band { low, high, first, rows } => fill(first.len().max(1), 1, &|b, _, i, j| {
                let distance = j as i64 - i as i64;
                (*low <= distance && distance <= *high) || first.get(b).is_some_and(|&n| j < n) || (i as i64) < *rows
            }),
            Term::Segments { queries: of_queries, keys: of_keys } => {
                let (q, k) = (of_queries.to_vec::<u32>()?, of_keys.to_vec::<u32>()?);
                fill(batch, 1, &|b, _, i, j| {
                    let number = q[b % of_queries.shape()[0] * queries + i];
                    number == k[b % of_keys.shape()[0] * keys + j] && number != u32::MAX
                })
            }
            Term::Intervals { low, high, times, shift } => {
                let (starts, ends) = (low.to_vec::<i32>()?, high.to_vec::<i32>()?);
                let of_queries = times.as_ref().map(Tensor::to_vec::<i32>).transpose()?;
                let time = |b: usize, i: usize| match (&of_queries, times) {
                    (Some(values), Some(times)) => i64::from(values[b % times.shape()[0] * queries + i]),
                    _ => i as i64 + shift,
                };
                fill(batch, pairs.heads, &|b, h, i, j| {
                    let at = |x: &Tensor| (b % x.shape()[0] * x.shape()[1] + h % x.shape()[1]) * keys + j;
                    (i64::from(starts[at(low)])..i64::from(ends[at(high)])).contains(&time(b, i))
                })
            }
            Term::Keys(index) => index.seen(pairs.heads)?.to_device(device),
            Term::Code { code, shift } => {
                let visible = code.on_cpu("Mask::to_dense")?;
                fill(batch, pairs.heads, &|b, h, i, j| visible((i as i64 + shift) as usize, j, h, b))
            }
            Term::Bits { seen, rows, columns } => {
                let mut seen = seen.to_device(device)?;
                while seen.rank() < 4 {
                    seen = seen.unsqueeze(0)?;
                }
                // A dimension of one block stands for all.
                for (dim, block, size) in [(2, *rows, queries), (3, *columns, keys)] {
                    if block > 1 && seen.shape()[dim] > 1 {
                        seen = seen.repeat_interleave(block, dim as isize)?.narrow(dim as isize, 0, size)?;
                    }
                }
                Ok(seen)
            }
        }
    }
}
