//! Softmax over rows.

use super::Float;
use super::parallel::fill_rows;
use crate::{DType, Result, Tensor};

/// Lanes of the loops over a row, so that they become vector code with a fixed order of additions.
const LANES: usize = 16;

/// The largest element; -inf of none. A NaN is passed over.
pub(crate) fn max<T: Float>(x: &[T]) -> T {
    let pick = |a: T, v: T| if v > a { v } else { a };
    let mut lanes = [T::neg_infinity(); LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (a, &v) in lanes.iter_mut().zip(chunk) {
            *a = pick(*a, v);
        }
    }
    lanes.iter().chain(rest).fold(T::neg_infinity(), |a, &v| pick(a, v))
}

/// The sum of `f(element)` over the rows of two slices of equal length, in blocks of lanes that are added up in f64.
pub(crate) fn sum2<T: Float>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> f64 {
    let mut total = 0.0;
    for (x, y) in x.chunks(32 * LANES).zip(y.chunks(32 * LANES)) {
        let mut lanes = [T::zero(); LANES];
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (ys, y_rest) = y.as_chunks::<LANES>();
        for (xs, ys) in xs.iter().zip(ys) {
            for (a, (&x, &y)) in lanes.iter_mut().zip(xs.iter().zip(ys)) {
                *a += f(x, y);
            }
        }
        for (a, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
            *a += f(x, y);
        }
        total += lanes.iter().map(|v| v.f64()).sum::<f64>();
    }
    total
}

/// The sum of `f(element)`.
pub(crate) fn sum<T: Float>(x: &[T], f: impl Fn(T) -> T) -> f64 {
    sum2(x, x, |v, _| f(v))
}

/// `ln(sum(exp(x)))` as its two parts: the maximum, and the logarithm of the sum relative to it. Of -inf alone: (-inf, 0).
pub(crate) fn log_sum<T: Float>(x: &[T]) -> (T, T) {
    let highest = max(x);
    if highest == T::neg_infinity() {
        return (highest, T::zero());
    }
    (highest, T::of(sum(x, |v| (v - highest).fast_exp()).ln()))
}

pub(crate) fn forward(op: &'static str, log: bool, x: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
    fn run<T: Float>(log: bool, x: &[T], rows: usize, cols: usize) -> Vec<T> {
        fill_rows(rows, cols, |row, y: &mut [T]| {
            let x = &x[row * cols..][..cols];
            if log {
                let (highest, log_sum) = log_sum(x);
                let highest = if highest == T::neg_infinity() { T::zero() } else { highest };
                // One after the other: their sum would lose the digits of the logarithm where logits are large.
                y.iter_mut().zip(x).for_each(|(y, &v)| *y = (v - highest) - log_sum);
                return;
            }
            let highest = max(x);
            if highest == T::neg_infinity() {
                return; // zeros
            }
            y.iter_mut().zip(x).for_each(|(y, &v)| *y = (v - highest).fast_exp());
            let scale = T::of(1.0 / sum(y, |v| v));
            y.iter_mut().for_each(|y| *y = *y * scale);
        })
    }
    match x.dtype() {
        DType::F64 => Tensor::from_cpu(op, run::<f64>(log, x.cpu_slice(op)?, rows, cols), x.dims(), x.device()),
        _ => Tensor::from_cpu(op, run::<f32>(log, x.cpu_slice(op)?, rows, cols), x.dims(), x.device()),
    }
}

pub(crate) fn backward(
    op: &'static str,
    log: bool,
    y: &Tensor,
    dy: &Tensor,
    rows: usize,
    cols: usize,
) -> Result<Tensor> {
    fn run<T: Float>(log: bool, y: &[T], dy: &[T], rows: usize, cols: usize) -> Vec<T> {
        fill_rows(rows, cols, |row, dx: &mut [T]| {
            let (y, dy) = (&y[row * cols..][..cols], &dy[row * cols..][..cols]);
            let all = dx.iter_mut().zip(y.iter().zip(dy));
            if log {
                let total = T::of(sum(dy, |v| v));
                all.for_each(|(dx, (&y, &dy))| *dx = dy - y.fast_exp() * total);
            } else {
                let total = T::of(sum2(y, dy, |y, dy| y * dy));
                all.for_each(|(dx, (&y, &dy))| *dx = y * (dy - total));
            }
        })
    }
    let (shape, device) = (y.dims(), y.device());
    match y.dtype() {
        DType::F64 => {
            Tensor::from_cpu(op, run::<f64>(log, y.cpu_slice(op)?, dy.cpu_slice(op)?, rows, cols), shape, device)
        }
        _ => Tensor::from_cpu(op, run::<f32>(log, y.cpu_slice(op)?, dy.cpu_slice(op)?, rows, cols), shape, device),
    }
}
