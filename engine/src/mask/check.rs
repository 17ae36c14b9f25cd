//! Whether the terms of a mask fit the attention they are given to.

use super::{FAR, Mask, Pairs, Term};
use crate::layout::broadcast_shape;
use crate::{DType, Error, Result, Tensor};

impl Mask {
    /// Errs if a term does not fit `pairs`.
    pub(crate) fn check(&self, op: &'static str, pairs: Pairs) -> Result<()> {
        let codes = self.terms.iter().filter(|term| matches!(term, Term::Code { .. })).count();
        if codes > 1 {
            return Err(Error::argument(op, format!("a mask of {codes} functions in WGSL: write one that says all")));
        }
        self.terms.iter().try_for_each(|term| term.check(op, pairs))
    }
}

impl Term {
    fn check(&self, op: &'static str, pairs: Pairs) -> Result<()> {
        let Pairs { batch, heads, queries, keys } = pairs;
        match self {
            Term::KeyLengths(lengths) => check_lengths(op, "key lengths", lengths, batch, keys, "keys"),
            Term::QueryLengths(lengths) => check_lengths(op, "query lengths", lengths, batch, queries, "queries"),
            Term::Band { first, .. } if first.is_empty() => Ok(()),
            // Sinks and globals of a window are those of any sequence, be it as short as the first steps of decoding.
            Term::Band { low, first, .. } => {
                let most = if *low == -FAR { keys } else { usize::MAX };
                check_lengths(op, "prefix lengths", first, batch, most, "keys")
            }
            Term::Segments { queries: of_queries, keys: of_keys } => {
                let expected = "u32 segment numbers";
                check_tensor(op, "query segments", of_queries, DType::U32, expected, &[batch, queries], 1)?;
                check_tensor(op, "key segments", of_keys, DType::U32, expected, &[batch, keys], 1)
            }
            Term::Intervals { low, high, times, .. } => {
                let expected = "i32 intervals and times";
                check_tensor(op, "interval starts", low, DType::I32, expected, &[batch, heads, keys], 2)?;
                check_tensor(op, "interval ends", high, DType::I32, expected, &[batch, heads, keys], 2)?;
                match times {
                    Some(times) => check_tensor(op, "query times", times, DType::I32, expected, &[batch, queries], 1),
                    None => Ok(()),
                }
            }
            Term::Code { shift, .. } if *shift < 0 => {
                Err(Error::argument(op, format!("a mask in WGSL at position {shift}, expected none before 0")))
            }
            Term::Code { .. } => Ok(()),
            // Heads of their own, or those of the keys, which a mask does not know.
            Term::Keys(index) => index.check(op, pairs, index.sizes()[1]),
            Term::Bits { seen, rows, columns } => {
                seen.expect_dtype(op, DType::Bool, "a bool mask, true where a query may see a key")?;
                if *rows == 0 || *columns == 0 {
                    return Err(Error::argument(op, format!("mask blocks of {rows} queries and {columns} keys")));
                }
                let full = [batch, heads, queries.div_ceil(*rows), keys.div_ceil(*columns)];
                if broadcast_shape(op, seen.shape(), &full).is_ok_and(|shape| *shape == full) {
                    return Ok(());
                }
                Err(Error::shape(op, format!("mask of shape {:?} does not broadcast to {full:?}", seen.shape())))
            }
        }
    }
}

/// One length for each batch element, or one for all, none beyond the end.
fn check_lengths(op: &'static str, name: &str, lengths: &[usize], batch: usize, most: usize, of: &str) -> Result<()> {
    if lengths.len() != batch && lengths.len() != 1 {
        let message = format!("{} {name} for a batch of {batch}: give one for each or one for all", lengths.len());
        return Err(Error::shape(op, message));
    }
    match lengths.iter().find(|&&length| length > most) {
        None => Ok(()),
        Some(length) => Err(Error::argument(op, format!("{name} say {length}, there are {most} {of}"))),
    }
}

/// A tensor of shape `full`, whose first `broadcast` dimensions may be 1.
fn check_tensor(
    op: &'static str,
    name: &str,
    x: &Tensor,
    dtype: DType,
    expected: &'static str,
    full: &[usize],
    broadcast: usize,
) -> Result<()> {
    x.expect_dtype(op, dtype, expected)?;
    let fits = |(dim, (&got, &want)): (usize, (&usize, &usize))| got == want || (dim < broadcast && got == 1);
    if x.rank() == full.len() && x.shape().iter().zip(full).enumerate().all(fits) {
        return Ok(());
    }
    let message = format!("{name} of shape {:?}, expected {full:?} (the first {broadcast} may be 1)", x.shape());
    Err(Error::shape(op, message))
}
