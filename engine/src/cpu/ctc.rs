//! Connectionist temporal classification in plain Rust. The recurrences stand in `shaders/ctc/`.

use super::Float;
use super::parallel::fill_rows;
use crate::ops::ctc::{LOWEST, States};
use crate::{DType, Result, Tensor};

/// `ln(sum of exp(v))`, LOWEST if there is nothing.
fn log_sum(values: [f64; 3]) -> f64 {
    let most = values.iter().fold(LOWEST, |m, &v| m.max(v));
    if most <= 0.1 * LOWEST {
        return LOWEST;
    }
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

pub(crate) fn forward(op: &'static str, states: &States) -> Result<Tensor> {
    match states.emissions.dtype() {
        DType::F64 => forward_typed::<f64>(op, states),
        _ => forward_typed::<f32>(op, states),
    }
}

fn forward_typed<T: Float>(op: &'static str, states: &States) -> Result<Tensor> {
    let [samples, time, count] = states.sizes()?;
    let (e, labels) = (states.emissions.cpu_slice::<T>(op)?, states.labels.cpu_slice::<u32>(op)?);
    let out = fill_rows(samples, time * count, |n, alpha: &mut [T]| {
        alpha.fill(T::of(LOWEST));
        let (e, labels) = (&e[n * time * count..][..time * count], &labels[n * count..][..count]);
        let [times, own] = states.lengths[n];
        for t in 0..times {
            for s in 0..2 * own + 1 {
                let before = |back: usize| match s.checked_sub(back) {
                    Some(s) => alpha[(t - 1) * count + s].f64(),
                    None => LOWEST,
                };
                let sum = match t {
                    0 if s < 2 => 0.0,
                    0 => LOWEST,
                    _ if s > 1 && labels[s] != labels[s - 2] => log_sum([before(0), before(1), before(2)]),
                    _ => log_sum([before(0), before(1), LOWEST]),
                };
                alpha[t * count + s] = T::of((sum + e[t * count + s].f64()).max(LOWEST));
            }
        }
    });
    Tensor::from_cpu(op, out, states.emissions.dims(), states.emissions.device())
}

pub(crate) fn backward(
    op: &'static str,
    states: &States,
    alpha: &Tensor,
    total: &Tensor,
    dloss: &Tensor,
) -> Result<Tensor> {
    match states.emissions.dtype() {
        DType::F64 => backward_typed::<f64>(op, states, alpha, total, dloss),
        _ => backward_typed::<f32>(op, states, alpha, total, dloss),
    }
}

fn backward_typed<T: Float>(
    op: &'static str,
    states: &States,
    alpha: &Tensor,
    total: &Tensor,
    dloss: &Tensor,
) -> Result<Tensor> {
    let [samples, time, count] = states.sizes()?;
    let (e, labels) = (states.emissions.cpu_slice::<T>(op)?, states.labels.cpu_slice::<u32>(op)?);
    let (alpha, total, dloss) = (alpha.cpu_slice::<T>(op)?, total.cpu_slice::<T>(op)?, dloss.cpu_slice::<T>(op)?);
    let out = fill_rows(samples, time * count, |n, de: &mut [T]| {
        let (e, labels) = (&e[n * time * count..][..time * count], &labels[n * count..][..count]);
        let alpha = &alpha[n * time * count..][..time * count];
        let [times, own] = states.lengths[n];
        let own = 2 * own + 1;
        if total[n].f64() <= 0.1 * LOWEST {
            return;
        }
        // What follows a state, its own emission included, at the time after.
        let mut next = vec![LOWEST; own];
        for t in (0..times).rev() {
            let at = |s: usize| next.get(s).copied().unwrap_or(LOWEST);
            let follow = |s: usize| match t + 1 == times {
                true if s + 2 >= own => 0.0,
                true => LOWEST,
                false if s + 2 < own && labels[s] != labels[s + 2] => log_sum([at(s), at(s + 1), at(s + 2)]),
                false => log_sum([at(s), at(s + 1), LOWEST]),
            };
            let beta: Vec<f64> = (0..own).map(follow).collect();
            for (s, &beta) in beta.iter().enumerate() {
                let share = (alpha[t * count + s].f64() + beta - total[n].f64()).exp();
                de[t * count + s] = T::of(-dloss[n].f64() * share);
                next[s] = (e[t * count + s].f64() + beta).max(LOWEST);
            }
        }
    });
    Tensor::from_cpu(op, out, states.emissions.dims(), states.emissions.device())
}
