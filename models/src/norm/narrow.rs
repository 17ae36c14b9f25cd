//! Layer norm for hardware that has no wider numbers to add in than those it stores (Xu et al., Conformer-based speech recognition on
//! extreme edge-computing devices, NAACL 2024, arXiv:2312.10359).

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{DType, Tensor};

use crate::{Error, Result};

/// The least mean absolute deviation that rows are divided by: the smallest normal number of f16, since devices may flush those below.
/// The result of rows that vary less tends to zero.
const LEAST: f64 = 1.0 / 16384.0;

/// Norm of the deviations from the mean, `(x - mean) / (mean |x - mean|^power)^(1 / power) * weight + bias` of `x [.., width]`, in which
/// the result of every step is rounded to the dtype of x, as it is on an accelerator of 16-bit numbers: the engine's own norms add in f32,
/// where no sum of f16 overflows. Of f16 numbers a power overflows (a square beyond 255) or vanishes (below 2e-4), unless rows are
/// divided by their mean absolute deviation first: norms do not depend on scale, and no deviation is then beyond `width / 2`.
pub struct NarrowNorm {
    weight: Param,
    bias: Param,
    prenormalised: bool,
    power: f64,
    eps: f64,
}

impl NarrowNorm {
    /// A norm with gains of one and biases of zero. `eps` is added to the mean power where rows are not prenormalised; where they are,
    /// that mean is never near zero.
    ///
    /// # Errors
    /// Unless the power is a finite number from 1 up and eps one from 0 up, or if memory is exhausted.
    pub fn new(prenormalised: bool, power: f64, eps: f64, width: usize, build: &Build) -> Result<Self> {
        if !power.is_finite() || power < 1.0 || !eps.is_finite() || eps < 0.0 {
            let message = format!("power {power} and eps {eps}, expected from 1 up and from 0 up");
            return Err(Error::argument("narrow_norm", message));
        }
        let (weight, bias) = (build.param(&[width], Init::Ones)?, build.param(&[width], Init::Zeros)?);
        Ok(NarrowNorm { weight, bias, prenormalised, power, eps })
    }

    /// Applies the norm.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elements();
        if x.shape().last() != Some(&width) {
            let shape = x.shape();
            return Err(Error::argument("narrow_norm", format!("x of shape {shape:?}, expected [.., {width}]")));
        }
        if x.elements() == 0 {
            return Ok(x.clone());
        }
        // Multiplied before it is added: the sum of large elements overflows where their mean does not.
        let mean = |x: &Tensor| x.mul_scalar(1.0 / width as f64)?.sum(&[-1], true);
        let mut deviations = x.sub(&mean(x)?)?;
        // What the rounding of the mean left.
        deviations = deviations.sub(&mean(&deviations)?)?;
        let largest = largest(x.dtype());
        let mut least = 0.0;
        if self.prenormalised {
            // Small enough for the power of the largest possible deviation, width / 2, with room for what was rounded.
            let extra = (width as f64 / 2.0 * (largest / 4.0).powf(-1.0 / self.power)).max(1.0);
            // The result does not depend on the unit, so no gradient flows through it.
            let unit = mean(&deviations.detach().abs()?)?.clamp(Some(LEAST), None)?;
            deviations = deviations.div(&unit)?.mul_scalar(1.0 / extra)?;
            // By Jensen's inequality the mean power is twice that; only rows that do not vary come below.
            least = 0.5 * extra.powf(-self.power);
        }
        let powers = match self.power {
            2.0 => deviations.square()?,
            power => deviations.abs()?.pow_scalar(power)?,
        };
        let powers = match self.prenormalised {
            true => mean(&powers)?.clamp(Some(least), None)?,
            false => mean(&powers)?.add_scalar(self.eps)?,
        };
        let root = if self.power == 2.0 { powers.rsqrt()? } else { powers.pow_scalar(-1.0 / self.power)? };
        Ok(deviations.mul(&root)?.mul(&self.weight.tensor())?.add(&self.bias.tensor())?)
    }
}

/// The largest number of a dtype.
fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        DType::F64 => f64::MAX,
        _ => f64::from(f32::MAX),
    }
}

impl Module for NarrowNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
    }
}
