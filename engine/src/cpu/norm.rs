//! Layer norm and root-mean-square norm over rows.

use super::Float;
use super::parallel::{collect, fill_rows};
use super::softmax::{sum, sum2};
use crate::layout::Dims;
use crate::ops::norm::Rows;
use crate::{DType, Result, Tensor};

/// Rows whose gradients of gain and bias one task adds up; fixed, so that the order of additions is.
const ROWS: usize = 64;

fn slice<'a, T: Float>(op: &'static str, x: Option<&'a Tensor>) -> Result<Option<&'a [T]>> {
    x.map(|x| x.cpu_slice::<T>(op)).transpose()
}

/// The result, and `[rows, 2]` with mean and reciprocal deviation.
pub(crate) fn forward(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    plan: Rows,
) -> Result<(Tensor, Tensor)> {
    fn run<T: Float>(
        op: &'static str,
        x: &Tensor,
        gain: Option<&Tensor>,
        bias: Option<&Tensor>,
        plan: Rows,
    ) -> Result<(Tensor, Tensor)> {
        let Rows { rows, cols, eps, rms } = plan;
        let (all, gain, bias) = (x.cpu_slice::<T>(op)?, slice::<T>(op, gain)?, slice::<T>(op, bias)?);
        let stats: Vec<[T; 2]> = collect(rows, cols, &|row| {
            let x = &all[row * cols..][..cols];
            let mean = if rms { T::zero() } else { T::of(sum(x, |v| v) / cols as f64) };
            let variance = sum(x, |v| (v - mean) * (v - mean)) / cols as f64;
            [mean, T::of(1.0 / (variance + eps).sqrt())]
        });
        let y = fill_rows(rows, cols, |row, y: &mut [T]| {
            let [mean, rstd] = stats[row];
            y.iter_mut().zip(&all[row * cols..]).for_each(|(y, &v)| *y = (v - mean) * rstd);
            if let Some(gain) = gain {
                y.iter_mut().zip(gain).for_each(|(y, &g)| *y = *y * g);
            }
            if let Some(bias) = bias {
                y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
        });
        let stats = Tensor::from_cpu(op, stats.into_flattened(), Dims::new(op, &[rows, 2])?, x.device())?;
        Ok((Tensor::from_cpu(op, y, x.dims(), x.device())?, stats))
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, gain, bias, plan),
        _ => run::<f32>(op, x, gain, bias, plan),
    }
}

/// The gradient with respect to x; the formula stands in `norm/backward.wgsl`.
pub(crate) fn backward(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    dy: &Tensor,
    stats: &Tensor,
    plan: Rows,
) -> Result<Tensor> {
    fn run<T: Float>(
        op: &'static str,
        x: &Tensor,
        gain: Option<&Tensor>,
        dy: &Tensor,
        stats: &Tensor,
        plan: Rows,
    ) -> Result<Tensor> {
        let Rows { rows, cols, rms, .. } = plan;
        let (all, gain, dy) = (x.cpu_slice::<T>(op)?, slice::<T>(op, gain)?, dy.cpu_slice::<T>(op)?);
        let stats = stats.cpu_slice::<T>(op)?;
        let n = cols as f64;
        let out = fill_rows(rows, cols, |row, dx: &mut [T]| {
            let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
            let x = &all[row * cols..][..cols];
            dx.copy_from_slice(&dy[row * cols..][..cols]);
            if let Some(gain) = gain {
                dx.iter_mut().zip(gain).for_each(|(u, &g)| *u = *u * g);
            }
            let average = if rms { T::zero() } else { T::of(sum(dx, |u| u) / n) };
            let product = T::of(sum2(dx, x, |u, v| u * ((v - mean) * rstd)) / n);
            dx.iter_mut().zip(x).for_each(|(u, &v)| *u = rstd * (*u - average - (v - mean) * rstd * product));
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, gain, dy, stats, plan),
        _ => run::<f32>(op, x, gain, dy, stats, plan),
    }
}

/// The gradients of gain and bias, `[2, cols]`.
pub(crate) fn parameters(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Rows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Rows) -> Result<Tensor> {
        let cols = plan.cols;
        let (x_all, dy, stats) = (x.cpu_slice::<T>(op)?, dy.cpu_slice::<T>(op)?, stats.cpu_slice::<T>(op)?);
        let part = |i: usize| {
            let rows = i * ROWS..plan.rows.min((i + 1) * ROWS);
            let elements = rows.start * cols..rows.end * cols;
            let (x, dy, stats) = (&x_all[elements.clone()], &dy[elements], &stats[2 * rows.start..2 * rows.end]);
            let mut both = vec![T::zero(); 2 * cols];
            let (gain, bias) = both.split_at_mut(cols);
            for ((x, dy), stats) in x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(stats.chunks_exact(2)) {
                for ((gain, bias), (&v, &u)) in gain.iter_mut().zip(bias.iter_mut()).zip(x.iter().zip(dy)) {
                    *gain += u * ((v - stats[0]) * stats[1]);
                    *bias += u;
                }
            }
            both
        };
        let parts: Vec<Vec<T>> = collect(plan.rows.div_ceil(ROWS), ROWS * cols, &part);
        let mut totals = vec![0.0; 2 * cols];
        for part in &parts {
            totals.iter_mut().zip(part).for_each(|(total, v)| *total += v.f64());
        }
        let totals = totals.into_iter().map(T::of).collect();
        Tensor::from_cpu(op, totals, Dims::new(op, &[2, cols])?, x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, dy, stats, plan),
        _ => run::<f32>(op, x, dy, stats, plan),
    }
}
