//! Initial values of parameters. They are drawn on the host, so the same seed gives the same model on every device.

use std::f64::consts::TAU;

use crate::cpu::parallel::fill;
use crate::layout::Layout;
use crate::rng::Philox;
use crate::{DType, Device, Element, Error, Result, Tensor};

/// How to fill a new parameter. "Fan in" and "fan out" are the inputs and outputs of a weight `[out, in, kernel..]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// One value everywhere.
    Constant(f64),
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal, drawn again where it is more than two standard deviations from the mean.
    TruncatedNormal {
        /// Mean before the cut.
        mean: f64,
        /// Standard deviation before the cut.
        std: f64,
    },
    /// Uniform in `[low, high)`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Row `p` of a table of positions `[.., width]` holds `amplitude * sin(p / base^(2i / width))` in its even columns `2i` and the
    /// cosine in the next ones (Vaswani et al., 2017, section 3.5, where the base is 10,000): a shift by any number of
    /// positions is one rotation of a row, the same for all, which attention learns sooner than a table of noise.
    Sinusoid {
        /// Largest value.
        amplitude: f64,
        /// The longest wave is `2 pi base` positions long.
        base: f64,
    },
    /// Uniform within `gain * sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio, 2010).
    XavierUniform {
        /// Factor for the activation that follows; 1 for none.
        gain: f64,
    },
    /// Normal of standard deviation `gain * sqrt(2 / (fan_in + fan_out))` (Glorot and Bengio, 2010).
    XavierNormal {
        /// Factor for the activation that follows; 1 for none.
        gain: f64,
    },
    /// Uniform within `gain * sqrt(3 / fan_in)` (He et al., 2015); a gain of sqrt(1/3) gives `1 / sqrt(fan_in)`.
    KaimingUniform {
        /// Factor for the activation that follows; sqrt(2) for ReLU.
        gain: f64,
    },
    /// Normal of standard deviation `gain / sqrt(fan_in)` (He et al., 2015).
    KaimingNormal {
        /// Factor for the activation that follows; sqrt(2) for ReLU.
        gain: f64,
    },
}

impl Init {
    /// A new tensor of these values. Random ones take one draw of the device's generator.
    ///
    /// # Errors
    /// If the dtype is not a float, a Xavier or Kaiming shape has less than two dimensions, or the device cannot hold it.
    pub fn tensor(self, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let op = "Init";
        if !dtype.is_float() {
            return Err(Error::DType { op, got: dtype, expected: "a float dtype" });
        }
        let n = Layout::contiguous(op, shape)?.elements();
        let values = match self {
            Init::Zeros => return Tensor::zeros(shape, dtype, device),
            Init::Ones => return Tensor::ones(shape, dtype, device),
            Init::Constant(value) => return Tensor::full(value, shape, dtype, device),
            Init::Normal { mean, std } => draw(device, n, |rng, i| mean + std * normals(rng.at(i / 4))[lane(i)]),
            Init::TruncatedNormal { mean, std } => {
                draw(device, n, |rng, i| mean + std * truncated(rng, i, n.div_ceil(4) as u64))
            }
            Init::Sinusoid { amplitude, base } => {
                let width = shape.last().copied().unwrap_or(1).max(1);
                fill(n, |i| amplitude * wave(i / width, i % width, width, base))
            }
            Init::Uniform { low, high } => draw(device, n, |rng, i| low + (high - low) * unit(rng.at(i / 4)[lane(i)])),
            Init::XavierUniform { .. }
            | Init::XavierNormal { .. }
            | Init::KaimingUniform { .. }
            | Init::KaimingNormal { .. } => {
                return self.scaled(fans(op, shape)?).tensor(shape, dtype, device);
            }
        };
        match dtype {
            DType::F32 => Tensor::from_vec(narrow(values, |v| v as f32), shape, device),
            DType::F16 => Tensor::from_vec(narrow(values, half::f16::from_f64), shape, device),
            DType::BF16 => Tensor::from_vec(narrow(values, half::bf16::from_f64), shape, device),
            _ => Tensor::from_vec(values, shape, device),
        }
    }

    /// The plain distribution that a fan-scaled one stands for.
    fn scaled(self, (fan_in, fan_out): (f64, f64)) -> Init {
        let uniform = |bound: f64| Init::Uniform { low: -bound, high: bound };
        let normal = |std: f64| Init::Normal { mean: 0.0, std };
        match self {
            Init::XavierUniform { gain } => uniform(gain * (6.0 / (fan_in + fan_out)).sqrt()),
            Init::XavierNormal { gain } => normal(gain * (2.0 / (fan_in + fan_out)).sqrt()),
            Init::KaimingUniform { gain } => uniform(gain * (3.0 / fan_in).sqrt()),
            Init::KaimingNormal { gain } => normal(gain / fan_in.sqrt()),
            other => other,
        }
    }
}

fn fans(op: &'static str, shape: &[usize]) -> Result<(f64, f64)> {
    let [outputs, inputs, kernel @ ..] = shape else {
        return Err(Error::shape(op, format!("fan-scaled values need a weight [out, in, ..], got shape {shape:?}")));
    };
    let kernel = kernel.iter().product::<usize>().max(1);
    Ok(((inputs * kernel).max(1) as f64, (outputs * kernel).max(1) as f64))
}

/// The sinusoid of one position and column.
fn wave(position: usize, column: usize, width: usize, base: f64) -> f64 {
    let angle = position as f64 / base.powf((column - column % 2) as f64 / width as f64);
    if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }
}

fn draw(device: &Device, n: usize, f: impl Fn(&Philox, u64) -> f64 + Sync + Send) -> Vec<f64> {
    let state = device.next_draw();
    let rng = Philox::new(state.seed, state.draws);
    fill(n, |i| f(&rng, i as u64))
}

fn narrow<T: Element>(values: Vec<f64>, f: impl Fn(f64) -> T + Sync + Send) -> Vec<T> {
    fill(values.len(), |i| f(values[i]))
}

fn lane(i: u64) -> usize {
    (i % 4) as usize
}

/// Uniform in [0, 1).
fn unit(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

/// Four normal numbers of four random words, by Box and Muller.
fn normals(words: [u32; 4]) -> [f64; 4] {
    let pair = |a: u32, b: u32| {
        let radius = (-2.0 * (1.0 - unit(a)).ln()).sqrt();
        let (sin, cos) = (TAU * unit(b)).sin_cos();
        [radius * cos, radius * sin]
    };
    let [[a, b], [c, d]] = [pair(words[0], words[1]), pair(words[2], words[3])];
    [a, b, c, d]
}

/// A normal number within two standard deviations: the element's own, or the same lane of later blocks.
fn truncated(rng: &Philox, i: u64, blocks: u64) -> f64 {
    // 5 % are rejected each time: 32 rejections do not happen.
    (0..32).map(|attempt| normals(rng.at(i / 4 + attempt * blocks))[lane(i)]).find(|z| z.abs() <= 2.0).unwrap_or(0.0)
}
