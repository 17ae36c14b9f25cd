//! Backward: each task has some keys of one key head and goes over all queries that see them. With the weights P computed again,
//!
//!   dV = P^T dO;  dP = dO V^T;  dS = P (dP - delta);  dQ = scale dX K;  dK = scale dX^T Q
//!
//! where dX is dS times the slope of the softcap. Gradients of queries are added up over tasks in a fixed order.

use std::ops::Range;

use super::forward::weight;
use super::product::{Matrix, product};
use super::{Block, COLUMNS, Context, Heads, ROWS};
use crate::cpu::Float;
use crate::cpu::parallel::{collect, fill_rows};
use crate::layout::Dims;
use crate::mask::Pairs;
use crate::mask::steps::Side;
use crate::mask::words::{INTERVALS, Tile};
use crate::ops::attention::{Grads, NOTHING, Operands, Plan, Wants};
use crate::{Result, Tensor};

/// `delta` of each query.
pub(super) fn delta<T: Float>(op: &'static str, plan: &Plan, out: &Tensor, d_out: &Heads<T>) -> Result<Vec<T>> {
    let (Pairs { batch, heads, queries, .. }, width) = (plan.pairs, plan.value_dim);
    let values = out.cpu_slice::<T>(op)?;
    Ok(fill_rows(batch * heads * queries, 1, |row, delta: &mut [T]| {
        let start = d_out.row(row / queries / heads, row / queries % heads, row % queries);
        let d_out = &d_out.data[start..start + width];
        delta[0] = T::of(crate::cpu::softmax::sum2(d_out, &values[row * width..][..width], |a, b| a * b));
    }))
}

/// Tasks to have at least, if there are keys enough, so that all cores work.
const TASKS: usize = 16;

/// Keys of a tile under intervals, which hide tiles in between: fewer keys hide more.
const FEWER_COLUMNS: usize = 64;

/// What one task computes. `rows`: the queries that see its keys; `query`: of these, of all heads of the group; `bias`: of the pairs of these with the task's keys;
/// `relative`: of each head; `c2p` and `p2c`: of the queries and of the task's keys, of all heads of the group.
struct Part<T> {
    rows: Range<usize>,
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
    bias: Vec<T>,
    relative: Vec<T>,
    c2p: Vec<T>,
    p2c: Vec<T>,
}

struct Backward<'a, T> {
    context: Context<'a, T>,
    d_out: Heads<'a, T>,
    log_sums: &'a [T],
    delta: &'a [T],
    wants: Wants,
}

