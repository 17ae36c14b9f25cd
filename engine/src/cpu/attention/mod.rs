//! Attention by tiles: products of the `gemm` crate on blocks of queries and keys, and between them the softmax of a tile.

mod backward;
pub(crate) mod decode;
mod forward;
mod gather;
mod product;

use std::ops::Range;

use super::Float;
use crate::mask::words::{Tile, Words};
use crate::mask::{Pairs, lower};
use crate::ops::attention::{Grads, Operands, Plan, Wants};
use crate::ops::random::Noise;
use crate::profile::{operations, touched};
use crate::snippet::Score;
use crate::{DType, Result, Tensor};
use product::Matrix;

/// Queries of a tile.
const ROWS: usize = 64;
/// Keys of a tile: with the scores of a tile, two of keys and values of 64 each stay in a core's second cache.
const COLUMNS: usize = 256;

/// The result [batch, heads, queries, value_dim], and the logarithms of the sums [batch, heads, queries].
pub(crate) fn forward(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    touched(op, 0);
    operations(plan.operations(1, 1));
    match operands.query.dtype() {
        DType::F64 if plan.lists.is_some() => gather::forward::<f64>(op, operands, plan),
        _ if plan.lists.is_some() => gather::forward::<f32>(op, operands, plan),
        DType::F64 => forward::run::<f64>(op, operands, plan),
        _ => forward::run::<f32>(op, operands, plan),
    }
}

/// The gradients, and what each query's weights have in common, [batch, heads, queries]: `delta = sum_d d_out out`.
pub(crate) fn backward(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    out: &Tensor,
    log_sums: &Tensor,
    d_out: &Tensor,
    wants: Wants,
) -> Result<(Grads, Tensor)> {
    let d_out = readable(d_out)?;
    touched(op, 0);
    // Scores and those of d_out, and what they give each operand.
    operations(plan.operations(3, 2));
    let results = [out, log_sums, &d_out];
    match out.dtype() {
        DType::F64 if plan.lists.is_some() => gather::backward::<f64>(op, operands, plan, results, wants),
        _ if plan.lists.is_some() => gather::backward::<f32>(op, operands, plan, results, wants),
        DType::F64 => backward::run::<f64>(op, operands, plan, results, wants),
        _ => backward::run::<f32>(op, operands, plan, results, wants),
    }
}

/// A tensor [batch, heads, rows, columns] of any strides.
struct Heads<'a, T> {
    data: &'a [T],
    start: usize,
    strides: [usize; 4],
}

impl<'a, T: Float> Heads<'a, T> {
    fn new(op: &'static str, x: &'a Tensor) -> Result<Self> {
        let mut strides = [0; 4];
        let of = &x.layout().strides;
        strides[4 - of.len()..].copy_from_slice(of);
        Ok(Heads { data: x.cpu_all(op)?, start: x.layout().offset, strides })
    }

    /// Index of the first element of a row.
    fn row(&self, batch: usize, head: usize, row: usize) -> usize {
        let [b, h, r, _] = self.strides;
        self.start + batch * b + head * h + row * r
    }

    /// The matrix of a head, from a row on.
    fn matrix(&self, batch: usize, head: usize, row: usize) -> Matrix<'a, T> {
        let start = self.row(batch, head, row);
        Matrix { data: self.data, start, row: self.strides[2], column: self.strides[3] }
    }
}

/// What both directions read.
struct Context<'a, T> {
    plan: &'a Plan,
    words: Words<'a>,
    query: Heads<'a, T>,
    key: Heads<'a, T>,
    value: Heads<'a, T>,
    bias: Option<Heads<'a, T>>,
    relative: Option<Heads<'a, T>>,
    c2p: Option<Heads<'a, T>>,
    p2c: Option<Heads<'a, T>>,
    /// By `j - i + queries - 1`.
    buckets: &'a [u32],
    score: Option<&'a [Score; 2]>,
    noise: Option<Noise>,
}

