//! Reductions over the middle of `[outer, n, inner]`.
//!
//! Sums run in short blocks of vector lanes of the element type, and blocks are added up in f64: as fast as memory and
//! nearly exact. The order is fixed by the sizes, so results do not depend on the number of cores.

use super::Float;
use super::parallel::{collect, fill, for_pieces};
use super::pool::take;
use crate::kernels::reduce::{Axis, Fold};
use crate::layout::Dims;
use crate::storage::{CpuData, Element};
use crate::{DType, Error, Result, Tensor};
use num_traits::{PrimInt, WrappingAdd, WrappingMul};

/// Elements that a lane folds in the element type before it is widened.
const STEPS: usize = 16;
/// The same of a column.
const ROWS: usize = 64;
/// Elements of a long row that one task folds.
const SEGMENT: usize = 1 << 15;
/// Columns that one task folds.
const TILE: usize = 64;

/// A fold of `T` with a wide accumulator `W`.
struct Folder<T, W, Step, Widen, Join, Finish> {
    zero: T,
    step: Step,
    widen: Widen,
    join: Join,
    wide_zero: W,
    finish: Finish,
}

pub(crate) fn fold(op: &'static str, fold: Fold, x: &Tensor, axis: Axis, scale: f64) -> Result<Tensor> {
    let shape = Dims::new(op, &[axis.outer, axis.inner])?;
    let device = x.device();
    match x.dtype() {
        DType::F32 => Tensor::from_cpu(op, fold_float::<f32>(fold, x.cpu_slice(op)?, axis, scale), shape, device),
        DType::F64 => Tensor::from_cpu(op, fold_float::<f64>(fold, x.cpu_slice(op)?, axis, scale), shape, device),
        DType::I32 => Tensor::from_cpu(op, fold_int::<i32>(fold, x.cpu_slice(op)?, axis), shape, device),
        DType::U32 => Tensor::from_cpu(op, fold_int::<u32>(fold, x.cpu_slice(op)?, axis), shape, device),
        DType::Bool => Tensor::from_cpu(op, fold_bool(fold, x.cpu_slice(op)?, axis), shape, device),
        got => Err(Error::DType { op, got, expected: "a dtype of the CPU's reductions (f32, f64, i32, u32, bool)" }),
    }
}

fn fold_float<T: Float>(fold: Fold, x: &[T], axis: Axis, scale: f64) -> Vec<T> {
    let sum = |a: f64, b: f64| a + b;
    let finish = move |w: f64| T::of(w * scale);
    match fold {
        Fold::Sum => float(T::zero(), |a, v| a + v, sum, 0.0, finish).run(x, axis),
        Fold::SumAbs => float(T::zero(), |a, v: T| a + v.abs(), sum, 0.0, finish).run(x, axis),
        Fold::SumSquares => float(T::zero(), |a, v| a + v * v, sum, 0.0, finish).run(x, axis),
        Fold::Prod => float(T::one(), |a, v| a * v, |a, b| a * b, 1.0, finish).run(x, axis),
        Fold::Max => {
            let low = T::neg_infinity();
            float(low, |a, v| if v > a { v } else { a }, f64::max, f64::NEG_INFINITY, T::of).run(x, axis)
        }
        Fold::Min => {
            float(T::infinity(), |a, v| if v < a { v } else { a }, f64::min, f64::INFINITY, T::of).run(x, axis)
        }
    }
}

fn float<T: Float, S, J, F>(
    zero: T,
    step: S,
    join: J,
    wide_zero: f64,
    finish: F,
) -> Folder<T, f64, S, impl Fn(T) -> f64 + Sync, J, F>
where
    S: Fn(T, T) -> T,
{
    Folder { zero, step, widen: |v: T| v.f64(), join, wide_zero, finish }
}

