//! Rotary position embedding: pairs of elements are turned by an angle that grows with the position
//! (Su et al., "RoFormer", 2021).

use std::sync::{Arc, OnceLock};

use crate::autograd::record;
use crate::cpu::rotary as cpu;
use crate::device::Kind;
use crate::kernels::rotary as kernels;
use crate::layout::Dims;
use crate::ops::rows::{narrowed, wide};
use crate::ops::view::reshape_to;
use crate::{Device, Error, Result, Tensor};

const OP: &str = "rotary";

/// By which angles rotary positions turn which elements: pair `k` by `position * frequency_k`.
///
/// Clones share what was prepared for a device, so one serves all layers. Layers with another base, as local ones often have, take
/// another.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Radians a position, one for each pair.
    frequencies: Vec<f64>,
    /// Which of several coordinates turns each pair.
    axes: Vec<usize>,
    interleaved: bool,
    magnitude: f64,
    turns: Arc<OnceLock<(Device, Tensor)>>,
}

impl Rope {
    /// The frequencies `theta^(-2k / rotary_dim)` of the first `rotary_dim` elements; those behind pass through.
    ///
    /// # Errors
    /// If `rotary_dim` is odd or `theta` is not positive.
    pub fn new(rotary_dim: usize, theta: f64) -> Result<Self> {
        Self::axial(rotary_dim, theta, 1)
    }

    /// For positions of several coordinates, as in images: the pairs are divided into as many groups, in order, each with frequencies as
    /// [`Rope::new`] gives them to a width of `rotary_dim / axes`.
    ///
    /// # Errors
    /// If `rotary_dim` is no multiple of `2 * axes`, there are no axes, or `theta` is not positive.
    pub fn axial(rotary_dim: usize, theta: f64, axes: usize) -> Result<Self> {
        if axes == 0 || !rotary_dim.is_multiple_of(2 * axes) {
            let message = format!("rotary_dim {rotary_dim} does not divide into pairs for {axes} axes");
            return Err(Error::argument(OP, message));
        }
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(Error::argument(OP, format!("theta {theta} is not a positive number")));
        }
        let width = rotary_dim / axes;
        let frequencies = (0..width / 2).map(|k| theta.powf(-2.0 * k as f64 / width as f64));
        let frequencies: Vec<f64> = frequencies.collect();
        let of_axes = (0..axes).flat_map(|axis| std::iter::repeat_n(axis, width / 2)).collect();
        Ok(Rope { axes: of_axes, ..Self::with_frequencies(frequencies.repeat(axes))? })
    }

    /// Any frequencies in radians a position, one for each pair, such as those that stretch a trained model to longer texts.
    ///
    /// # Errors
    /// If one is not finite.
    pub fn with_frequencies(frequencies: Vec<f64>) -> Result<Self> {
        if let Some(wrong) = frequencies.iter().find(|f| !f.is_finite()) {
            return Err(Error::argument(OP, format!("a frequency of {wrong} is not finite")));
        }
        let axes = vec![0; frequencies.len()];
        Ok(Rope { frequencies, axes, interleaved: false, magnitude: 1.0, turns: Arc::default() })
    }

    /// The same angles for positions that are `factor` times as far apart: linear interpolation (Chen et al., 2023).
    #[must_use]
    pub fn stretched(self, factor: f64) -> Self {
        let frequencies = self.frequencies.iter().map(|f| f / factor).collect();
        Rope { frequencies, turns: Arc::default(), ..self }
    }

    /// Pairs of neighbours, elements `2k` and `2k + 1`, rather than `k` and `k + rotary_dim / 2`.
    #[must_use]
    pub fn interleaved(self) -> Self {
        Rope { interleaved: true, ..self }
    }

    /// What is turned is also multiplied by `magnitude`, as YaRN has it (Peng et al., 2023).
    #[must_use]
    pub fn with_magnitude(self, magnitude: f64) -> Self {
        Rope { magnitude, ..self }
    }

    /// Elements that are turned.
    pub fn rotary_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Coordinates of a position.
    fn coordinates(&self) -> usize {
        self.axes.iter().max().map_or(1, |axis| axis + 1)
    }

    /// Frequencies and axes as the kernel reads them.
    pub(crate) fn turns(&self, device: &Device) -> Result<Tensor> {
        if let Some((_, turns)) = self.turns.get().filter(|(of, _)| of.same(device)) {
            return Ok(turns.clone());
        }
        let words = self.frequencies.iter().zip(&self.axes).flat_map(|(frequency, &axis)| {
            let fraction = fraction_of_a_turn(*frequency);
            [(fraction >> 32) as u32, fraction as u32, axis as u32]
        });
        let words: Vec<u32> = words.collect();
        let turns = Tensor::from_vec(words, &[self.frequencies.len(), 3], device)?;
        let _ = self.turns.set((device.clone(), turns.clone()));
        Ok(turns)
    }
}

