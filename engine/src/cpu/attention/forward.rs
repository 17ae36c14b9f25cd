//! Forward: each task has some queries of one head and goes over the keys with a running maximum.

use super::product::{Matrix, product};
use super::{Block, COLUMNS, Context, ROWS};
use crate::cpu::Float;
use crate::cpu::parallel::collect;
use crate::layout::Dims;
use crate::mask::Pairs;
use crate::mask::steps::Side;
use crate::ops::attention::{NOTHING, Operands, Plan};
use crate::{Result, Tensor};

pub(super) fn run<T: Float>(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    let context = Context::<T>::new(op, operands, plan)?;
    let sinks = operands.sinks.as_ref().map(Tensor::contiguous).transpose()?;
    let sinks = sinks.as_ref().map(|x| x.cpu_slice::<T>(op)).transpose()?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let tiles = context.words.tiles(Side::Query, 0..queries, ROWS);
    let width = plan.head_dim + plan.value_dim;
    let parts = collect(batch * heads * tiles.len(), ROWS * keys * width, &|task| {
        let (head, queries) = (task / tiles.len(), tiles[task % tiles.len()].clone());
        let (batch, head) = (head / heads, head % heads);
        rows(&context, sinks.map(|sinks| sinks[head]), batch, head, queries)
    });
    let out: Vec<T> = parts.iter().flat_map(|(out, _)| out).copied().collect();
    let log_sums: Vec<T> = parts.into_iter().flat_map(|(_, log_sums)| log_sums).collect();
    let (shape, rows) = ([batch, heads, queries, plan.value_dim], [batch, heads, queries]);
    let device = operands.query.device();
    Ok((
        Tensor::from_cpu(op, out, Dims::new(op, &shape)?, device)?,
        Tensor::from_cpu(op, log_sums, Dims::new(op, &rows)?, device)?,
    ))
}

/// The results and the logarithms of the sums of some queries.
fn rows<T: Float>(
    context: &Context<T>,
    sink: Option<T>,
    batch: usize,
    head: usize,
    queries: std::ops::Range<usize>,
) -> (Vec<T>, Vec<T>) {
    let width = context.plan.value_dim;
    let mut out = vec![T::zero(); queries.len() * width];
    // Of each row: the largest score so far, and the sum of the weights relative to it.
    let mut running = vec![(T::neg_infinity(), T::zero()); queries.len()];
    let mut scores = vec![T::zero(); queries.len() * COLUMNS];
    for (keys, tile) in context.words.steps(Side::Query, batch, head, &queries, COLUMNS) {
        let block = Block { batch, head, queries: queries.clone(), keys: keys.clone() };
        let scores = &mut scores[..queries.len() * keys.len()];
        context.scores(&block, tile, scores, None);
        let of_rows = running.iter_mut().zip(out.chunks_exact_mut(width));
        for ((i, row), ((highest, total), out)) in queries.clone().zip(scores.chunks_exact_mut(keys.len())).zip(of_rows)
        {
            let most = highest.max(crate::cpu::softmax::max(row));
            if most == T::neg_infinity() {
                row.fill(T::zero());
                continue;
            }
            if *highest != most {
                let shrink = (*highest - most).fast_exp();
                *total = *total * shrink;
                out.iter_mut().for_each(|x| *x = *x * shrink);
                *highest = most;
            }
            row.iter_mut().for_each(|x| *x = weight(*x, most));
            *total += T::of(crate::cpu::softmax::sum(row, |x| x));
            context.drop_out(&block, i, |place, keep| row[place] = row[place] * keep);
        }
        let value = context.value.matrix(batch, head / context.plan.group(), keys.start);
        product(&mut out, [queries.len(), width, keys.len()], Matrix::dense(scores, keys.len()), value, 1.0, true);
    }
    let log_sum = |(mut highest, mut total): (T, T), out: &mut [T]| {
        let mut shrink = T::one();
        if let Some(sink) = sink {
            let most = highest.max(sink);
            shrink = (highest - most).fast_exp();
            total = total * shrink + (sink - most).fast_exp();
            highest = most;
        }
        if total == T::zero() {
            return T::of(NOTHING);
        }
        let factor = shrink / total;
        out.iter_mut().for_each(|x| *x = *x * factor);
        highest + total.ln()
    };
    let log_sums = running.into_iter().zip(out.chunks_exact_mut(width)).map(|(row, out)| log_sum(row, out)).collect();
    (out, log_sums)
}

/// `exp(score - most)`, 0 where the score is hidden.
#[inline(always)]
pub(super) fn weight<T: Float>(score: T, most: T) -> T {
    let e = (score - most).fast_exp();
    if score == T::neg_infinity() { T::zero() } else { e }
}
