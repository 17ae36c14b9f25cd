//! Running sums and products over rows.

use num_traits::{PrimInt, WrappingAdd, WrappingMul};

use super::Float;
use super::parallel::{fill_rows, for_pieces};
use crate::ops::scan::{Decay, Scan};
use crate::{DType, Element, Error, Result, Tensor};

pub(crate) fn scan(op: &'static str, x: &Tensor, rows: usize, cols: usize, scan: Scan) -> Result<Tensor> {
    fn float<T: Float>(op: &'static str, x: &Tensor, rows: usize, cols: usize, scan: Scan) -> Result<Tensor> {
        // Carried in f64: a running sum of many f32 would drift.
        let step = |a: f64, v: T| if scan.product { a * v.f64() } else { a + v.f64() };
        let start = if scan.product { 1.0 } else { 0.0 };
        let out = run(x.cpu_slice::<T>(op)?, rows, cols, scan, start, step, T::of);
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    fn int<T>(op: &'static str, x: &Tensor, rows: usize, cols: usize, scan: Scan) -> Result<Tensor>
    where
        T: Element + PrimInt + WrappingAdd + WrappingMul,
    {
        let step = |a: T, v: T| if scan.product { a.wrapping_mul(&v) } else { a.wrapping_add(&v) };
        let start = if scan.product { T::one() } else { T::zero() };
        let out = run(x.cpu_slice::<T>(op)?, rows, cols, scan, start, step, |a| a);
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F32 => float::<f32>(op, x, rows, cols, scan),
        DType::F64 => float::<f64>(op, x, rows, cols, scan),
        DType::I32 => int::<i32>(op, x, rows, cols, scan),
        DType::U32 => int::<u32>(op, x, rows, cols, scan),
        got => Err(Error::DType { op, got, expected: "f32, f64, i32 or u32" }),
    }
}

fn run<T: Element, A: Copy + Sync + Send>(
    x: &[T],
    rows: usize,
    cols: usize,
    scan: Scan,
    start: A,
    step: impl Fn(A, T) -> A + Sync + Send,
    finish: impl Fn(A) -> T + Sync + Send,
) -> Vec<T> {
    fill_rows(rows, cols, |row, y: &mut [T]| {
        let x = &x[row * cols..][..cols];
        let mut running = start;
        let mut next = |y: &mut T, v: T| {
            let before = running;
            running = step(running, v);
            *y = finish(if scan.exclusive { before } else { running });
        };
        if scan.reverse {
            y.iter_mut().zip(x).rev().for_each(|(y, &v)| next(y, v));
        } else {
            y.iter_mut().zip(x).for_each(|(y, &v)| next(y, v));
        }
    })
}

/// The gradient of running products; the recurrence stands in `scan/product_backward.wgsl`.
pub(crate) fn product_backward(op: &'static str, x: &Tensor, dy: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, dy: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
        let (all, dy) = (x.cpu_slice::<T>(op)?, dy.cpu_slice::<T>(op)?);
        let out = fill_rows(rows, cols, |row, dx: &mut [T]| {
            let (x, dy) = (&all[row * cols..][..cols], &dy[row * cols..][..cols]);
            let mut before = 1.0;
            for (dx, &v) in dx.iter_mut().zip(x) {
                *dx = T::of(before);
                before *= v.f64();
            }
            let mut later = 0.0;
            for (dx, (&v, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)).rev() {
                let total = dy.f64() + later;
                *dx = T::of(dx.f64() * total);
                later = v.f64() * total;
            }
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    if x.dtype() == DType::F64 { run::<f64>(op, x, dy, rows, cols) } else { run::<f32>(op, x, dy, rows, cols) }
}

/// A running sum that forgets; the recurrence stands in `scan/decay.wgsl`.
pub(crate) fn decay(op: &'static str, x: &Tensor, factor: &Tensor, plan: Decay) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, factor: &Tensor, plan: Decay) -> Result<Tensor> {
        let Decay { n, inner, heads, reverse, .. } = plan;
        let (all, factor) = (x.cpu_slice::<T>(op)?, factor.cpu_slice::<T>(op)?);
        let mut out = vec![T::default(); all.len()];
        for_pieces(&mut out, n * inner, 1, &|outer, y| {
            y.copy_from_slice(&all[outer * n * inner..][..n * inner]);
            let f = factor[outer % heads];
            let mut add = |from: usize, to: usize| {
                for i in 0..inner {
                    y[to * inner + i] += f * y[from * inner + i];
                }
            };
            match reverse {
                false => (1..n).for_each(|c| add(c - 1, c)),
                true => (1..n).rev().for_each(|c| add(c, c - 1)),
            }
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    if x.dtype() == DType::F64 { run::<f64>(op, x, factor, plan) } else { run::<f32>(op, x, factor, plan) }
}
