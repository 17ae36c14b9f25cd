//! Attention by lists of keys. Forward and the gradient of the queries: each task has some queries, and goes over their lists. The gradients
//! of keys and values: each task has some keys, and goes over the queries that list them, in ascending order.

use std::ops::Range;

use super::forward::weight;
use super::{Context, Heads, pieces};
use crate::cpu::Float;
use crate::cpu::parallel::collect;
use crate::layout::Dims;
use crate::mask::Pairs;
use crate::ops::attention::{Grads, NOTHING, Operands, Plan, Wants};
use crate::sparse::keys::PADDING;
use crate::{Result, Tensor};

/// Queries or keys of a task.
const ROWS: usize = 64;

/// The lists of a mask's words.
struct Lists<'a, T> {
    context: Context<'a, T>,
    lists: &'a [u32],
    starts: &'a [u32],
    order: &'a [u32],
    own: [u32; 2],
    k: usize,
}

/// A pair that is listed and seen: the key, or the query, the score, and its derivative by the product.
struct Pair<T> {
    at: usize,
    score: T,
    slope: T,
}

impl<'a, T: Float> Lists<'a, T> {
    fn new(op: &'static str, operands: &'a Operands, plan: &'a Plan) -> Result<Self> {
        let context = Context::new(op, operands, plan)?;
        let missing = || crate::Error::argument(op, "the lists of keys are missing");
        let [_, lists, starts, batches, heads, order, k, _] = context.words.index().ok_or_else(missing)?;
        let from = |place: u32| &context.words.words[place as usize..];
        Ok(Lists {
            lists: from(lists),
            starts: from(starts),
            order: from(order),
            own: [batches, heads],
            k: k as usize,
            context,
        })
    }

    /// The score of a pair, if it is seen.
    fn pair(&self, batch: usize, head: usize, i: usize, j: usize, at: usize) -> Option<Pair<T>> {
        let context = &self.context;
        let mut seen = [true];
        context.words.hide(batch, head, i, &(j..j + 1), &mut seen, false);
        if !seen[0] {
            return None;
        }
        let plan = context.plan;
        let (q, k) = (context.query.row(batch, head, i), context.key.row(batch, head / plan.group(), j));
        let width = plan.head_dim;
        let product = dot(&context.query.data[q..q + width], &context.key.data[k..k + width]);
        let (mut score, mut slope) = (product * T::of(plan.scale), T::of(plan.scale));
        if let Some([of_score, gradient]) = context.score {
            slope = slope * T::of(gradient(score.f64(), i, j, head, batch));
            score = T::of(of_score(score.f64(), i, j, head, batch));
        }
        if let Some(cap) = plan.softcap {
            let t = (score * T::of(1.0 / cap)).fast_tanh();
            (score, slope) = (T::of(cap) * t, slope * (T::one() - t * t));
        }
        if let Some(bias) = &context.bias {
            score += bias.data[bias.row(batch, head, i) + j * bias.strides[3]];
        }
        if let Some(relative) = &context.relative {
            score += relative.data[relative.row(0, 0, head) + (j + plan.pairs.queries - 1 - i) * relative.strides[3]];
        }
        if let Some(c2p) = &context.c2p {
            score += c2p.data[c2p.row(batch, head, i) + self.bucket(i, j) * c2p.strides[3]];
        }
        if let Some(p2c) = &context.p2c {
            score += p2c.data[p2c.row(batch, head, j) + self.bucket(i, j) * p2c.strides[3]];
        }
        Some(Pair { at, score, slope })
    }

    /// That of a distance.
    fn bucket(&self, i: usize, j: usize) -> usize {
        self.context.buckets[j + self.context.plan.pairs.queries - 1 - i] as usize
    }

    /// The pairs of a query.
    fn of_query(&self, batch: usize, head: usize, i: usize) -> Vec<Pair<T>> {
        let row = self.context.words.matrix(batch, head, self.own) * self.context.plan.pairs.queries + i;
        let list = self.lists[row * self.k..][..self.k].iter().take_while(|&&key| key != PADDING);
        list.filter_map(|&j| self.pair(batch, head, i, j as usize, j as usize)).collect()
    }

    /// The pairs of a key.
    fn of_key(&self, batch: usize, head: usize, j: usize) -> Vec<Pair<T>> {
        let Pairs { queries, keys, .. } = self.context.plan.pairs;
        let row = self.context.words.matrix(batch, head, self.own) * keys + j;
        let entries = &self.order[self.starts[row] as usize..self.starts[row + 1] as usize];
        let pairs = entries.iter().map(|&entry| entry as usize / self.k % queries);
        pairs.filter_map(|i| self.pair(batch, head, i, j, i)).collect()
    }

    /// What dropout multiplies the weight of a pair by.
    fn keep(&self, batch: usize, head: usize, i: usize, j: usize) -> T {
        let Pairs { heads, queries, keys, .. } = self.context.plan.pairs;
        let (Some(dropout), Some(noise)) = (&self.context.plan.dropout, &self.context.noise) else { return T::one() };
        let element = ((batch * heads + head) * queries + i) * keys + j;
        let falls = noise.block(element / 4)[element % 4] < dropout.threshold;
        if falls { T::zero() } else { T::of(dropout.scale) }
    }

