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
            let angle = position * turn.frequencies[k];
            let (s, c) = if size_of::<T>() == 4 { sin_cos(angle) } else { angle.sin_cos() };
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

/// Sine and cosine within 2e-11, which is more than f32 holds.
fn sin_cos(angle: f64) -> (f64, f64) {
    /// Added to a number, rounds it to a whole one, which then stands in the last bits.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    /// A quarter of a turn in 33 bits, whose products with whole numbers are exact, and the rest of it.
    const QUARTER: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];
    if angle.abs() > 1e6 {
        return angle.sin_cos();
    }
    let shifted = angle * std::f64::consts::FRAC_2_PI + WHOLE;
    let quarters = shifted - WHOLE;
    let x = angle - quarters * QUARTER[0] - quarters * QUARTER[1];
    let square = x * x;
    // Taylor series for |x| <= pi / 4, with terms down to 1e-12.
    let series = |terms: [f64; 6]| terms.into_iter().rev().fold(0.0, |sum, term| sum * square + term);
    let sine = x * series([1.0, -1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362_880.0, -1.0 / 39_916_800.0]);
    let cosine = 1.0
        + square
            * series([-1.0 / 2.0, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0, -1.0 / 3_628_800.0, 1.0 / 479_001_600.0]);
    let quarter = shifted.to_bits();
    let (s, c) = if quarter & 1 == 0 { (sine, cosine) } else { (cosine, -sine) };
    if quarter & 2 == 0 { (s, c) } else { (-s, -c) }
}

#[cfg(test)]
mod tests {
    use super::sin_cos;

    #[test]
    fn sines_are_those_of_the_library() {
        let angles = (-4000..4000).map(|n| f64::from(n) * 0.0137).chain([1e5, 3.3e6, 4.2e9, -1e8]);
        for angle in angles {
            let ((s, c), (want_s, want_c)) = (sin_cos(angle), angle.sin_cos());
            assert!((s - want_s).abs() < 2e-11 && (c - want_c).abs() < 2e-11, "{angle}: {s} {c}, {want_s} {want_c}");
        }
    }
}