pub(super) fn run<T: Float>(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    [out, log_sums, d_out]: [&Tensor; 3],
    wants: Wants,
) -> Result<(Grads, Tensor)> {
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let (key_heads, device) = (plan.key_heads, out.device());
    let d_out = Heads::<T>::new(op, d_out)?;
    let delta = delta(op, plan, out, &d_out)?;
    let log_sums = log_sums.cpu_slice::<T>(op)?;
    let backward = Backward { context: Context::new(op, operands, plan)?, d_out, log_sums, delta: &delta, wants };

    let chunks = TASKS.div_ceil(batch * key_heads).min(keys.div_ceil(COLUMNS));
    let size = keys.div_ceil(chunks).next_multiple_of(backward.context.words.block(Side::Key).unwrap_or(1));
    let chunks = keys.div_ceil(size);
    let parts = collect(batch * key_heads * chunks, queries * size * (plan.head_dim + plan.value_dim), &|task| {
        let (head, start) = (task / chunks, task % chunks * size);
        backward.keys(head / key_heads, head % key_heads, start..keys.min(start + size))
    });

    let tensor = |values: Vec<T>, shape: &[usize]| Tensor::from_cpu(op, values, Dims::new(op, shape)?, device);
    let mut grads = Grads::default();
    if wants.query {
        let width = plan.head_dim;
        let mut all = vec![T::zero(); batch * heads * queries * width];
        for (task, part) in parts.iter().enumerate() {
            let first = task / chunks * plan.group();
            let of_head = (part.rows.len() * width).max(1);
            for (member, of_rows) in part.query.chunks_exact(of_head).enumerate() {
                let start = ((first + member) * queries + part.rows.start) * width;
                all[start..].iter_mut().zip(of_rows).for_each(|(sum, &x)| *sum += x);
            }
        }
        grads.query = Some(tensor(all, &[batch, heads, queries, plan.head_dim])?);
    }
    if wants.key_value {
        let all = |f: &dyn Fn(&Part<T>) -> &[T]| parts.iter().flat_map(f).copied().collect::<Vec<T>>();
        grads.key = Some(tensor(all(&|part| &part.key), &[batch, key_heads, keys, plan.head_dim])?);
        grads.value = Some(tensor(all(&|part| &part.value), &[batch, key_heads, keys, plan.value_dim])?);
    }
    if let Some(one_row) = wants.bias {
        let rows = if one_row { 1 } else { queries };
        let mut all = vec![T::zero(); batch * heads * rows * keys];
        let of_head = plan.group() * rows;
        for (task, part) in parts.iter().enumerate() {
            let (head, start) = (task / chunks, task % chunks * size);
            let length = size.min(keys - start);
            let to = all[head * of_head * keys..][..of_head * keys].chunks_exact_mut(keys);
            to.zip(part.bias.chunks_exact(length)).for_each(|(to, row)| to[start..start + length].copy_from_slice(row));
        }
        grads.bias = Some(tensor(all, &[batch, heads, rows, keys])?);
    }
    if wants.relative {
        let mut all = vec![T::zero(); heads * (queries + keys - 1)];
        for (task, part) in parts.iter().enumerate() {
            let start = task / chunks % key_heads * part.relative.len();
            all[start..].iter_mut().zip(&part.relative).for_each(|(sum, &x)| *sum += x);
        }
        grads.relative = Some(tensor(all, &[heads, queries + keys - 1])?);
    }
    if wants.c2p {
        let mut all = vec![T::zero(); batch * heads * queries * plan.buckets];
        for (task, part) in parts.iter().enumerate() {
            let to = &mut all[task / chunks * part.c2p.len()..];
            to.iter_mut().zip(&part.c2p).for_each(|(sum, &x)| *sum += x);
        }
        grads.c2p = Some(tensor(all, &[batch, heads, queries, plan.buckets])?);
    }
    if wants.p2c {
        let mut all = vec![T::zero(); batch * heads * keys * plan.buckets];
        for (task, part) in parts.iter().enumerate() {
            let (head, start) = (task / chunks, task % chunks * size);
            let length = size.min(keys - start) * plan.buckets;
            for (member, of_keys) in part.p2c.chunks_exact(length).enumerate() {
                let row = (head * plan.group() + member) * keys + start;
                all[row * plan.buckets..][..length].copy_from_slice(of_keys);
            }
        }
        grads.p2c = Some(tensor(all, &[batch, heads, keys, plan.buckets])?);
    }
    let delta = tensor(delta, &[batch, heads, queries])?;
    Ok((grads, delta))
}

