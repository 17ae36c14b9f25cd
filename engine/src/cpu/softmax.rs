//! Softmax over rows.

use super::Float;
use super::parallel::fill_rows;
use super::strided::{Vectorised, Walk};
use crate::{DType, Result, Tensor};

/// Lanes of the loops over a row, so that they become vector code with a fixed order of additions.
const LANES: usize = 16;

/// The largest element; -inf of none. A NaN is passed over.
#[inline(always)]
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
#[inline(always)]
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
#[inline(always)]
pub(crate) fn sum<T: Float>(x: &[T], f: impl Fn(T) -> T) -> f64 {
    sum2(x, x, |v, _| f(v))
}

/// `ln(sum(exp(x)))` as its two parts: the maximum, and the logarithm of the sum relative to it. Of -inf alone: (-inf, 0).
#[inline(always)]
fn log_sum<T: Float>(x: &[T]) -> (T, T) {
    let highest = max(x);
    if highest == T::neg_infinity() {
        return (highest, T::zero());
    }
    let mut total = 0.0;
    for block in x.chunks(32 * LANES) {
        let mut lanes = [T::zero(); LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for (a, &v) in lanes.iter_mut().zip(chunk) {
                *a += (v - highest).fast_exp();
            }
        }
        for (a, &v) in lanes.iter_mut().zip(rest) {
            *a += (v - highest).fast_exp();
        }
        total += lanes.iter().map(|v| v.f64()).sum::<f64>();
    }
    (highest, T::of(total.ln()))
}

pub(crate) fn forward(op: &'static str, log: bool, x: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
    fn run<T: Float>(log: bool, x: &[T], rows: usize, cols: usize) -> Vec<T> {
        fill_rows(rows, cols, |row, y: &mut [T]| {
            let x = &x[row * cols..][..cols];
            if log { LogRow(x, y).dispatch() } else { Exponentials(x, y).dispatch() }
        })
    }
    match x.dtype() {
        DType::F64 => Tensor::from_cpu(op, run::<f64>(log, x.cpu_slice(op)?, rows, cols), x.dims(), x.device()),
        _ => Tensor::from_cpu(op, run::<f32>(log, x.cpu_slice(op)?, rows, cols), x.dims(), x.device()),
    }
}

/// The logarithm of softmax.
struct LogRow<'a, T>(&'a [T], &'a mut [T]);

impl<T: Float> Vectorised for LogRow<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let LogRow(x, y) = self;
        let (highest, log_sum) = log_sum(x);
        let highest = if highest == T::neg_infinity() { T::zero() } else { highest };
        // One after the other: their sum would lose the digits of the logarithm where logits are large.
        y.iter_mut().zip(x).for_each(|(y, &v)| *y = (v - highest) - log_sum);
    }
}

/// Softmax of a row; of -inf alone it is zeros, which the second holds already.
struct Exponentials<'a, T>(&'a [T], &'a mut [T]);

impl<T: Float> Vectorised for Exponentials<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Exponentials(x, y) = self;
        let highest = max(x);
        if highest == T::neg_infinity() {
            return;
        }
        y.iter_mut().zip(x).for_each(|(y, &v)| *y = (v - highest).fast_exp());
        let scale = T::of(1.0 / sum(y, |v| v));
        y.iter_mut().for_each(|y| *y = *y * scale);
    }
}

/// Softmax of `scale * x` along the last dimension among the elements whose `mask`, a view of the shape of x, is true.
pub(crate) fn masked(op: &'static str, x: &Tensor, mask: Option<&Tensor>, scale: f64, cols: usize) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, mask: Option<&Tensor>, scale: T, cols: usize) -> Result<Tensor> {
        let all = x.cpu_slice::<T>(op)?;
        let mask = match mask {
            Some(mask) => Some((Walk::new([*mask.layout()]), mask.cpu_all::<bool>(op)?)),
            None => None,
        };
        let y = fill_rows(x.elements() / cols, cols, |row, y: &mut [T]| {
            let mut logits: Vec<T> = all[row * cols..][..cols].iter().map(|&v| v * scale).collect();
            if let Some((walk, mask)) = &mask {
                let step = walk.steps[0];
                walk.pieces(row * cols, cols, |done, [start], count| {
                    let hide =
                        |(k, v): (usize, &mut T)| *v = if mask[start + k * step] { *v } else { T::neg_infinity() };
                    logits[done..done + count].iter_mut().enumerate().for_each(hide);
                });
            }
            Exponentials(&logits, y).dispatch();
        });
        Tensor::from_cpu(op, y, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, mask, scale, cols),
        _ => run::<f32>(op, x, mask, scale as f32, cols),
    }
}

/// The gradient from the result, times `scale`.
pub(crate) fn backward(
    op: &'static str,
    log: bool,
    y: &Tensor,
    dy: &Tensor,
    scale: f64,
    rows: usize,
    cols: usize,
) -> Result<Tensor> {
    fn run<T: Float>(log: bool, y: &[T], dy: &[T], scale: T, rows: usize, cols: usize) -> Vec<T> {
        fill_rows(rows, cols, |row, dx: &mut [T]| {
            let (y, dy) = (&y[row * cols..][..cols], &dy[row * cols..][..cols]);
            RowGradient { log, y, dy, scale, dx }.dispatch();
        })
    }
    let (shape, device) = (y.dims(), y.device());
    match y.dtype() {
        DType::F64 => {
            let dx = run::<f64>(log, y.cpu_slice(op)?, dy.cpu_slice(op)?, scale, rows, cols);
            Tensor::from_cpu(op, dx, shape, device)
        }
        _ => {
            let dx = run::<f32>(log, y.cpu_slice(op)?, dy.cpu_slice(op)?, scale as f32, rows, cols);
            Tensor::from_cpu(op, dx, shape, device)
        }
    }
}

struct RowGradient<'a, T> {
    log: bool,
    y: &'a [T],
    dy: &'a [T],
    scale: T,
    dx: &'a mut [T],
}

impl<T: Float> Vectorised for RowGradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let RowGradient { log, y, dy, scale, dx } = self;
        let all = dx.iter_mut().zip(y.iter().zip(dy));
        if log {
            let total = T::of(sum(dy, |v| v));
            all.for_each(|(dx, (&y, &dy))| *dx = dy - y.fast_exp() * total);
        } else {
            let total = T::of(sum2(y, dy, |y, dy| y * dy));
            all.for_each(|(dx, (&y, &dy))| *dx = scale * (y * (dy - total)));
        }
    }
}

/// `scale * exp(x - highest - log_sum) - share`, into `dx`.
pub(crate) struct Probabilities<'a, T> {
    pub x: &'a [T],
    pub highest: T,
    pub log_sum: T,
    pub scale: T,
    pub share: T,
    pub dx: &'a mut [T],
}

impl<T: Float> Vectorised for Probabilities<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Probabilities { x, highest, log_sum, scale, share, dx } = self;
        for (dx, &v) in dx.iter_mut().zip(x) {
            *dx = scale * ((v - highest) - log_sum).fast_exp() - share;
        }
    }
}

/// [`log_sum`].
pub(crate) struct LogSum<'a, T>(pub &'a [T]);

impl<T: Float> Vectorised for LogSum<'_, T> {
    type Output = (T, T);
    #[inline(always)]
    fn run(self) -> (T, T) {
        log_sum(self.0)
    }
}
