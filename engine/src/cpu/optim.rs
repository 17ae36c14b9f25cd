//! Updates of parameters: the same arithmetic as `shaders/optim/`, on slices.

use rayon::prelude::*;

use super::Float;
use super::parallel::{PARALLEL, collect};
use crate::optim::{Scalars, Update};
use crate::{DType, Result, Tensor};

/// Elements that one task updates.
const CHUNK: usize = 1 << 13;

/// The gradient of one parameter and where the parameter lies in the flat buffers.
pub(crate) struct Segment<'a, T> {
    pub offset: usize,
    pub gradient: &'a [T],
    pub scalars: Scalars,
}

struct Task<'a, T> {
    value: &'a mut [T],
    states: [&'a mut [T]; 2],
    gradient: &'a [T],
    scalars: Scalars,
}

/// Updates the segments, which are in ascending order, of the flat `value` and its one or two `states`.
pub(crate) fn update<T: Float>(
    update: Update,
    value: &mut [T],
    states: Vec<&mut [T]>,
    segments: &[Segment<'_, T>],
    factor: f64,
) {
    let factor = T::of(factor);
    let mut states = states.into_iter();
    let mut rest = [value, states.next().unwrap_or_default(), states.next().unwrap_or_default()];
    let mut at = 0;
    let mut tasks = Vec::new();
    for segment in segments {
        let n = segment.gradient.len();
        let [mut value, mut first, mut second] =
            rest.map(|plane| plane.split_at_mut((segment.offset - at).min(plane.len())).1);
        at = segment.offset + n;
        for gradient in segment.gradient.chunks(CHUNK) {
            let cut = |plane| cut(plane, gradient.len());
            let (value, states) = (cut(&mut value), [cut(&mut first), cut(&mut second)]);
            tasks.push(Task { value, states, gradient, scalars: segment.scalars });
        }
        rest = [value, first, second];
    }
    let apply = |task: Task<'_, T>, factor: T| match update {
        Update::Adam => adam(task, factor),
        Update::Sgd => sgd(task, factor),
        Update::Lion => lion(task, factor),
    };
    let run = |task: Task<'_, T>| match update.sr_ste(&task.scalars) {
        0.0 => apply(task, factor),
        decay => {
            let gradient = with_sr_ste(&task, factor, T::of(decay));
            apply(Task { gradient: &gradient, ..task }, T::one());
        }
    };
    if at < PARALLEL { tasks.into_iter().for_each(run) } else { tasks.into_par_iter().for_each(run) }
}

/// Takes the first `n` elements off a slice, or all if there are less.
fn cut<'a, T>(plane: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    plane.split_off_mut(..n.min(plane.len())).unwrap_or_default()
}

/// The gradient with the decay of weights that are not among the two largest of their four; of equal ones the first count as larger.
fn with_sr_ste<T: Float>(task: &Task<'_, T>, factor: T, decay: T) -> Vec<T> {
    let four = |(values, gradient): (&[T], &[T])| {
        let unseen: [bool; 4] = std::array::from_fn(|i| {
            let before = |&j: &usize| values[j].abs() > values[i].abs() || j < i && values[j].abs() == values[i].abs();
            (0..4).filter(before).count() >= 2
        });
        std::array::from_fn::<T, 4, _>(|i| gradient[i] * factor + if unseen[i] { decay * values[i] } else { T::zero() })
    };
    task.value.chunks_exact(4).zip(task.gradient.chunks_exact(4)).flat_map(four).collect()
}

fn adam<T: Float>(task: Task<'_, T>, factor: T) {
    let [beta1, rest1, beta2, rest2, eps, shrink, l2, rate, root, ..] = task.scalars.map(T::of);
    let [mean, square] = task.states;
    for (((p, m), v), &g) in task.value.iter_mut().zip(mean).zip(square).zip(task.gradient) {
        let g = g * factor + l2 * *p;
        *m = beta1 * *m + rest1 * g;
        *v = beta2 * *v + rest2 * g * g;
        *p = *p * shrink - rate * *m / (v.sqrt() * root + eps);
    }
}

fn sgd<T: Float>(task: Task<'_, T>, factor: T) {
    let [rate, momentum, nesterov, l2, ..] = task.scalars.map(T::of);
    let [buffer, _] = task.states;
    let ahead = nesterov != T::zero();
    for ((p, b), &g) in task.value.iter_mut().zip(buffer).zip(task.gradient) {
        let g = g * factor + l2 * *p;
        *b = momentum * *b + g;
        let pull = if ahead { g + momentum * *b } else { *b };
        *p = *p - rate * pull;
    }
}

fn lion<T: Float>(task: Task<'_, T>, factor: T) {
    let [rate, beta1, rest1, beta2, rest2, shrink, ..] = task.scalars.map(T::of);
    let [momentum, _] = task.states;
    for ((p, m), &g) in task.value.iter_mut().zip(momentum).zip(task.gradient) {
        let g = g * factor;
        let c = beta1 * *m + rest1 * g;
        // `signum` of zero is one: nothing moves where nothing pulls.
        let sign = if c == T::zero() { c } else { c.signum() };
        *p = *p * shrink - rate * sign;
        *m = beta2 * *m + rest2 * g;
    }
}

/// Statistics of gradients, as `shaders/optim/norm_finish.wgsl`: factor, norm, 1 if not finite, 0.
pub(crate) fn norm(gradients: &[&Tensor], max_norm: f64, scale: f64) -> Result<[f64; 4]> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += match gradient.dtype() {
            DType::F64 => square_sum(gradient.cpu_slice::<f64>("Optimizer")?),
            _ => square_sum(gradient.cpu_slice::<f32>("Optimizer")?),
        };
    }
    let norm = sum.sqrt() / scale;
    let wrong = if norm.is_finite() { 0.0 } else { 1.0 };
    Ok([(max_norm / (norm + 1e-6)).min(1.0) / scale, norm, wrong, 0.0])
}

/// In f64, in an order that does not depend on the number of threads.
fn square_sum<T: Float>(values: &[T]) -> f64 {
    let chunk = |chunk: &[T]| {
        let mut lanes = [0.0f64; 8];
        for eight in chunk.chunks(8) {
            for (lane, x) in lanes.iter_mut().zip(eight) {
                *lane += x.f64() * x.f64();
            }
        }
        lanes.iter().sum::<f64>()
    };
    let sums =
        collect(values.len().div_ceil(CHUNK), CHUNK, &|i| chunk(&values[i * CHUNK..values.len().min((i + 1) * CHUNK)]));
    sums.into_iter().sum()
}