    /// A row of values.
    fn value(&self, batch: usize, head: usize, j: usize) -> &[T] {
        let start = self.context.value.row(batch, head / self.context.plan.group(), j);
        &self.context.value.data[start..start + self.context.plan.value_dim]
    }
}

pub(super) fn forward<T: Float>(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    let lists = Lists::<T>::new(op, operands, plan)?;
    let sinks = operands.sinks.as_ref().map(Tensor::contiguous).transpose()?;
    let sinks = sinks.as_ref().map(|x| x.cpu_slice::<T>(op)).transpose()?;
    let Pairs { batch, heads, queries, .. } = plan.pairs;
    let tasks: Vec<Range<usize>> = pieces(0..queries, ROWS).collect();
    let width = plan.value_dim;
    let parts = collect(batch * heads * tasks.len(), ROWS * lists.k * (plan.head_dim + width), &|task| {
        let (head, rows) = (task / tasks.len(), tasks[task % tasks.len()].clone());
        let (batch, head) = (head / heads, head % heads);
        let (mut out, mut log_sums) = (vec![T::zero(); rows.len() * width], Vec::with_capacity(rows.len()));
        for (i, out) in rows.zip(out.chunks_exact_mut(width)) {
            let pairs = lists.of_query(batch, head, i);
            let sink = sinks.map(|sinks| sinks[head]);
            let scores = pairs.iter().map(|pair| pair.score).chain(sink);
            let most = scores.fold(T::neg_infinity(), |most, score| most.max(score));
            let mut total = sink.map_or(T::zero(), |sink| (sink - most).fast_exp());
            for pair in &pairs {
                let w = weight(pair.score, most);
                total += w;
                add(out, w * lists.keep(batch, head, i, pair.at), lists.value(batch, head, pair.at));
            }
            let some = total > T::zero();
            let factor = if some { T::one() / total } else { T::zero() };
            out.iter_mut().for_each(|x| *x = *x * factor);
            log_sums.push(if some { most + total.ln() } else { T::of(NOTHING) });
        }
        (out, log_sums)
    });
    let out: Vec<T> = parts.iter().flat_map(|(out, _)| out).copied().collect();
    let log_sums: Vec<T> = parts.into_iter().flat_map(|(_, log_sums)| log_sums).collect();
    let device = operands.query.device();
    Ok((
        Tensor::from_cpu(op, out, Dims::new(op, &[batch, heads, queries, width])?, device)?,
        Tensor::from_cpu(op, log_sums, Dims::new(op, &[batch, heads, queries])?, device)?,
    ))
}

/// What the gradients need of the results.
struct Backward<'a, T> {
    lists: Lists<'a, T>,
    d_out: Heads<'a, T>,
    log_sums: &'a [T],
    delta: &'a [T],
}

impl<T: Float> Backward<'_, T> {
    fn d_out(&self, batch: usize, head: usize, i: usize) -> &[T] {
        let start = self.d_out.row(batch, head, i);
        &self.d_out.data[start..start + self.lists.context.plan.value_dim]
    }

    /// The weight of a pair after dropout, and the gradient of its score.
    fn of_pair(&self, batch: usize, head: usize, i: usize, j: usize, pair: &Pair<T>) -> (T, T) {
        let Pairs { heads, queries, .. } = self.lists.context.plan.pairs;
        let row = (batch * heads + head) * queries + i;
        if self.log_sums[row] == T::of(NOTHING) {
            return (T::zero(), T::zero());
        }
        let (w, keep) = (weight(pair.score, self.log_sums[row]), self.lists.keep(batch, head, i, j));
        let dp = dot(self.d_out(batch, head, i), self.lists.value(batch, head, j));
        (w * keep, w * (dp * keep - self.delta[row]))
    }
}

