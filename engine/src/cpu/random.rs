//! Random tensors in plain Rust.

use half::{bf16, f16};

use super::index::Number;
use super::parallel::{fill, for_chunks};
use super::pool::take;
use crate::ops::random::{Law, Noise};
use crate::storage::CpuData;
use crate::{DType, Device, Dims, Result, Tensor};

pub(crate) fn draw(
    op: &'static str,
    law: Law,
    noise: &Noise,
    shape: Dims,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let n = shape.elements();
    match dtype {
        DType::F32 => Tensor::from_cpu(op, fill(n, |i| value(law, noise, i) as f32), shape, device),
        DType::F64 => Tensor::from_cpu(op, fill(n, |i| value(law, noise, i)), shape, device),
        DType::F16 => Tensor::from_cpu(op, fill(n, |i| f16::from_f32(value(law, noise, i) as f32)), shape, device),
        DType::BF16 => Tensor::from_cpu(op, fill(n, |i| bf16::from_f32(value(law, noise, i) as f32)), shape, device),
        DType::I32 => Tensor::from_cpu(op, fill(n, |i| value(law, noise, i) as i32), shape, device),
        DType::U32 => Tensor::from_cpu(op, fill(n, |i| value(law, noise, i) as u32), shape, device),
        DType::Bool => Tensor::from_cpu(op, fill(n, |i| value(law, noise, i) != 0.0), shape, device),
    }
}

fn value(law: Law, noise: &Noise, i: usize) -> f64 {
    match law {
        Law::Uniform { low, high } => {
            // In f32, as the kernels do; what rounds up to the end is brought back below it.
            let (low, width) = (low as f32, high as f32 - low as f32);
            let unit = (noise.word(i) >> 8) as f32 / (1u32 << 24) as f32;
            f64::from((low + width * unit).min((high as f32).next_down()))
        }
        Law::Normal { mean, std } => {
            // Box and Muller: two numbers of one radius and angle.
            let [a, b, c, _] = noise.pair(i);
            let radius = (2.0 * exponential(a, b)).sqrt();
            let angle = f64::from(c >> 8) / f64::from(1 << 24) * std::f64::consts::TAU;
            mean + std * radius * if i.is_multiple_of(2) { angle.cos() } else { angle.sin() }
        }
        Law::Gumbel => gumbel(noise, i),
        Law::Bernoulli { threshold } => f64::from(u8::from(u64::from(noise.word(i)) < threshold)),
        Law::Integer { low, range } => {
            // The upper part of range times a 64-bit fraction.
            let words = noise.pair(i);
            let lane = 2 * (i % 2);
            let fraction = u64::from(words[lane]) << 32 | u64::from(words[lane + 1]);
            low as f64 + ((u128::from(fraction) * u128::from(range)) >> 64) as f64
        }
    }
}

/// The Gumbel noise of element `i`.
pub(crate) fn gumbel(noise: &Noise, i: usize) -> f64 {
    let words = noise.pair(i);
    let lane = 2 * (i % 2);
    -exponential(words[lane], words[lane + 1]).ln()
}

/// An exponential variable of mean 1 whose both tails are exact to 2^-42: 64 bits choose a side, a binary exponent by counting
/// leading zeros, and 23 bits of mantissa, which give `h` in (0, 1/2) and the uniform number `h` or `1 - h`.
fn exponential(first: u32, second: u32) -> f64 {
    let zeros = match (first << 1).leading_zeros() {
        32 => 31 + (second << 23).leading_zeros().min(9),
        zeros => zeros,
    };
    let h = f64::from(f32::from_bits(((125 - zeros) << 23) | second >> 9));
    if first >> 31 == 0 { -(-h).ln_1p() } else { -h.ln() }
}

pub(crate) fn dropout(op: &'static str, x: &Tensor, threshold: u64, scale: f64, noise: &Noise) -> Result<Tensor> {
    fn run<T: Number>(op: &'static str, x: &Tensor, threshold: u64, scale: f64, noise: &Noise) -> Result<Tensor> {
        let values = x.cpu_slice::<T>(op)?;
        let mut out = take::<T>(values.len());
        // Pieces begin at multiples of four, so that each block of words is made once.
        for_chunks(&mut out, |start, out| {
            let x = &values[start..start + out.len()];
            for ((block, out), x) in (start / 4..).zip(out.chunks_mut(4)).zip(x.chunks(4)) {
                for ((out, x), word) in out.iter_mut().zip(x).zip(noise.block(block)) {
                    let kept = T::from_f64(x.to_f64() * scale);
                    *out = if u64::from(word) < threshold { T::default() } else { kept };
                }
            }
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.cpu_data(op)? {
        CpuData::F64(_) => run::<f64>(op, x, threshold, scale, noise),
        CpuData::F16(_) => run::<f16>(op, x, threshold, scale, noise),
        CpuData::BF16(_) => run::<bf16>(op, x, threshold, scale, noise),
        _ => run::<f32>(op, x, threshold, scale, noise),
    }
}
