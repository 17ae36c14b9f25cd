//! Loops on all cores. Their bodies are `dyn` functions of whole pieces: so the thread pool's machinery is compiled once for
//! each element type, not once for each operation, at one indirect call a piece.

use rayon::prelude::*;

use crate::Element;
use crate::profile::begun;

/// Elements below which a loop is not worth threads.
pub(crate) const PARALLEL: usize = 1 << 14;
/// Elements of one task.
const PIECE: usize = 1 << 13;

/// `f(index, piece)` for the pieces of `size` elements of a slice (the last may be shorter), each element of which takes the
/// work of `cost` elements: on all cores if that is much.
pub(crate) fn for_pieces<T: Send>(out: &mut [T], size: usize, cost: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if size == 0 {
        return;
    }
    begun();
    if out.len().saturating_mul(cost) < PARALLEL {
        out.chunks_mut(size).enumerate().for_each(|(i, piece)| f(i, piece));
    } else {
        out.par_chunks_mut(size).enumerate().for_each(|(i, piece)| f(i, piece));
    }
}

/// Hands `f` the pieces of a slice with the index of their first element, on all cores if it is long.
pub(crate) fn for_chunks<O: Element>(out: &mut [O], f: impl Fn(usize, &mut [O]) + Sync) {
    for_pieces(out, PIECE, 1, &|i, piece| f(i * PIECE, piece));
}

/// The values of `f(0)` to `f(count - 1)`, each of about `cost` elements' work, on all cores if that is much.
pub(crate) fn collect<T: Send>(count: usize, cost: usize, f: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    begun();
    if count.saturating_mul(cost) < PARALLEL {
        return (0..count).map(f).collect();
    }
    (0..count).into_par_iter().with_min_len((PIECE / cost.max(1)).max(1)).map(f).collect()
}

/// Fills a vector of `n` by `f(index)`, on all cores if it is long.
pub(crate) fn fill<T: Element>(n: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    begun();
    let mut out = vec![T::default(); n];
    for_chunks(&mut out, |start, piece| piece.iter_mut().enumerate().for_each(|(i, out)| *out = f(start + i)));
    out
}

/// Fills rows of `width` each by `f(row, slice)`, on all cores if they are many.
pub(crate) fn fill_rows<T: Element>(rows: usize, width: usize, f: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    begun();
    let mut out = vec![T::default(); rows * width];
    if let Some(batch) = (PIECE / 2).checked_div(width) {
        let batch = batch.max(1);
        for_pieces(&mut out, batch * width, 1, &|i, piece| {
            piece.chunks_exact_mut(width).enumerate().for_each(|(row, out)| f(i * batch + row, out));
        });
    }
    out
}

/// A vector as long as `x`, filled by `f(piece of x, piece of the result)`.
pub(crate) fn map<T: Element, O: Element>(x: &[T], f: impl Fn(&[T], &mut [O]) + Sync) -> Vec<O> {
    let mut out = vec![O::default(); x.len()];
    for_chunks(&mut out, |start, piece| f(&x[start..start + piece.len()], piece));
    out
}
