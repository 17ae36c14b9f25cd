//! A learned choice among the six 2:4 patterns of a group, in plain Rust.

use super::Float;
use super::parallel::fill_rows;
use super::prune::PATTERNS;
use super::random::gumbel;
use crate::ops::patterns::Choice;
use crate::{DType, Result, Tensor};

/// The probabilities of the patterns of a group.
fn probabilities<T: Float>(group: usize, gates: &[T], choice: &Choice) -> [T; 6] {
    let logits: [T; 6] = std::array::from_fn(|i| {
        let noise = choice.noise.as_ref().map_or(0.0, |noise| gumbel(noise, 6 * group + i));
        T::of(choice.steep) * gates[6 * group + i] + T::of(choice.spread * noise)
    });
    let highest = logits.iter().fold(T::neg_infinity(), |a, &v| if v > a { v } else { a });
    let powers = logits.map(|v| (v - highest).exp());
    let total = powers.iter().copied().sum::<T>();
    powers.map(|v| v / total)
}

/// The mask of four columns: of all patterns by their probabilities, or of the likeliest.
fn mask_of<T: Float>(probabilities: [T; 6], hard: bool) -> [T; 4] {
    let mut mask = [T::zero(); 4];
    if hard {
        let likeliest = (1..6).fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best });
        PATTERNS[likeliest].iter().for_each(|&column| mask[column] = T::one());
    } else {
        let all = PATTERNS.iter().zip(probabilities);
        all.for_each(|(kept, y)| kept.iter().for_each(|&column| mask[column] += y));
    }
    mask
}

/// The masked weight and the mask, `[groups, 4]`.
pub(crate) fn forward(op: &'static str, gates: &Tensor, weight: &Tensor, choice: &Choice) -> Result<[Tensor; 2]> {
    fn run<T: Float>(op: &'static str, gates: &Tensor, weight: &Tensor, choice: &Choice) -> Result<[Tensor; 2]> {
        let (g, w) = (gates.cpu_slice::<T>(op)?, weight.cpu_slice::<T>(op)?);
        let mask = fill_rows(w.len() / 4, 4, |group, mask: &mut [T]| {
            mask.copy_from_slice(&mask_of(probabilities(group, g, choice), choice.hard));
        });
        let mask = Tensor::from_cpu(op, mask, weight.dims(), weight.device())?;
        Ok([weight.mul(&mask)?, mask])
    }
    match weight.dtype() {
        DType::F64 => run::<f64>(op, gates, weight, choice),
        _ => run::<f32>(op, gates, weight, choice),
    }
}

/// The gradient of the gates, `[groups, 6]`: `steep y (u - y . u)`, where `u` sums what comes to the columns of each pattern.
pub(crate) fn gradient(
    op: &'static str,
    gates: &Tensor,
    weight: &Tensor,
    gradients: [&Option<Tensor>; 2],
    choice: &Choice,
) -> Result<Tensor> {
    fn run<T: Float>(
        op: &'static str,
        gates: &Tensor,
        weight: &Tensor,
        gradients: [&Option<Tensor>; 2],
        choice: &Choice,
    ) -> Result<Tensor> {
        let (g, w) = (gates.cpu_slice::<T>(op)?, weight.cpu_slice::<T>(op)?);
        let [masked, mask] = gradients.map(|d| d.as_ref().map(|d| d.cpu_slice::<T>(op)).transpose());
        let (masked, mask) = (masked?, mask?);
        let made = fill_rows(w.len() / 4, 6, |group, out: &mut [T]| {
            let arriving: [T; 4] = std::array::from_fn(|c| {
                let at = 4 * group + c;
                masked.map_or(T::zero(), |d| d[at] * w[at]) + mask.map_or(T::zero(), |d| d[at])
            });
            let y = probabilities(group, g, choice);
            let u = PATTERNS.map(|[low, high]| arriving[low] + arriving[high]);
            let mean = y.iter().zip(&u).map(|(&y, &u)| y * u).sum::<T>();
            let all = out.iter_mut().zip(y.iter().zip(&u));
            all.for_each(|(out, (&y, &u))| *out = T::of(choice.steep) * y * (u - mean));
        });
        Tensor::from_cpu(op, made, gates.dims(), gates.device())
    }
    match gates.dtype() {
        DType::F64 => run::<f64>(op, gates, weight, gradients, choice),
        _ => run::<f32>(op, gates, weight, gradients, choice),
    }
}