fn fold_int<T: Element + PrimInt + WrappingAdd + WrappingMul>(fold: Fold, x: &[T], axis: Axis) -> Vec<T> {
    let by = |zero: T, step: fn(T, T) -> T| {
        Folder { zero, step, widen: |v| v, join: step, wide_zero: zero, finish: |v| v }.run(x, axis)
    };
    match fold {
        Fold::Sum | Fold::SumAbs | Fold::SumSquares => by(T::zero(), |a, v| a.wrapping_add(&v)),
        Fold::Prod => by(T::one(), |a, v| a.wrapping_mul(&v)),
        Fold::Max => by(T::min_value(), |a, v| a.max(v)),
        Fold::Min => by(T::max_value(), |a, v| a.min(v)),
    }
}

fn fold_bool(fold: Fold, x: &[bool], axis: Axis) -> Vec<bool> {
    let by = |zero: bool, step: fn(bool, bool) -> bool| {
        Folder { zero, step, widen: |v| v, join: step, wide_zero: zero, finish: |v| v }.run(x, axis)
    };
    match fold {
        Fold::Min | Fold::Prod => by(true, |a, v| a & v),
        _ => by(false, |a, v| a | v),
    }
}

impl<T, W, Step, Widen, Join, Finish> Folder<T, W, Step, Widen, Join, Finish>
where
    T: Element,
    W: Copy + Send + Sync,
    Step: Fn(T, T) -> T + Sync,
    Widen: Fn(T) -> W + Sync,
    Join: Fn(W, W) -> W + Sync,
    Finish: Fn(W) -> T + Sync,
{
    fn run(&self, x: &[T], axis: Axis) -> Vec<T> {
        if axis.inner == 1 { self.rows(x, axis.n) } else { self.columns(x, axis) }
    }

    fn rows(&self, x: &[T], n: usize) -> Vec<T> {
        let segments = n.div_ceil(SEGMENT).max(1);
        let part = |i: usize| {
            let (row, segment) = (i / segments, i % segments);
            let end = n.min((segment + 1) * SEGMENT);
            self.row(&x[row * n + segment * SEGMENT..row * n + end])
        };
        let count = x.len() / n * segments;
        let parts: Vec<W> = collect(count, n.min(SEGMENT), &part);
        let join = |parts: &[W]| (self.finish)(parts.iter().fold(self.wide_zero, |a, &b| (self.join)(a, b)));
        parts.chunks_exact(segments).map(join).collect()
    }

    fn row(&self, x: &[T]) -> W {
        match x.len() {
            0..16 => x.iter().fold(self.wide_zero, |a, &v| (self.join)(a, (self.widen)((self.step)(self.zero, v)))),
            16..512 => self.lanes::<16>(x),
            // As many as let the compiler keep them in registers, and additions not wait for each other.
            _ => self.lanes::<64>(x),
        }
    }

    /// `N` neighbours are folded side by side, then joined in a tree.
    fn lanes<const N: usize>(&self, x: &[T]) -> W {
        let mut totals = [self.wide_zero; N];
        for block in x.chunks(STEPS * N) {
            let mut lanes = [self.zero; N];
            let (whole, rest) = block.as_chunks::<N>();
            for chunk in whole {
                for (a, &v) in lanes.iter_mut().zip(chunk) {
                    *a = (self.step)(*a, v);
                }
            }
            for (a, &v) in lanes.iter_mut().zip(rest) {
                *a = (self.step)(*a, v);
            }
            for (total, &a) in totals.iter_mut().zip(&lanes) {
                *total = (self.join)(*total, (self.widen)(a));
            }
        }
        let mut half = N / 2;
        while half > 0 {
            for i in 0..half {
                totals[i] = (self.join)(totals[i], totals[i + half]);
            }
            half /= 2;
        }
        totals[0]
    }

    fn columns(&self, x: &[T], axis: Axis) -> Vec<T> {
        let Axis { n, inner, .. } = axis;
        let mut out: Vec<T> = take(axis.outer * inner);
        let tile = |outer: usize, tile: usize, out: &mut [T]| {
            self.tile(&x[outer * n * inner..][..n * inner], inner, tile * TILE, out);
        };
        // Whole planes to each core, or, where they are few, tiles of a plane.
        if axis.outer >= 8 || inner <= TILE {
            for_pieces(&mut out, inner, n, &|outer, row| {
                row.chunks_mut(TILE).enumerate().for_each(|(i, out)| tile(outer, i, out));
            });
        } else {
            for (outer, row) in out.chunks_exact_mut(inner).enumerate() {
                for_pieces(row, TILE, n, &|i, out| tile(outer, i, out));
            }
        }
        out
    }

    /// Folds the columns from `first` on, as many as `out` holds, of `x [n, inner]`.
    fn tile(&self, x: &[T], inner: usize, first: usize, out: &mut [T]) {
        let mut totals = [self.wide_zero; TILE];
        for block in x.chunks(ROWS * inner) {
            let mut lanes = [self.zero; TILE];
            for row in block.chunks_exact(inner) {
                for (a, &v) in lanes.iter_mut().zip(&row[first..first + out.len()]) {
                    *a = (self.step)(*a, v);
                }
            }
            for (total, &a) in totals.iter_mut().zip(&lanes[..out.len()]) {
                *total = (self.join)(*total, (self.widen)(a));
            }
        }
        for (out, &total) in out.iter_mut().zip(&totals) {
            *out = (self.finish)(total);
        }
    }
}

