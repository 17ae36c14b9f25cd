//! Softmax cross-entropy over rows; the formulas stand in `cross_entropy/forward.wgsl`.

use super::Float;
use super::parallel::{collect, fill_rows};
use super::softmax::{LogSum, Probabilities, sum, sum2};
use super::strided::Vectorised;
use crate::layout::Dims;
use crate::ops::cross_entropy::Problem;
use crate::storage::CpuData;
use crate::{DType, Error, Result, Tensor};

/// The targets as the bits of 32-bit integers.
fn targets(op: &'static str, problem: &Problem) -> Result<Vec<u32>> {
    let targets: Vec<u32> = match problem.targets.cpu_data(op)? {
        CpuData::I32(_) => problem.targets.cpu_slice::<i32>(op)?.iter().map(|&t| t.cast_unsigned()).collect(),
        _ => problem.targets.cpu_slice::<u32>(op)?.to_vec(),
    };
    let size = problem.classes;
    match targets.iter().find(|&&t| t as usize >= size && Some(t) != problem.ignored) {
        None => Ok(targets),
        Some(&t) if problem.targets.dtype() == DType::I32 => {
            Err(Error::Index { op, index: i64::from(t.cast_signed()), size })
        }
        Some(&t) => Err(Error::Index { op, index: i64::from(t), size }),
    }
}

fn class_weight<'a, T: Float>(op: &'static str, problem: &'a Problem) -> Result<Option<&'a [T]>> {
    problem.class_weight.as_ref().map(|w| w.cpu_slice::<T>(op)).transpose()
}

/// `[5, rows]`: losses, maxima and logarithms of the sums (which together are the logsumexps), weights of the targets, and what
/// the gradient multiplies softmax with.
pub(crate) fn forward(op: &'static str, x: &Tensor, problem: &Problem) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, problem: &Problem) -> Result<Tensor> {
        let Problem { rows, classes, ignored, smoothing, .. } = *problem;
        let (targets, weight) = (targets(op, problem)?, class_weight::<T>(op, problem)?);
        let total = weight.map_or(classes as f64, |w| sum(w, |w| w));
        let (all, share) = (x.cpu_slice::<T>(op)?, smoothing / classes as f64);
        let stats = |row: usize| -> [T; 5] {
            let x = &all[row * classes..][..classes];
            let (highest, log_sum) = LogSum(x).dispatch();
            if Some(targets[row]) == ignored {
                return [T::zero(); 5];
            }
            let target = targets[row] as usize;
            let w = weight.map_or(1.0, |w| w[target].f64());
            let log_s = log_sum.f64();
            let mut loss = (1.0 - smoothing) * w * (log_s - (x[target] - highest).f64());
            if smoothing > 0.0 {
                let below = match weight {
                    Some(w) => sum2(x, w, |v, w| w * (v - highest)),
                    None => sum(x, |v| v - highest),
                };
                loss += share * (total * log_s - below);
            }
            [T::of(loss), highest, log_sum, T::of(w), T::of((1.0 - smoothing) * w + share * total)]
        };
        let by_row: Vec<[T; 5]> = collect(rows, classes, &stats);
        let out = (0..5).flat_map(|i| by_row.iter().map(move |row| row[i])).collect();
        Tensor::from_cpu(op, out, Dims::new(op, &[5, rows])?, x.device())
    }
    if x.dtype() == DType::F64 { run::<f64>(op, x, problem) } else { run::<f32>(op, x, problem) }
}

pub(crate) fn backward(
    op: &'static str,
    x: &Tensor,
    problem: &Problem,
    stats: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, problem: &Problem, stats: &Tensor, g: &Tensor) -> Result<Tensor> {
        let Problem { rows, classes, smoothing, .. } = *problem;
        let (targets, weight) = (targets(op, problem)?, class_weight::<T>(op, problem)?);
        let (all, stats, g) = (x.cpu_slice::<T>(op)?, stats.cpu_slice::<T>(op)?, g.cpu_slice::<T>(op)?);
        let out = fill_rows(rows, classes, |row, dx: &mut [T]| {
            let [highest, log_sum, w, mass] = [1, 2, 3, 4].map(|i| stats[i * rows + row]);
            if mass == T::zero() {
                return;
            }
            let x = &all[row * classes..][..classes];
            let (scale, g) = (mass * g[row], g[row]);
            let share = T::of(smoothing / classes as f64) * g;
            let even = if weight.is_none() { share } else { T::zero() };
            Probabilities { x, highest, log_sum, scale, share: even, dx: &mut *dx }.dispatch();
            if let Some(weight) = weight.filter(|_| share != T::zero()) {
                dx.iter_mut().zip(weight).for_each(|(dx, &w)| *dx = *dx - share * w);
            }
            if let Some(dx) = dx.get_mut(targets[row] as usize) {
                *dx = *dx - T::of(1.0 - smoothing) * w * g;
            }
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, problem, stats, gradient),
        _ => run::<f32>(op, x, problem, stats, gradient),
    }
}