pub(super) fn backward<T: Float>(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    [out, log_sums, d_out]: [&Tensor; 3],
    wants: Wants,
) -> Result<(Grads, Tensor)> {
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let device = out.device();
    let d_out = Heads::<T>::new(op, d_out)?;
    let delta = super::backward::delta(op, plan, out, &d_out)?;
    let log_sums = log_sums.cpu_slice::<T>(op)?;
    let lists = Lists::new(op, operands, plan)?;
    let backward = Backward { lists, d_out, log_sums, delta: &delta };
    let tensor = |values: Vec<T>, shape: &[usize]| Tensor::from_cpu(op, values, Dims::new(op, shape)?, device);
    let mut grads = Grads::default();
    if wants.query || wants.bias.is_some() || wants.relative || wants.c2p || wants.p2c {
        let parts = collect(batch * heads, queries * backward.lists.k * plan.head_dim, &|task| {
            backward.queries(task / heads, task % heads, wants)
        });
        let all = |f: &dyn Fn(&[Vec<T>; 5]) -> &Vec<T>| parts.iter().flat_map(f).copied().collect::<Vec<T>>();
        if wants.query {
            grads.query = Some(tensor(all(&|part| &part[0]), &[batch, heads, queries, plan.head_dim])?);
        }
        if let Some(one_row) = wants.bias {
            let rows = if one_row { 1 } else { queries };
            grads.bias = Some(tensor(all(&|part| &part[1]), &[batch, heads, rows, keys])?);
        }
        if wants.relative {
            let by_batch = tensor(all(&|part| &part[2]), &[batch, heads, queries + keys - 1])?;
            grads.relative = Some(by_batch.sum(&[0], false)?);
        }
        if wants.c2p {
            grads.c2p = Some(tensor(all(&|part| &part[3]), &[batch, heads, queries, plan.buckets])?);
        }
        if wants.p2c {
            grads.p2c = Some(tensor(all(&|part| &part[4]), &[batch, heads, keys, plan.buckets])?);
        }
    }
    if wants.key_value {
        let tasks: Vec<Range<usize>> = pieces(0..keys, ROWS).collect();
        let parts = collect(batch * plan.key_heads * tasks.len(), ROWS * queries, &|task| {
            let (head, keys) = (task / tasks.len(), tasks[task % tasks.len()].clone());
            backward.keys(head / plan.key_heads, head % plan.key_heads, keys)
        });
        let all = |f: &dyn Fn(&[Vec<T>; 2]) -> &Vec<T>| parts.iter().flat_map(f).copied().collect::<Vec<T>>();
        grads.key = Some(tensor(all(&|part| &part[0]), &[batch, plan.key_heads, keys, plan.head_dim])?);
        grads.value = Some(tensor(all(&|part| &part[1]), &[batch, plan.key_heads, keys, plan.value_dim])?);
    }
    let delta = tensor(delta, &[batch, heads, queries])?;
    Ok((grads, delta))
}

impl<T: Float> Backward<'_, T> {
    /// The gradients of a head's queries, bias, relative bias, and disentangled terms.
    fn queries(&self, batch: usize, head: usize, wants: Wants) -> [Vec<T>; 5] {
        let context = &self.lists.context;
        let (plan, Pairs { queries, keys, .. }) = (context.plan, context.plan.pairs);
        let zeros = |wanted: bool, n: usize| vec![T::zero(); if wanted { n } else { 0 }];
        let mut dq = zeros(true, queries * plan.head_dim);
        let mut bias = zeros(wants.bias.is_some(), if wants.bias == Some(true) { keys } else { queries * keys });
        let mut relative = zeros(wants.relative, queries + keys - 1);
        let mut c2p = zeros(wants.c2p, queries * plan.buckets);
        let mut p2c = zeros(wants.p2c, keys * plan.buckets);
        for (i, dq) in dq.chunks_exact_mut(plan.head_dim).enumerate() {
            for pair in self.lists.of_query(batch, head, i) {
                let j = pair.at;
                let (_, ds) = self.of_pair(batch, head, i, j, &pair);
                let key = context.key.row(batch, head / plan.group(), j);
                add(dq, ds * pair.slope, &context.key.data[key..key + plan.head_dim]);
                match wants.bias {
                    Some(true) => bias[j] += ds,
                    Some(false) => bias[i * keys + j] += ds,
                    None => {}
                }
                if wants.relative {
                    relative[j + queries - 1 - i] += ds;
                }
                if wants.c2p {
                    c2p[i * plan.buckets + self.lists.bucket(i, j)] += ds;
                }
                if wants.p2c {
                    p2c[j * plan.buckets + self.lists.bucket(i, j)] += ds;
                }
            }
        }
        [dq, bias, relative, c2p, p2c]
    }

    /// The gradients of some keys of a key head, and of their values.
    fn keys(&self, batch: usize, key_head: usize, keys: Range<usize>) -> [Vec<T>; 2] {
        let context = &self.lists.context;
        let plan = context.plan;
        let (mut dk, mut dv) =
            (vec![T::zero(); keys.len() * plan.head_dim], vec![T::zero(); keys.len() * plan.value_dim]);
        let rows = dk.chunks_exact_mut(plan.head_dim).zip(dv.chunks_exact_mut(plan.value_dim));
        for (j, (dk, dv)) in keys.zip(rows) {
            for head in key_head * plan.group()..(key_head + 1) * plan.group() {
                for pair in self.lists.of_key(batch, head, j) {
                    let i = pair.at;
                    let (w, ds) = self.of_pair(batch, head, i, j, &pair);
                    let query = context.query.row(batch, head, i);
                    add(dk, ds * pair.slope, &context.query.data[query..query + plan.head_dim]);
                    add(dv, w, self.d_out(batch, head, i));
                }
            }
        }
        [dk, dv]
    }
}

/// Adds `factor x` to `sum`.
fn add<T: Float>(sum: &mut [T], factor: T, x: &[T]) {
    sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += factor * x);
}

/// The sum of products, in eight lanes.
fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [T::zero(); 8];
    for (a, b) in a.iter().zip(b) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += a * b);
    }
    let rest: T = rest_a.iter().zip(rest_b).map(|(&a, &b)| a * b).sum();
    lanes.into_iter().sum::<T>() + rest
}