impl<T: Float> Backward<'_, T> {
    /// The gradients by way of some keys of a key head.
    fn keys(&self, batch: usize, key_head: usize, keys: Range<usize>) -> Part<T> {
        let plan = self.context.plan;
        let (group, Pairs { queries, keys: all_keys, .. }) = (plan.group(), plan.pairs);
        let zeros = |wanted: bool, n: usize| vec![T::zero(); if wanted { n } else { 0 }];
        let rows_of_bias = self.wants.bias.map_or(0, |one_row| if one_row { group } else { group * queries });
        let words = self.context.words;
        let most = if plan.kinds & 1 << INTERVALS != 0 { FEWER_COLUMNS } else { COLUMNS };
        let mut blocks = Vec::new();
        for columns in words.tiles(Side::Key, keys.clone(), most) {
            for member in 0..group {
                let head = key_head * group + member;
                for (queries, tile) in words.steps(Side::Key, batch, head, &columns, ROWS) {
                    blocks.push((member, tile, Block { batch, head, queries, keys: columns.clone() }));
                }
            }
        }
        let start = blocks.iter().map(|(_, _, block)| block.queries.start).min().unwrap_or_default();
        let rows = start..blocks.iter().map(|(_, _, block)| block.queries.end).max().unwrap_or_default();
        let mut part = Part {
            query: zeros(self.wants.query, group * rows.len() * plan.head_dim),
            rows,
            key: zeros(self.wants.key_value, keys.len() * plan.head_dim),
            value: zeros(self.wants.key_value, keys.len() * plan.value_dim),
            bias: zeros(true, rows_of_bias * keys.len()),
            relative: zeros(self.wants.relative, group * (queries + all_keys - 1)),
            c2p: zeros(self.wants.c2p, group * queries * plan.buckets),
            p2c: zeros(self.wants.p2c, group * keys.len() * plan.buckets),
        };
        let mut tiles: [Vec<T>; 3] = std::array::from_fn(|_| vec![T::zero(); ROWS * COLUMNS]);
        for (member, tile, block) in &blocks {
            self.block(block, *tile, &keys, *member, &mut part, &mut tiles);
        }
        part
    }

    /// Adds what one block of queries and keys gives. `head` counts in the group, `keys` are those of the task.
    fn block(
        &self,
        block: &Block,
        tile: Tile,
        keys: &Range<usize>,
        head: usize,
        part: &mut Part<T>,
        tiles: &mut [Vec<T>; 3],
    ) {
        let (context, plan) = (&self.context, self.context.plan);
        let (rows, columns) = (block.queries.len(), block.keys.len());
        let [weights, slopes, grads] = tiles;
        let (weights, slopes, grads) =
            (&mut weights[..rows * columns], &mut slopes[..rows * columns], &mut grads[..rows * columns]);
        let key_head = block.head / plan.group();
        let of_rows = (block.batch * plan.pairs.heads + block.head) * plan.pairs.queries;
        let d_out = self.d_out.matrix(block.batch, block.head, block.queries.start);

        context.scores(block, tile, weights, Some(slopes));
        let value = context.value.matrix(block.batch, key_head, block.keys.start);
        product(grads, [rows, columns, plan.value_dim], d_out, value.transposed(), 1.0, false);
        for (i, (weights, grads)) in
            block.queries.clone().zip(weights.chunks_exact_mut(columns).zip(grads.chunks_exact_mut(columns)))
        {
            let (log_sum, delta) = (self.log_sums[of_rows + i], self.delta[of_rows + i]);
            if log_sum == T::of(NOTHING) {
                weights.fill(T::zero());
                grads.fill(T::zero());
                continue;
            }
            weights.iter_mut().for_each(|x| *x = weight(*x, log_sum));
            if plan.dropout.is_none() {
                grads.iter_mut().zip(&*weights).for_each(|(d, &w)| *d = w * (*d - delta));
            } else {
                context.drop_out(block, i, |place, keep| {
                    let w = weights[place];
                    grads[place] = w * (grads[place] * keep - delta);
                    weights[place] = w * keep;
                });
            }
        }
        // Now weights are P after dropout, and grads dS.
        let in_task = block.keys.start - keys.start;
        if self.wants.key_value {
            let dv = &mut part.value[in_task * plan.value_dim..];
            product(
                dv,
                [columns, plan.value_dim, rows],
                Matrix::dense(weights, columns).transposed(),
                d_out,
                1.0,
                true,
            );
        }
        self.bias(block, keys, head, part, grads);
        if plan.softcap.is_some() || context.score.is_some() {
            grads.iter_mut().zip(&*slopes).for_each(|(d, &slope)| *d = *d * slope);
        }
        let grads = Matrix::dense(grads, columns);
        if self.wants.key_value {
            let query = context.query.matrix(block.batch, block.head, block.queries.start);
            let dk = &mut part.key[in_task * plan.head_dim..];
            product(dk, [columns, plan.head_dim, rows], grads.transposed(), query, plan.scale, true);
        }
        if self.wants.query {
            let key = context.key.matrix(block.batch, key_head, block.keys.start);
            let row = head * part.rows.len() + block.queries.start - part.rows.start;
            let dq = &mut part.query[row * plan.head_dim..];
            product(dq, [rows, plan.head_dim, columns], grads, key, plan.scale, true);
        }
    }

    /// Adds the gradients of scores to those of the biases.
    fn bias(&self, block: &Block, keys: &Range<usize>, head: usize, part: &mut Part<T>, grads: &[T]) {
        let Pairs { queries, keys: all_keys, .. } = self.context.plan.pairs;
        let in_task = block.keys.start - keys.start;
        for (i, grads) in block.queries.clone().zip(grads.chunks_exact(block.keys.len())) {
            let add = |to: &mut [T]| to.iter_mut().zip(grads).for_each(|(sum, &d)| *sum += d);
            if let Some(one_row) = self.wants.bias {
                let row = if one_row { head } else { head * queries + i };
                add(&mut part.bias[row * keys.len() + in_task..]);
            }
            if self.wants.relative {
                add(&mut part.relative[head * (queries + all_keys - 1) + block.keys.start + queries - 1 - i..]);
            }
            let buckets = self.context.plan.buckets;
            if self.wants.c2p {
                let row = &mut part.c2p[(head * queries + i) * buckets..][..buckets];
                let ids = self.context.buckets_of(i, &block.keys);
                grads.iter().zip(ids).for_each(|(&d, &id)| row[id as usize] += d);
            }
            if self.wants.p2c {
                let rows = part.p2c[(head * keys.len() + in_task) * buckets..].chunks_exact_mut(buckets);
                let ids = self.context.buckets_of(i, &block.keys);
                rows.zip(grads.iter().zip(ids)).for_each(|(row, (&d, &id))| row[id as usize] += d);
            }
        }
    }
}
