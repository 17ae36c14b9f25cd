//! Layer norm and root-mean-square norm over rows. Each direction reads its inputs from memory once: a row stays in the cache
//! for the passes over it. The formulas stand in `shaders/norm/`.

use super::Float;
use super::parallel::{batch_of, for_parts};
use super::pool::take;
use super::softmax::{sum, sum2};
use super::strided::Vectorised;
use crate::layout::Dims;
use crate::ops::norm::{Gradients, Inputs, Outputs, Rows};
use crate::{DType, Result, Tensor};

/// Rows whose gradients of gain and bias one task adds up; fixed, so that the order of additions is.
const ROWS: usize = 64;

fn slice<'a, T: Float>(op: &'static str, x: Option<&'a Tensor>) -> Result<Option<&'a [T]>> {
    x.map(|x| x.cpu_slice::<T>(op)).transpose()
}

pub(crate) fn forward(op: &'static str, inputs: &Inputs, plan: Rows) -> Result<Outputs> {
    match inputs.x.dtype() {
        DType::F64 => forward_typed::<f64>(op, inputs, plan),
        _ => forward_typed::<f32>(op, inputs, plan),
    }
}

fn forward_typed<T: Float>(op: &'static str, inputs: &Inputs, plan: Rows) -> Result<Outputs> {
    let Rows { rows, cols, .. } = plan;
    let x = inputs.x.cpu_slice::<T>(op)?;
    let residual = slice::<T>(op, inputs.residual.as_ref())?;
    let (gain, bias) = (slice::<T>(op, inputs.gain.as_ref())?, slice::<T>(op, inputs.bias.as_ref())?);
    let mut y = take::<T>(rows * cols);
    let mut total = take::<T>(if residual.is_some() { rows * cols } else { 0 });
    let mut stats = vec![T::zero(); 2 * rows];
    let batch = batch_of(cols);
    let sizes = [batch * cols, batch * cols, 2 * batch];
    for_parts([&mut y, &mut total, &mut stats], sizes, 1, &|i, [y, total, stats]| {
        let at = i * batch * cols..i * batch * cols + y.len();
        let residual = residual.map(|residual| &residual[at.clone()]);
        ForwardRows { x: &x[at], residual, gain, bias, plan, y, total, stats }.dispatch();
    });
    let (shape, device) = (inputs.x.dims(), inputs.x.device());
    Ok(Outputs {
        y: Tensor::from_cpu(op, y, shape, device)?,
        stats: Tensor::from_cpu(op, stats, Dims::new(op, &[rows, 2])?, device)?,
        sum: if residual.is_some() { Some(Tensor::from_cpu(op, total, shape, device)?) } else { None },
    })
}

struct ForwardRows<'a, T> {
    x: &'a [T],
    residual: Option<&'a [T]>,
    gain: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    plan: Rows,
    y: &'a mut [T],
    total: &'a mut [T],
    stats: &'a mut [T],
}

impl<T: Float> Vectorised for ForwardRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let ForwardRows { x, residual, gain, bias, plan, y, total, stats } = self;
        if let Some(residual) = residual {
            total.iter_mut().zip(x.iter().zip(residual)).for_each(|(t, (&x, &r))| *t = x + r);
        }
        let x = if residual.is_some() { &*total } else { x };
        let rows = x.chunks_exact(plan.cols).zip(y.chunks_exact_mut(plan.cols)).zip(stats.chunks_exact_mut(2));
        for ((x, y), stats) in rows {
            stats.copy_from_slice(&normalise(x, y, gain, bias, plan));
        }
    }
}

/// One row. Returns its mean and reciprocal deviation.
#[inline(always)]
fn normalise<T: Float>(x: &[T], y: &mut [T], gain: Option<&[T]>, bias: Option<&[T]>, plan: Rows) -> [T; 2] {
    let n = plan.cols as f64;
    let mean = if plan.rms { T::zero() } else { T::of(sum(x, |v| v) / n) };
    let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
    let rstd = T::of(1.0 / (variance + plan.eps).sqrt());
    let all = y.iter_mut().zip(x);
    match (gain, bias) {
        (None, None) => all.for_each(|(y, &v)| *y = (v - mean) * rstd),
        (Some(gain), None) => all.zip(gain).for_each(|((y, &v), &g)| *y = (v - mean) * rstd * g),
        (None, Some(bias)) => all.zip(bias).for_each(|((y, &v), &b)| *y = (v - mean) * rstd + b),
        (Some(gain), Some(bias)) => {
            all.zip(gain.iter().zip(bias)).for_each(|((y, &v), (&g, &b))| *y = (v - mean) * rstd * g + b);
        }
    }
    [mean, rstd]
}