/// Of radians, what goes beyond whole turns, in units of 2^-64 turns.
fn fraction_of_a_turn(radians: f64) -> u64 {
    // 1 / (2 pi) as two numbers, so that small frequencies keep all their digits.
    const HIGH: f64 = 0.159_154_943_091_895_35;
    const LOW: f64 = -9.839_338_337_591_24e-18;
    let high = radians * HIGH;
    let low = radians.mul_add(HIGH, -high) + radians * LOW;
    let units = |turns: f64| {
        let part = turns - turns.floor();
        // Below 2^64 by less than f64 tells apart, a whole turn is none.
        (part * 2f64.powi(64)) as u128 as u64
    };
    units(high).wrapping_add(units(low))
}

/// How one call turns: what CPU and GPU read.
pub(crate) struct Turn<'a> {
    pub frequencies: &'a [f64],
    pub axes: &'a [usize],
    pub interleaved: bool,
    pub magnitude: f64,
    /// 1, or -1 to turn back.
    pub direction: f64,
}

/// `x` [batch, heads, time, head_dim], `positions` [batch, time], or [batch, axes, time].
pub(crate) fn rope(x: &Tensor, positions: &Tensor, rope: &Rope) -> Result<Tensor> {
    x.expect_float(OP)?;
    positions.expect_int(OP)?;
    x.expect_same_device(OP, positions)?;
    let &[batch, _, time, head_dim] = x.shape() else {
        let message = format!("input of shape {:?}, expected [batch, heads, time, head_dim]", x.shape());
        return Err(Error::shape(OP, message));
    };
    let axes = rope.coordinates();
    let expected = if axes == 1 && positions.rank() == 2 { vec![batch, time] } else { vec![batch, axes, time] };
    if positions.shape() != expected {
        let message = format!("positions of shape {:?}, expected {expected:?}", positions.shape());
        return Err(Error::shape(OP, message));
    }
    if rope.rotary_dim() > head_dim {
        let message = format!("rotary_dim {} is above head_dim {head_dim}", rope.rotary_dim());
        return Err(Error::argument(OP, message));
    }
    if rope.frequencies.is_empty() || x.elements() == 0 {
        return Ok(x.clone());
    }
    let positions = reshape_to(&positions.detach(), Dims::new(OP, &[batch, axes, time])?)?;
    let y = turn(&x.detach(), &positions, rope, 1.0)?;
    let rope = rope.clone();
    // A turn back is the transpose of a turn.
    Ok(record(OP, y, &[x], move |dy, _| Ok(vec![Some(turn(&dy.detach(), &positions, &rope, -1.0)?)])))
}

fn turn(x: &Tensor, positions: &Tensor, rope: &Rope, direction: f64) -> Result<Tensor> {
    let Rope { frequencies, axes, interleaved, magnitude, .. } = rope;
    let turn = Turn { frequencies, axes, interleaved: *interleaved, magnitude: *magnitude, direction };
    match x.device().kind() {
        Kind::Cpu(_) => narrowed(&cpu::turn(OP, &wide(x)?.contiguous()?, positions, &turn)?, x.dtype()),
        Kind::Gpu(_) => kernels::turn(OP, x, positions, &rope.turns(x.device())?, &turn),
    }
}

/// As [`rope`] with the frequencies of [`Rope::new`].
pub(crate) fn rotary(
    x: &Tensor,
    positions: &Tensor,
    theta: f64,
    rotary_dim: usize,
    interleaved: bool,
) -> Result<Tensor> {
    let head_dim = x.shape().last().copied().unwrap_or_default();
    if rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
        let message = format!("rotary_dim {rotary_dim} is not an even number up to head_dim {head_dim}");
        return Err(Error::argument(OP, message));
    }
    let angles = Rope::new(rotary_dim, theta)?;
    rope(x, positions, &if interleaved { angles.interleaved() } else { angles })
}

#[cfg(test)]
mod tests {
    use super::fraction_of_a_turn;

    #[test]
    fn fractions_are_exact_far_out() {
        // 2^64 / (2 pi) by more digits than f64 has: a position of 2^31 is off by no more than 2^-22 turns.
        assert!(fraction_of_a_turn(1.0).abs_diff(2_935_890_503_282_001_226) < 1 << 11);
        assert_eq!(fraction_of_a_turn(0.0), 0);
        let both = fraction_of_a_turn(-1.0).wrapping_add(fraction_of_a_turn(1.0)) as i64;
        assert!(both.unsigned_abs() < 1 << 11);
    }
}
