//! A learned choice among the six 2:4 patterns of each group of four weights.

use crate::autograd::{Flow, record_many};
use crate::cpu::patterns as cpu;
use crate::device::Kind;
use crate::kernels::{patterns as kernels, window};
use crate::ops::random::Noise;
use crate::{DType, Error, Result, Tensor};

/// How [`Tensor::six_pattern_weight`] chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatternOptions {
    /// Factor of the gates.
    pub scale: f64,
    /// Temperature of the softmax: near 0 it takes one pattern.
    pub temperature: f64,
    /// Whether Gumbel noise is added to the scaled gates.
    pub noise: bool,
    /// Whether the likeliest pattern is taken alone, with the gradient of the soft mask.
    pub hard: bool,
}

impl Default for PatternOptions {
    /// Softmax of the gates.
    fn default() -> Self {
        PatternOptions { scale: 1.0, temperature: 1.0, noise: false, hard: false }
    }
}

/// What the choice of a group takes beside its gates.
pub(crate) struct Choice {
    /// Factor of the gates: scale over temperature.
    pub steep: f64,
    /// Factor of the noise: one over the temperature.
    pub spread: f64,
    pub noise: Option<Noise>,
    pub hard: bool,
}

pub(crate) fn six_pattern_weight(
    gates: &Tensor,
    weight: &Tensor,
    options: &PatternOptions,
) -> Result<(Tensor, Tensor)> {
    let op = "six_pattern_weight";
    gates.expect_float(op)?;
    gates.expect_like(op, weight)?;
    let fits = match (gates.shape(), weight.shape()) {
        (&[outputs, groups, 6], &[rows, columns]) => outputs == rows && groups * 4 == columns,
        _ => false,
    };
    if !fits {
        let (gates, weight) = (gates.shape(), weight.shape());
        let message = format!(
            "gates of shape {gates:?} and a weight of {weight:?}, expected [outputs, inputs / 4, 6] and [outputs, inputs]"
        );
        return Err(Error::shape(op, message));
    }
    let PatternOptions { scale, temperature, noise, hard } = *options;
    let (steep, spread) = (scale / temperature, temperature.recip());
    if temperature.is_nan() || temperature <= 0.0 || !(steep as f32).is_finite() || !(spread as f32).is_finite() {
        let message =
            format!("scale {scale} and temperature {temperature}, expected finite numbers, the latter above 0");
        return Err(Error::argument(op, message));
    }
    let state = noise.then(|| weight.device().next_draw());
    let choice = move || Choice { steep, spread, noise: state.map(Noise::new), hard };
    let (shape, groups) = (weight.dims(), weight.elements() / 4);
    let (g, w) = (rows_of(op, gates, groups, 6)?, rows_of(op, weight, groups, 4)?);
    let [masked, mask] = forward(op, &g, &w, &choice())?;
    let outputs = vec![window::shaped(op, &masked, &shape)?, window::shaped(op, &mask, &shape)?];

    let gates_shape = gates.dims();
    let backward = move |gradients: &[Option<Tensor>], needs: &[bool]| {
        let rows = |gradient: &Option<Tensor>| gradient.as_ref().map(|d| rows_of(op, d, groups, 4)).transpose();
        let d_masked = gradients.first().map(rows).transpose()?.flatten();
        let d_mask = gradients.get(1).map(rows).transpose()?.flatten();
        let d_gates = match needs[0] && (d_masked.is_some() || d_mask.is_some()) {
            true => {
                let made = gates_gradient(op, &g, &w, [&d_masked, &d_mask], &choice())?;
                Some(window::shaped(op, &made, &gates_shape)?)
            }
            false => None,
        };
        let d_weight = match &d_masked {
            Some(d) if needs[1] => Some(window::shaped(op, &d.mul(&mask)?, &shape)?),
            _ => None,
        };
        Ok(Flow { inputs: vec![d_gates, d_weight], captured: Vec::new() })
    };
    let mut made = record_many(op, outputs, &[gates, weight], backward).into_iter();
    match (made.next(), made.next()) {
        (Some(masked), Some(mask)) => Ok((masked, mask)),
        _ => Err(Error::argument(op, "lost a result")),
    }
}