pub(crate) fn backward(op: &'static str, problem: &Gradients, plan: Rows) -> Result<(Option<Tensor>, Option<Tensor>)> {
    match problem.x.dtype() {
        DType::F64 => backward_typed::<f64>(op, problem, plan),
        _ => backward_typed::<f32>(op, problem, plan),
    }
}

fn backward_typed<T: Float>(
    op: &'static str,
    problem: &Gradients,
    plan: Rows,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let Rows { rows, cols, .. } = plan;
    let (x, dy) = (problem.x.cpu_slice::<T>(op)?, problem.dy.cpu_slice::<T>(op)?);
    let (gain, extra) = (slice::<T>(op, problem.gain.as_ref())?, slice::<T>(op, problem.extra.as_ref())?);
    let stats = problem.stats.cpu_slice::<T>(op)?;
    let parts = rows.div_ceil(ROWS);
    let mut dx = take::<T>(if problem.wants_x { rows * cols } else { 0 });
    let mut sums = vec![T::zero(); if problem.wants_parameters { parts * 2 * cols } else { 0 }];
    let cost = if problem.wants_x { 1 } else { ROWS };
    for_parts([&mut dx, &mut sums], [ROWS * cols, 2 * cols], cost, &|i, [dx, sums]| {
        let (from, to) = (i * ROWS, rows.min((i + 1) * ROWS));
        let at = from * cols..to * cols;
        let extra = extra.map(|extra| &extra[at.clone()]);
        let stats = &stats[2 * from..2 * to];
        BackwardRows { x: &x[at.clone()], dy: &dy[at], gain, extra, stats, plan, dx, sums }.dispatch();
    });
    let device = problem.x.device();
    let both = if problem.wants_parameters {
        let mut totals = vec![0.0; 2 * cols];
        for part in sums.chunks_exact(2 * cols) {
            totals.iter_mut().zip(part).for_each(|(total, v)| *total += v.f64());
        }
        let totals: Vec<T> = totals.into_iter().map(T::of).collect();
        Some(Tensor::from_cpu(op, totals, Dims::new(op, &[2, cols])?, device)?)
    } else {
        None
    };
    let dx = if problem.wants_x { Some(Tensor::from_cpu(op, dx, problem.x.dims(), device)?) } else { None };
    Ok((dx, both))
}

struct BackwardRows<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gain: Option<&'a [T]>,
    extra: Option<&'a [T]>,
    stats: &'a [T],
    plan: Rows,
    dx: &'a mut [T],
    /// Of the gradients of gain and bias.
    sums: &'a mut [T],
}

impl<T: Float> Vectorised for BackwardRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let BackwardRows { x, dy, gain, extra, stats, plan, dx, sums } = self;
        let (dgain, dbias) = sums.split_at_mut(sums.len() / 2);
        for (row, stats) in stats.chunks_exact(2).enumerate() {
            let at = row * plan.cols..(row + 1) * plan.cols;
            let (x, dy, stats) = (&x[at.clone()], &dy[at.clone()], [stats[0], stats[1]]);
            if let Some(dx) = dx.get_mut(at.clone()) {
                row_gradient(x, dy, gain, stats, plan, dx);
                if let Some(extra) = extra {
                    dx.iter_mut().zip(&extra[at]).for_each(|(dx, &e)| *dx += e);
                }
            }
            let both = dgain.iter_mut().zip(dbias.iter_mut());
            both.zip(x.iter().zip(dy)).for_each(|((dgain, dbias), (&v, &u))| {
                *dgain += u * ((v - stats[0]) * stats[1]);
                *dbias += u;
            });
        }
    }
}

/// The gradient of one row of x.
#[inline(always)]
fn row_gradient<T: Float>(x: &[T], dy: &[T], gain: Option<&[T]>, [mean, rstd]: [T; 2], plan: Rows, dx: &mut [T]) {
    match gain {
        Some(gain) => dx.iter_mut().zip(dy.iter().zip(gain)).for_each(|(u, (&dy, &g))| *u = dy * g),
        None => dx.copy_from_slice(dy),
    }
    let n = plan.cols as f64;
    let average = if plan.rms { T::zero() } else { T::of(sum(dx, |u| u) / n) };
    let product = T::of(sum2(dx, x, |u, v| u * ((v - mean) * rstd)) / n);
    dx.iter_mut().zip(x).for_each(|(u, &v)| *u = rstd * (*u - average - (v - mean) * rstd * product));
}