/// The scores that a task works on: a block of queries and a tile of keys of a head.
struct Block {
    batch: usize,
    head: usize,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl<'a, T: Float> Context<'a, T> {
    fn new(op: &'static str, operands: &'a Operands, plan: &'a Plan) -> Result<Self> {
        let heads = |x: &'a Option<Tensor>| x.as_ref().map(|x| Heads::new(op, x)).transpose();
        Ok(Context {
            plan,
            words: lower::words(op, operands.mask.as_ref(), operands.visible.as_ref(), plan.pairs)?,
            score: operands.score.as_ref().map(|score| score.on_cpu(op)).transpose()?,
            query: Heads::new(op, &operands.query)?,
            key: Heads::new(op, &operands.key)?,
            value: Heads::new(op, &operands.value)?,
            bias: heads(&operands.bias)?,
            relative: heads(&operands.relative)?,
            c2p: heads(&operands.c2p)?,
            p2c: heads(&operands.p2c)?,
            buckets: operands.buckets.as_ref().map_or(Ok(&[][..]), |ids| ids.cpu_slice::<u32>(op))?,
            noise: plan.dropout.map(|dropout| Noise::new(dropout.state)),
        })
    }

    /// The scores of a block by rows, minus infinity where a query does not see a key; and into `slopes`, if given, the derivative of
    /// score and softcap, if there is either.
    fn scores(&self, block: &Block, tile: Tile, scores: &mut [T], mut slopes: Option<&mut [T]>) {
        let Block { batch, head, ref queries, ref keys } = *block;
        let (q, k) = (
            self.query.matrix(batch, head, queries.start),
            self.key.matrix(batch, head / self.plan.group(), keys.start),
        );
        product::product(
            scores,
            [queries.len(), keys.len(), self.plan.head_dim],
            q,
            k.transposed(),
            self.plan.scale,
            false,
        );
        for (i, (at, row)) in queries.clone().zip(scores.chunks_exact_mut(keys.len()).enumerate()) {
            if let Some([score, gradient]) = self.score {
                if let Some(slopes) = &mut slopes {
                    let slopes = slopes[at * keys.len()..].iter_mut();
                    slopes.zip(&*row).zip(keys.clone()).for_each(|((slope, &x), j)| {
                        *slope = T::of(gradient(x.f64(), i, j, head, batch));
                    });
                }
                row.iter_mut().zip(keys.clone()).for_each(|(x, j)| *x = T::of(score(x.f64(), i, j, head, batch)));
            }
            if let Some(cap) = self.plan.softcap {
                let (cap, inverse) = (T::of(cap), T::of(1.0 / cap));
                row.iter_mut().for_each(|x| *x = (*x * inverse).fast_tanh());
                if let Some(slopes) = &mut slopes {
                    let slopes = &mut slopes[at * keys.len()..][..keys.len()];
                    let of_score = |slope: T| if self.score.is_some() { slope } else { T::one() };
                    slopes.iter_mut().zip(&*row).for_each(|(slope, &t)| *slope = of_score(*slope) * (T::one() - t * t));
                }
                row.iter_mut().for_each(|x| *x = *x * cap);
            }
            if let Some(bias) = &self.bias {
                let (start, step) = (bias.row(batch, head, i) + keys.start * bias.strides[3], bias.strides[3]);
                row.iter_mut().enumerate().for_each(|(j, x)| *x += bias.data[start + j * step]);
            }
            if let Some(relative) = &self.relative {
                let (start, step) = (relative.row(0, 0, head), relative.strides[3]);
                let first = keys.start + self.plan.pairs.queries - 1 - i;
                row.iter_mut().enumerate().for_each(|(j, x)| *x += relative.data[start + (first + j) * step]);
            }
            if let Some(c2p) = &self.c2p {
                let (start, step) = (c2p.row(batch, head, i), c2p.strides[3]);
                let ids = self.buckets_of(i, keys);
                row.iter_mut().zip(ids).for_each(|(x, &id)| *x += c2p.data[start + id as usize * step]);
            }
            if let Some(p2c) = &self.p2c {
                let (start, [_, _, by_key, step]) = (p2c.row(batch, head, keys.start), p2c.strides);
                let ids = self.buckets_of(i, keys).iter().enumerate();
                row.iter_mut()
                    .zip(ids)
                    .for_each(|(x, (j, &id))| *x += p2c.data[start + j * by_key + id as usize * step]);
            }
            if tile == Tile::Partial {
                self.words.hide(batch, head, i, keys, row, T::neg_infinity());
            }
        }
    }

    /// The buckets of a query and some keys.
    fn buckets_of(&self, i: usize, keys: &Range<usize>) -> &'a [u32] {
        let first = keys.start + self.plan.pairs.queries - 1 - i;
        &self.buckets[first..first + keys.len()]
    }

    /// Calls `f(place in the row, 0 or the scale)` for the keys of a query, if there is dropout.
    fn drop_out(&self, block: &Block, i: usize, mut f: impl FnMut(usize, T)) {
        let (Some(dropout), Some(noise)) = (&self.plan.dropout, &self.noise) else { return };
        let Pairs { heads, queries, keys, .. } = self.plan.pairs;
        let first = ((block.batch * heads + block.head) * queries + i) * keys + block.keys.start;
        let scale = T::of(dropout.scale);
        let mut words = noise.block(first / 4);
        for place in 0..block.keys.len() {
            let element = first + place;
            if element.is_multiple_of(4) {
                words = noise.block(element / 4);
            }
            f(place, if words[element % 4] < dropout.threshold { T::zero() } else { scale });
        }
    }
}

/// Pieces of a range, of at most `size` each.
fn pieces(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |start| start..range.end.min(start + size))
}

/// Of non-negative strides that products can take: as it is, or a copy where a row is not dense.
fn readable(x: &Tensor) -> Result<Tensor> {
    if x.layout().strides.last().is_none_or(|&step| step == 1) { Ok(x.clone()) } else { x.contiguous() }
}
