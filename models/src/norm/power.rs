//! PowerNorm (Shen et al., PowerNorm: Rethinking batch normalization in transformers, ICML 2020, arXiv:2003.07845): batch norm without the
//! mean, by running statistics in the forward and in the backward pass.

use std::sync::Arc;

use wgrad::autograd::{Function, Saved, apply};
use wgrad::nn::{Build, Init, Mode, Module, Param, Visitor};
use wgrad::{NormKind, NormOptions, Tensor};

use super::state::{Latest, Rows, at_most, blend, mean, state, wide};
use crate::{Error, Result};

/// Which of the published forms, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerNormConfig {
    /// Added to the mean squares.
    pub eps: f64,
    /// How much of the running mean square a step keeps.
    pub forward_keep: f64,
    /// How much of the running gradient statistic a step keeps.
    pub backward_keep: f64,
    /// Steps in which the batch's own mean square is divided by.
    pub warmup: usize,
    /// Groups of channels, each divided by its own root mean square first (layer scaling); none if absent.
    pub groups: Option<usize>,
    /// Whether the backward pass divides by the batch's mean square, as the authors' program does, rather than by that of the
    /// forward pass, as their paper says.
    pub batch_backward: bool,
}

impl Default for PowerNormConfig {
    fn default() -> Self {
        PowerNormConfig {
            eps: 1e-5,
            forward_keep: 0.9,
            backward_keep: 0.9,
            warmup: 10_000,
            groups: Some(1),
            batch_backward: false,
        }
    }
}

/// `y = x / sqrt(phi + eps) * weight + bias` of `x [.., channels]`, with the running mean square `phi` of each channel. In training the
/// gradient of what is divided is approximated, by a running statistic too: one backward pass for each forward pass, since both
/// move the state.
pub struct PowerNorm {
    weight: Param,
    bias: Param,
    power: Arc<Power>,
    mode: Mode,
}

/// The part without gain and bias: a function of x, and of which rows count.
struct Power {
    config: PowerNormConfig,
    phi: Param,
    nu: Param,
    steps: Param,
    latest: Latest,
}

impl PowerNorm {
    /// A norm with gains of one, biases of zero and running mean squares of one.
    ///
    /// # Errors
    /// If the groups do not divide the channels, or memory is exhausted.
    pub fn new(config: PowerNormConfig, channels: usize, build: &Build) -> Result<Self> {
        if let Some(groups) = config.groups
            && (groups == 0 || !channels.is_multiple_of(groups))
        {
            return Err(Error::argument("power_norm", format!("{groups} groups do not divide {channels} channels")));
        }
        let (phi, nu, steps) =
            (state(&[channels], 1.0, build)?, state(&[channels], 0.0, build)?, state(&[1], 0.0, build)?);
        Ok(PowerNorm {
            weight: build.param(&[channels], Init::Ones)?,
            bias: build.param(&[channels], Init::Zeros)?,
            power: Arc::new(Power { config, phi, nu, steps, latest: Latest::default() }),
            mode: Mode::default(),
        })
    }

    /// Applies the norm. `valid [..]` says which positions count in the statistics: ones and zeros, or bools.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let Power { config, phi, .. } = &*self.power;
        let mut rows = Rows::new("power_norm", x, valid, self.weight.elements())?;
        if let Some(groups) = config.groups {
            let parts = rows.x.reshape(&[-1, (self.weight.elements() / groups) as isize])?;
            let scaled = parts.row_norm(&NormOptions::new(NormKind::Rms, 1e-5))?;
            rows.x = scaled.reshape(&[-1, self.weight.elements() as isize])?;
        }
        let y = match self.mode.is_training() {
            true => apply(&self.power, &rows.inputs())?.swap_remove(0),
            false => wide(&rows.x)?.mul(&wide(&phi.tensor())?.add_scalar(config.eps)?.rsqrt()?)?.cast(x.dtype())?,
        };
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        Ok(y.mul(&self.weight.tensor())?.add(&self.bias.tensor())?.reshape(&shape)?)
    }
}

impl Power {
    /// What the rows are divided by, and the mean square of those that count. Moves the state.
    fn advance(&self, x: &Tensor, valid: Option<&Tensor>) -> wgrad::Result<Vec<Tensor>> {
        let PowerNormConfig { forward_keep, warmup, .. } = self.config;
        let (phi, steps) = (wide(&self.phi.tensor())?, wide(&self.steps.tensor())?);
        let square = mean(&x.square()?, valid)?;
        let steps = steps.add_scalar(1.0)?;
        let used = Tensor::where_cond(&at_most(&steps, warmup)?, &square, &phi)?;
        // While warming up the cumulative average, and then a step of the running one on top.
        let share = steps.reciprocal()?;
        let cumulative = phi.add(&square.sub(&phi)?.mul(&share)?)?;
        let before = at_most(&steps, warmup.saturating_sub(1))?;
        let phi = if warmup > 0 { Tensor::where_cond(&before, &cumulative, &phi)? } else { phi };
        self.phi.set(&blend(&phi, &square, forward_keep)?.cast(self.phi.dtype())?)?;
        self.steps.set(&steps.cast(self.steps.dtype())?)?;
        Ok(vec![used, square])
    }
}

impl Function for Power {
    fn name(&self) -> &'static str {
        "power_norm"
    }

    fn forward(&self, inputs: &[Tensor]) -> wgrad::Result<(Vec<Tensor>, Saved)> {
        let (x, valid) = (wide(&inputs[0])?, inputs.get(1));
        let used = self.latest.or_advance(|| self.advance(&x, valid))?;
        let scale = |square: &Tensor| square.add_scalar(self.config.eps)?.rsqrt();
        let normalised = x.mul(&scale(&used[0])?)?;
        let back = scale(&used[usize::from(self.config.batch_backward)])?;
        Ok((vec![normalised.cast(inputs[0].dtype())?], vec![normalised, back]))
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[Tensor],
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> wgrad::Result<Vec<Option<Tensor>>> {
        let ([normalised, scale], Some(Some(gradient))) = (&saved[..], grads.first()) else {
            return Ok(vec![None; needs.len()]);
        };
        let (gradient, valid, nu) = (wide(gradient)?, inputs.get(1), wide(&self.nu.tensor())?);
        let dx = gradient.sub(&normalised.mul(&nu)?)?.mul(scale)?;
        // nu (1 - (1 - keep) gamma) + (1 - keep) lambda, with the means of squares and of products.
        let gamma = mean(&normalised.square()?, valid)?;
        let lambda = mean(&gradient.mul(normalised)?, valid)?;
        let change = lambda.sub(&nu.mul(&gamma)?)?.mul_scalar(1.0 - self.config.backward_keep)?;
        self.nu.set(&nu.add(&change)?.cast(self.nu.dtype())?)?;
        Ok([Some(dx.cast(inputs[0].dtype())?), None].into_iter().take(needs.len()).collect())
    }
}

impl Module for PowerNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.param("running_phi", &self.power.phi);
        v.param("running_nu", &self.power.nu);
        v.param("steps", &self.power.steps);
        v.mode(&self.mode);
    }
}
