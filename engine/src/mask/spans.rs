//! Masks under which each key is seen by the queries from one to another: its span.

use super::{FAR, Mask, Pairs, Term};
use crate::{DType, Device, Result, Tensor};

impl Mask {
    /// Whether each key is seen by the queries of one interval, as the kinds of the terms say: lengths, causal masks, windows, prefixes, sinks,
    /// intervals without times, and dense masks of one row for all queries. [`Tensor::interval_attention`] takes such masks.
    pub fn is_intervals(&self) -> bool {
        self.terms.iter().all(Term::is_span)
    }

    /// The first query that sees each key, and the one behind the last, i32 [batch or 1, heads or 1, keys], not negative. The terms must fit.
    /// None if a term is of another kind.
    pub(crate) fn spans(&self, pairs: Pairs, device: &Device) -> Result<Option<[Tensor; 2]>> {
        if !self.is_intervals() {
            return Ok(None);
        }
        let whole = |value: i64| Tensor::full(value as f64, &[1, 1, pairs.keys], DType::I32, device);
        let [mut low, mut high] = [whole(0)?, whole(FAR)?];
        for term in &self.terms {
            let [from, to] = term.span(pairs, device)?;
            (low, high) = (low.maximum(&from)?, high.minimum(&to)?);
        }
        Ok(Some([low, high]))
    }
}

impl Term {
    fn is_span(&self) -> bool {
        match self {
            Term::KeyLengths(_) | Term::QueryLengths(_) => true,
            Term::Band { rows, .. } => *rows == 0,
            Term::Intervals { times, .. } => times.is_none(),
            Term::Bits { seen, columns, .. } => {
                *columns == 1 && (seen.rank() < 2 || seen.shape()[seen.rank() - 2] == 1)
            }
            Term::Segments { .. } | Term::Keys(_) | Term::Code { .. } => false,
        }
    }

    fn span(&self, Pairs { keys, .. }: Pairs, device: &Device) -> Result<[Tensor; 2]> {
        // By batch element, of which one may serve all, and key.
        let known = |batch: usize, f: &dyn Fn(usize, i64) -> [i64; 2]| -> Result<[Tensor; 2]> {
            let place = |time: i64| time.clamp(0, FAR) as i32;
            let ends = |side: usize| {
                let all = (0..batch).flat_map(|b| (0..keys).map(move |j| (b, j as i64)));
                let all = all.map(|(b, j)| place(f(b, j)[side])).collect();
                Tensor::from_vec(all, &[batch, 1, keys], device)
            };
            Ok([ends(0)?, ends(1)?])
        };
        match self {
            Term::KeyLengths(n) => known(n.len(), &|b, j| [0, if j < n[b] as i64 { FAR } else { 0 }]),
            Term::QueryLengths(n) => known(n.len(), &|b, _| [0, n[b] as i64]),
            Term::Band { low, high, first, .. } => known(first.len().max(1), &|b, j| {
                if first.get(b).is_some_and(|&n| j < n as i64) {
                    return [0, FAR];
                }
                let last = if *low == -FAR { FAR } else { j - low + 1 };
                [if *high == FAR { 0 } else { j - high }, last]
            }),
            Term::Intervals { low, high, shift, .. } => {
                let shift = Tensor::scalar(*shift as f64, DType::I32, device)?;
                let of = |x: &Tensor| {
                    let bounded = x.to_device(device)?.clamp(Some(-FAR as f64), Some(FAR as f64))?;
                    bounded.sub(&shift)?.clamp(Some(0.0), Some(FAR as f64))
                };
                Ok([of(low)?, of(high)?])
            }
            Term::Bits { seen, .. } => {
                let seen = seen.to_device(device)?;
                let shape: Vec<usize> = [&[1, 1, 1, 1][..4 - seen.rank()], seen.shape()].concat();
                let seen = seen.expand(&[shape[0], shape[1], 1, keys])?.squeeze(2)?;
                let [all, none] = [FAR, 0].map(|value| Tensor::scalar(value as f64, DType::I32, device));
                Ok([Tensor::zeros(&[1, 1, keys], DType::I32, device)?, Tensor::where_cond(&seen, &all?, &none?)?])
            }
            // Checked before: of no other kind.
            Term::Segments { .. } | Term::Keys(_) | Term::Code { .. } => known(1, &|_, _| [0, FAR]),
        }
    }
}
