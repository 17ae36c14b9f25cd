//! Attention to a cache: each task has some keys of one key head, and the results of the tasks are merged in order. A step reads
//! each key and value once and does little with it, so that memory, not arithmetic, sets the pace.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::product::{Matrix, product};
use super::{Heads, forward};
use crate::cache::{Pages, Places};
use crate::cpu::parallel::collect;
use crate::cpu::softmax::{max, sum};
use crate::cpu::strided::Vectorised;
use crate::cpu::{Float, by_dtype};
use crate::layout::Dims;
use crate::mask::words::Words;
use crate::mask::{Pairs, lower};
use crate::ops::attention::Plan;
use crate::ops::decode::Operands;
use crate::profile::{operations, touched};
use crate::{DType, Element, Result, Tensor};

/// Keys of a task.
const SPLIT: usize = 512;
/// Keys that are widened at a time, where the cache is of halves.
const AT_ONCE: usize = 64;
/// Rows from which on a matrix product pays.
const MANY: usize = 4;

/// Writes the new rows of keys and values into pages.
pub(crate) fn append(op: &'static str, pages: &mut Pages, rows: [&Tensor; 2], places: &Places) -> Result<()> {
    let (dtype, heads, size) = (pages.dtype(), pages.heads, pages.size);
    for (x, plane) in rows.into_iter().zip([&mut pages.key, &mut pages.value]) {
        let x = x.cast(dtype)?.contiguous()?;
        let &[_, _, new, width] = x.shape() else { continue };
        let room = width.next_multiple_of(4);
        by_dtype!(dtype, T => {
            let (from, to) = (x.cpu_slice::<T>(op)?, plane.cpu_mut::<T>()?);
            for (b, (&length, &count)) in places.lengths.iter().zip(&places.counts).enumerate() {
                for (h, i) in (0..heads).flat_map(|h| (0..count).map(move |i| (h, i))) {
                    let (page, row) = places.find(b, length - count + i, size);
                    let at = ((page * heads + h) * size + row) * room;
                    to[at..at + width].copy_from_slice(&from[((b * heads + h) * new + i) * width..][..width]);
                }
            }
        });
    }
    Ok(())
}

/// The result [batch, heads, queries, value_dim] of operands in f32 or f64.
pub(crate) fn decode(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    pages: &Pages,
    places: &Places,
) -> Result<Tensor> {
    touched(op, 0);
    operations(plan.operations(1, 1));
    match pages.dtype() {
        DType::F64 => run::<f64, f64>(op, operands, plan, pages, places),
        DType::F16 => run::<f32, half::f16>(op, operands, plan, pages, places),
        DType::BF16 => run::<f32, half::bf16>(op, operands, plan, pages, places),
        _ => run::<f32, f32>(op, operands, plan, pages, places),
    }
}

/// What a cache holds, and what it is computed with.
trait Kept<T>: Element {
    /// `from` as `T`: itself, or in `room`.
    fn widened<'a>(from: &'a [Self], room: &'a mut Vec<T>) -> &'a [T];
}

impl Kept<f32> for f32 {
    fn widened<'a>(from: &'a [f32], _: &'a mut Vec<f32>) -> &'a [f32] {
        from
    }
}

impl Kept<f64> for f64 {
    fn widened<'a>(from: &'a [f64], _: &'a mut Vec<f64>) -> &'a [f64] {
        from
    }
}

impl Kept<f32> for half::f16 {
    fn widened<'a>(from: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
        room.resize(from.len(), 0.0);
        from.convert_to_f32_slice(room);
        room
    }
}

impl Kept<f32> for half::bf16 {
    fn widened<'a>(from: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
        room.clear();
        room.extend(from.iter().map(|x| f32::from_bits(u32::from(x.to_bits()) << 16)));
        room
    }
}

struct Decode<'a, T, S> {
    plan: &'a Plan,
    pages: &'a Pages,
    places: &'a Places,
    words: Words<'a>,
    /// [batch, heads, queries, head_dim].
    query: &'a [T],
    key: &'a [S],
    value: &'a [S],
    bias: Option<Heads<'a, T>>,
    relative: Option<(Heads<'a, T>, usize)>,
}

/// What a task gives of each row: the largest score, the sum of the weights relative to it, and that of the weighted values.
struct Part<T> {
    most: Vec<T>,
    total: Vec<T>,
    out: Vec<T>,
}

