//! Rotary positions: angles in f64, once for all heads.

use super::Float;
use super::parallel::fill_rows;
use crate::layout::Dims;
use crate::ops::rotary::Turn;
use crate::{DType, Result, Tensor};

/// `x` [batch, heads, time, width], contiguous, `positions` [batch, axes, time].
pub(crate) fn turn(op: &'static str, x: &Tensor, positions: &Tensor, turn: &Turn<'_>) -> Result<Tensor> {
    let positions = positions.contiguous()?;
    let positions: Vec<f64> = match positions.dtype() {
        DType::I32 => positions.cpu_slice::<i32>(op)?.iter().map(|&p| f64::from(p)).collect(),
        _ => positions.cpu_slice::<u32>(op)?.iter().map(|&p| f64::from(p)).collect(),
    };
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, &positions, turn),
        _ => run::<f32>(op, x, &positions, turn),
    }
}

fn run<T: Float>(op: &'static str, x: &Tensor, positions: &[f64], turn: &Turn<'_>) -> Result<Tensor> {
    let &[batch, heads, time, width] = x.shape() else { return Ok(x.clone()) };
    let pairs = turn.frequencies.len();
    let axes = positions.len() / (batch * time);
    // Cosine and sine of each pair of each token.
    let angles: Vec<T> = fill_rows(batch * time, 2 * pairs, |token, out: &mut [T]| {
        let (cosines, sines) = out.split_at_mut(pairs);
        for (k, (cos, sin)) in cosines.iter_mut().zip(sines).enumerate() {
            let position = positions[(token / time * axes + turn.axes[k]) * time + token % time];
            let (s, c) = (position * turn.frequencies[k]).sin_cos();
            (*cos, *sin) = (T::of(turn.magnitude * c), T::of(turn.direction * turn.magnitude * s));
        }
    });
    let from = x.cpu_slice::<T>(op)?;
    let out = fill_rows(batch * heads * time, width, |row, out: &mut [T]| {
        let from = &from[row * width..][..width];
        let token = row / (heads * time) * time + row % time;
        let (cos, sin) = angles[token * 2 * pairs..][..2 * pairs].split_at(pairs);
        if turn.interleaved {
            let (out, from) = (out.as_chunks_mut::<2>().0, from.as_chunks::<2>().0);
            for (k, (out, &[a, b])) in out.iter_mut().zip(from).take(pairs).enumerate() {
                *out = [a * cos[k] - b * sin[k], b * cos[k] + a * sin[k]];
            }
        } else {
            let (upper, lower) = from.split_at(pairs);
            let (to_upper, to_lower) = out.split_at_mut(pairs);
            for k in 0..pairs {
                let (a, b) = (upper[k], lower[k]);
                (to_upper[k], to_lower[k]) = (a * cos[k] - b * sin[k], b * cos[k] + a * sin[k]);
            }
        }
        out[2 * pairs..].copy_from_slice(&from[2 * pairs..]);
    });
    Tensor::from_cpu(op, out, Dims::new(op, &[batch, heads, time, width])?, x.device())
}