/// Index of the first largest (or smallest) element along `n`, for each of `[outer, inner]`.
pub(crate) fn arg(op: &'static str, largest: bool, x: &Tensor, axis: Axis) -> Result<Tensor> {
    fn run<T: PartialOrd + Copy + Sync>(largest: bool, x: &[T], axis: Axis) -> Vec<u32> {
        let Axis { outer, n, inner } = axis;
        fill(outer * inner, |i| {
            let start = i / inner * n * inner + i % inner;
            let mut best = 0;
            for k in 1..n {
                let (v, b) = (x[start + k * inner], x[start + best * inner]);
                if if largest { v > b } else { v < b } {
                    best = k;
                }
            }
            best as u32
        })
    }
    let out = match x.cpu_data(op)? {
        CpuData::F32(_) => run::<f32>(largest, x.cpu_slice(op)?, axis),
        CpuData::F64(_) => run::<f64>(largest, x.cpu_slice(op)?, axis),
        CpuData::I32(_) => run::<i32>(largest, x.cpu_slice(op)?, axis),
        CpuData::U32(_) => run::<u32>(largest, x.cpu_slice(op)?, axis),
        _ => return Err(Error::DType { op, got: x.dtype(), expected: "f32, f64, i32 or u32" }),
    };
    Tensor::from_cpu(op, out, Dims::new(op, &[axis.outer, axis.inner])?, x.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_of_all_sizes() {
        for (outer, n, inner) in
            [(1, 1, 1), (3, 5, 1), (2, 257, 1), (2, 70_001, 1), (1, 3, 2), (2, 300, 70), (1, 2000, 9)]
        {
            let x: Vec<f32> = (0..outer * n * inner).map(|i| ((i * 7919) % 1013) as f32 / 512.0 - 1.0).collect();
            let axis = Axis { outer, n, inner };
            let at = |o: usize, i: usize| (0..n).map(move |k| (o * n + k) * inner + i);
            for (kind, tolerance) in [(Fold::Sum, 1e-3), (Fold::SumSquares, 1e-2), (Fold::Max, 0.0), (Fold::Min, 0.0)] {
                let got = fold_float(kind, &x, axis, 1.0);
                for (j, &got) in got.iter().enumerate() {
                    let column = at(j / inner, j % inner).map(|i| f64::from(x[i]));
                    let want = match kind {
                        Fold::Sum => column.sum(),
                        Fold::SumSquares => column.map(|v| v * v).sum(),
                        Fold::Max => column.fold(f64::MIN, f64::max),
                        _ => column.fold(f64::MAX, f64::min),
                    };
                    assert!((f64::from(got) - want).abs() <= tolerance, "{kind:?} {axis:?} {j}: {got} {want}");
                }
            }
        }
    }
}