fn run<T: Float, S: Kept<T>>(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    pages: &Pages,
    places: &Places,
) -> Result<Tensor> {
    let relative = |x| Ok((Heads::new(op, x)?, x.shape()[1]));
    let decode = Decode::<T, S> {
        plan,
        pages,
        places,
        words: lower::words(op, operands.mask.as_ref(), operands.visible.as_ref(), plan.pairs)?,
        query: operands.query.cpu_slice(op)?,
        key: pages.key.cpu()?,
        value: pages.value.cpu()?,
        bias: operands.bias.as_ref().map(|x| Heads::new(op, x)).transpose()?,
        relative: operands.relative.as_ref().map(relative).transpose()?,
    };
    let sinks = operands.sinks.as_ref().map(Tensor::contiguous).transpose()?;
    let sinks = sinks.as_ref().map(|x| x.cpu_slice::<T>(op)).transpose()?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let splits = keys.div_ceil(SPLIT);
    let (rows, width) = (plan.group() * queries, plan.value_dim);
    let parts = collect(batch * plan.key_heads * splits, SPLIT * (plan.head_dim + width), &|task| {
        let (head, split) = (task / splits, task % splits);
        decode.part(head / plan.key_heads, head % plan.key_heads, split * SPLIT..keys.min(split * SPLIT + SPLIT))
    });
    let mut out = vec![T::zero(); batch * heads * queries * width];
    for (at, out) in out.chunks_exact_mut(width).enumerate() {
        let sink = sinks.map_or(T::neg_infinity(), |sinks| sinks[at / queries % heads]);
        merge(&parts[at / rows * splits..][..splits], at % rows, sink, out);
    }
    Tensor::from_cpu(op, out, Dims::new(op, &[batch, heads, queries, width])?, operands.query.device())
}

/// One row of the result from those of its parts.
fn merge<T: Float>(parts: &[Part<T>], row: usize, sink: T, out: &mut [T]) {
    let most = parts.iter().fold(sink, |most, part| most.max(part.most[row]));
    if most == T::neg_infinity() {
        return;
    }
    let mut total = (sink - most).fast_exp();
    let width = out.len();
    for part in parts.iter().filter(|part| part.total[row] > T::zero()) {
        let e = (part.most[row] - most).fast_exp();
        total += e * part.total[row];
        out.iter_mut().zip(&part.out[row * width..]).for_each(|(out, &x)| *out += e * x);
    }
    out.iter_mut().for_each(|x| *x = *x / total);
}

impl<T: Float, S: Kept<T>> Decode<'_, T, S> {
    /// What some keys of a key head give to all queries of its group.
    fn part(&self, batch: usize, key_head: usize, keys: Range<usize>) -> Part<T> {
        let plan = self.plan;
        let Pairs { heads, queries, .. } = plan.pairs;
        let (rows, length) = (plan.group() * queries, self.places.lengths[batch]);
        let words = Words { shift: length - queries, ..self.words };
        let seen = words.keys_of(batch, &(0..queries));
        let keys = keys.start.max(seen.start)..keys.end.min(seen.end).min(length);
        let mut part = Part {
            most: vec![T::neg_infinity(); rows],
            total: vec![T::zero(); rows],
            out: vec![T::zero(); rows * plan.value_dim],
        };
        if keys.is_empty() {
            return part;
        }
        let first = (batch * heads + key_head * plan.group()) * queries * plan.head_dim;
        let query = &self.query[first..first + rows * plan.head_dim];
        let mut room = Vec::new();
        let mut scores = vec![T::zero(); rows * keys.len()];
        self.each_piece(batch, key_head, keys.clone(), |piece, at| {
            let width = plan.head_dim.next_multiple_of(4);
            let key = S::widened(&self.key[at * width..][..piece.len() * width], &mut room);
            let to = &mut scores[piece.start - keys.start..];
            Scores { query, key, to, step: keys.len(), widths: [plan.head_dim, width], rows, keys: piece.len() }.all();
        });
        for (row, scores) in scores.chunks_exact_mut(keys.len()).enumerate() {
            let (head, i) = (key_head * plan.group() + row / queries, row % queries);
            self.finish(&words, [batch, head, i], &keys, scores);
            let most = max(scores);
            if most == T::neg_infinity() {
                scores.fill(T::zero());
                continue;
            }
            scores.iter_mut().for_each(|x| *x = forward::weight(*x, most));
            (part.most[row], part.total[row]) = (most, T::of(sum(scores, |x| x)));
        }
        self.each_piece(batch, key_head, keys.clone(), |piece, at| {
            let width = plan.value_dim.next_multiple_of(4);
            let value = S::widened(&self.value[at * width..][..piece.len() * width], &mut room);
            let weights = &scores[piece.start - keys.start..];
            let widths = [plan.value_dim, width];
            Values { weights, value, to: &mut part.out, step: keys.len(), widths, rows, keys: piece.len() }.all();
        });
        part
    }

    /// Calls `f` with pieces of the keys that lie together, and the row of the pages where each begins.
    fn each_piece(&self, batch: usize, key_head: usize, keys: Range<usize>, mut f: impl FnMut(Range<usize>, usize)) {
        let (size, mut start) = (self.pages.size, keys.start);
        while start < keys.end {
            let (page, row) = self.places.find(batch, start, size);
            let end = keys.end.min(start + AT_ONCE.min(size - row));
            f(start..end, (page * self.pages.heads + key_head) * size + row);
            start = end;
        }
    }

    /// Products of a query and keys to scores, minus infinity where it does not see one.
    fn finish(&self, words: &Words, [batch, head, i]: [usize; 3], keys: &Range<usize>, row: &mut [T]) {
        let scale = T::of(self.plan.scale);
        row.iter_mut().for_each(|x| *x = *x * scale);
        if let Some(cap) = self.plan.softcap {
            let (cap, inverse) = (T::of(cap), T::of(1.0 / cap));
            row.iter_mut().for_each(|x| *x = (*x * inverse).fast_tanh() * cap);
        }
        if let Some(bias) = &self.bias {
            let (start, step) = (bias.row(batch, head, i) + keys.start * bias.strides[3], bias.strides[3]);
            row.iter_mut().enumerate().for_each(|(j, x)| *x += bias.data[start + j * step]);
        }
        if let Some((relative, entries)) = &self.relative {
            let (start, step) = (relative.row(0, 0, head), relative.strides[3]);
            // The entry of position 0 is that of the key there.
            let first = entries - self.plan.pairs.queries + keys.start - (words.shift + i);
            row.iter_mut().enumerate().for_each(|(j, x)| *x += relative.data[start + (first + j) * step]);
        }
        words.hide(batch, head, i, keys, row, T::neg_infinity());
    }
}