/// A tensor as rows of one group each, dense and detached.
fn rows_of(op: &'static str, x: &Tensor, groups: usize, width: usize) -> Result<Tensor> {
    let dense = x.detach().contiguous()?;
    // Kernels load four at once.
    let dense = if dense.layout().offset.is_multiple_of(4) { dense } else { dense.copy()? };
    window::shaped(op, &dense, &[groups, width])
}

fn forward(op: &'static str, gates: &Tensor, weight: &Tensor, choice: &Choice) -> Result<[Tensor; 2]> {
    if weight.elements() == 0 {
        return Ok([weight.clone(), weight.clone()]);
    }
    let dtype = weight.dtype();
    match weight.device().kind() {
        Kind::Cpu(_) if dtype.is_half() => {
            let [masked, mask] = cpu::forward(op, &gates.cast(DType::F32)?, &weight.cast(DType::F32)?, choice)?;
            Ok([masked.cast(dtype)?, mask.cast(dtype)?])
        }
        Kind::Cpu(_) => cpu::forward(op, gates, weight, choice),
        Kind::Gpu(_) => kernels::forward(op, gates, weight, choice),
    }
}

/// From the gradients of the masked weight and of the mask, of which one may be missing.
fn gates_gradient(
    op: &'static str,
    gates: &Tensor,
    weight: &Tensor,
    gradients: [&Option<Tensor>; 2],
    choice: &Choice,
) -> Result<Tensor> {
    if gates.elements() == 0 {
        return Ok(gates.clone());
    }
    let dtype = gates.dtype();
    match gates.device().kind() {
        Kind::Cpu(_) if dtype.is_half() => {
            let wide = |x: &Tensor| x.cast(DType::F32);
            let [masked, mask] = gradients.map(|d| d.as_ref().map(wide).transpose());
            let made = cpu::gradient(op, &wide(gates)?, &wide(weight)?, [&masked?, &mask?], choice)?;
            made.cast(dtype)
        }
        Kind::Cpu(_) => cpu::gradient(op, gates, weight, gradients, choice),
        Kind::Gpu(_) => kernels::gradient(op, gates, weight, gradients, choice),
    }
}

/// [`Tensor::six_pattern_weight`] from primitive operations, which is what the kernels are tested against.
///
/// # Errors
/// As [`Tensor::six_pattern_weight`].
pub fn reference(gates: &Tensor, weight: &Tensor, options: &PatternOptions) -> Result<(Tensor, Tensor)> {
    let mut logits = gates.mul_scalar(options.scale)?;
    if options.noise {
        logits = logits.add(&Tensor::gumbel(gates.shape(), gates.dtype(), gates.device())?)?;
    }
    let soft = logits.mul_scalar(options.temperature.recip())?.softmax(-1)?;
    let keeps = crate::cpu::prune::PATTERNS.map(|kept| std::array::from_fn(|c| f32::from(u8::from(kept.contains(&c)))));
    let keeps: Vec<f32> = keeps.iter().flat_map(|row: &[f32; 4]| *row).collect();
    let patterns = Tensor::from_vec(keeps, &[6, 4], gates.device())?.cast(gates.dtype())?;
    let mut mask = soft.matmul(&patterns)?;
    if options.hard {
        let one = soft.detach().argmax(-1, false)?.one_hot(6)?.cast(gates.dtype())?.matmul(&patterns)?;
        // The value of the hard mask with the gradient of the soft one.
        mask = mask.add(&one.sub(&mask.detach())?)?;
    }
    let shape: Vec<isize> = weight.shape().iter().map(|&n| n as isize).collect();
    let mask = mask.reshape(&shape)?;
    Ok((weight.mul(&mask)?, mask))
}