/// `to[row, j] = query[row] . key[j]`, rows of `to` being `step` apart.
struct Scores<'a, T> {
    query: &'a [T],
    key: &'a [T],
    to: &'a mut [T],
    step: usize,
    /// Of the queries, and of the keys with their padding.
    widths: [usize; 2],
    rows: usize,
    keys: usize,
}

impl<T: Float> Scores<'_, T> {
    fn all(self) {
        let [width, room] = self.widths;
        if self.rows < MANY {
            return self.dispatch();
        }
        let mut products = vec![T::zero(); self.rows * self.keys];
        let key = Matrix::dense(self.key, room).transposed();
        product(&mut products, [self.rows, self.keys, width], Matrix::dense(self.query, width), key, 1.0, false);
        for (to, from) in self.to.chunks_mut(self.step).zip(products.chunks_exact(self.keys)) {
            to[..self.keys].copy_from_slice(from);
        }
    }
}

impl<T: Float> Vectorised for Scores<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [width, room] = self.widths;
        for (row, query) in self.query.chunks_exact(width).enumerate() {
            let to = &mut self.to[row * self.step..][..self.keys];
            for (to, key) in to.iter_mut().zip(self.key.chunks_exact(room)) {
                *to = dot(query, &key[..width]);
            }
        }
    }
}

#[inline(always)]
fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 16;
    let ((xs, x_rest), (ys, y_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [T::zero(); LANES];
    for (x, y) in xs.iter().zip(ys) {
        for n in 0..LANES {
            lanes[n] += x[n] * y[n];
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for n in 0..half {
            lanes[n] += lanes[n + half];
        }
        half /= 2;
    }
    x_rest.iter().zip(y_rest).fold(lanes[0], |sum, (&x, &y)| sum + x * y)
}

/// `to[row] += sum of weights[row, j] value[j]`, rows of `weights` being `step` apart.
struct Values<'a, T> {
    weights: &'a [T],
    value: &'a [T],
    to: &'a mut [T],
    step: usize,
    widths: [usize; 2],
    rows: usize,
    keys: usize,
}

impl<T: Float> Values<'_, T> {
    fn all(self) {
        let [width, room] = self.widths;
        if self.rows < MANY {
            return self.dispatch();
        }
        let weights = Matrix { data: self.weights, start: 0, row: self.step, column: 1 };
        product(self.to, [self.rows, width, self.keys], weights, Matrix::dense(self.value, room), 1.0, true);
    }
}

impl<T: Float> Vectorised for Values<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [width, room] = self.widths;
        for (row, to) in self.to.chunks_exact_mut(width).enumerate() {
            let weights = &self.weights[row * self.step..][..self.keys];
            // Four keys at a time, so that sums are loaded and stored once for all.
            let (fours, rest) = weights.as_chunks::<4>();
            let (value, value_rest) = self.value.split_at(4 * fours.len() * room);
            for (&[a, b, c, d], value) in fours.iter().zip(value.chunks_exact(4 * room)) {
                let (v0, v1) = (&value[..width], &value[room..][..width]);
                let (v2, v3) = (&value[2 * room..][..width], &value[3 * room..][..width]);
                for (n, to) in to.iter_mut().enumerate() {
                    *to += (a * v0[n] + b * v1[n]) + (c * v2[n] + d * v3[n]);
                }
            }
            for (&w, value) in rest.iter().zip(value_rest.chunks_exact(room)) {
                to.iter_mut().zip(value).for_each(|(to, &x)| *to += w * x);
            }
        }
    }
}
