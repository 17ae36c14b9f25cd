//! Unified Normalization (Yang et al., Unified normalization for accelerating and stabilizing transformers, ACM Multimedia 2022,
//! arXiv:2208.01313): batch norm without the mean, by the geometric mean of the last few batches. In evaluation it is a factor and a
//! bias for each channel, and folds into the next linear layer.

use std::sync::Arc;

use wgrad::Tensor;
use wgrad::autograd::{Function, Saved, apply};
use wgrad::nn::{Build, Init, Mode, Module, Param, Visitor};

use super::state::{Latest, Rows, at_most, blend, mean, state, wide};
use crate::{Error, Result};

/// Mean squares below count as this much in a geometric mean.
const LEAST: f64 = 1e-12;
/// Steps before the results are rescaled to the running mean square, at least.
const SETTLING: usize = 1000;

/// The numbers of [`UnifiedNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnifiedNormConfig {
    /// Added to the mean squares.
    pub eps: f64,
    /// How much of the running statistics a step keeps.
    pub keep: f64,
    /// Batches whose mean squares, and whose gradient statistics, are averaged.
    pub window: usize,
    /// Steps in which each batch stands for itself.
    pub warmup: usize,
    /// Whether a batch unlike the others stands for itself and stays out of the window: off for language, on for vision.
    pub filter: bool,
}

impl Default for UnifiedNormConfig {
    fn default() -> Self {
        UnifiedNormConfig { eps: 1e-5, keep: 0.9, window: 4, warmup: 4000, filter: false }
    }
}

/// `y = x / sqrt(u + eps) * r * weight + bias` of `x [.., channels]`. In training `u` is the geometric mean of each channel's mean squares in
/// the last batches, and `r` (at first 1) takes the result to the scale of the running mean square `v`, which evaluation divides by.
/// The gradient is approximated by a running statistic: one backward pass for each forward pass, since both move the state.
pub struct UnifiedNorm {
    weight: Param,
    bias: Param,
    unified: Arc<Unified>,
    mode: Mode,
}

/// The part without gain and bias: a function of x, and of which rows count.
struct Unified {
    config: UnifiedNormConfig,
    /// `[window, channels]`: mean squares of the last batches.
    squares: Param,
    /// `[window, channels]`: mean products of gradients and results.
    products: Param,
    running_square: Param,
    running_product: Param,
    steps: Param,
    latest: Latest,
}

impl UnifiedNorm {
    /// A norm with gains of one, biases of zero and running mean squares of one.
    ///
    /// # Errors
    /// If the window is empty, or memory is exhausted.
    pub fn new(config: UnifiedNormConfig, channels: usize, build: &Build) -> Result<Self> {
        if config.window == 0 {
            return Err(Error::argument("unified_norm", "a window of 0 batches, expected 1 or more"));
        }
        let zeros = |shape: &[usize]| state(shape, 0.0, build);
        let unified = Unified {
            config,
            squares: zeros(&[config.window, channels])?,
            products: zeros(&[config.window, channels])?,
            running_square: state(&[channels], 1.0, build)?,
            running_product: zeros(&[channels])?,
            steps: zeros(&[1])?,
            latest: Latest::default(),
        };
        Ok(UnifiedNorm {
            weight: build.param(&[channels], Init::Ones)?,
            bias: build.param(&[channels], Init::Zeros)?,
            unified: Arc::new(unified),
            mode: Mode::default(),
        })
    }

    /// Applies the norm. `valid [..]` says which positions count in the statistics: ones and zeros, or bools.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor, valid: Option<&Tensor>) -> Result<Tensor> {
        let rows = Rows::new("unified_norm", x, valid, self.weight.elements())?;
        let y = if self.mode.is_training() {
            apply(&self.unified, &rows.inputs())?.swap_remove(0).mul(&self.weight.tensor())?
        } else {
            wide(&rows.x)?.mul(&self.factor()?)?.cast(x.dtype())?
        };
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        Ok(y.add(&self.bias.tensor())?.reshape(&shape)?)
    }

    /// Of each channel in evaluation.
    fn factor(&self) -> Result<Tensor> {
        let square = wide(&self.unified.running_square.tensor())?;
        Ok(square.add_scalar(self.unified.config.eps)?.rsqrt()?.mul(&wide(&self.weight.tensor())?)?)
    }

    /// Weight `[outputs, channels]` and bias of a linear layer that does what this norm in evaluation and then the layer do:
    /// `W' = W diag(factor)`, `b' = b + W bias`.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn fold(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let channels = self.weight.elements();
        if weight.rank() != 2 || weight.shape()[1] != channels {
            let shape = weight.shape();
            return Err(Error::argument(
                "unified_norm",
                format!("weight of shape {shape:?}, expected [_, {channels}]"),
            ));
        }
        let shift = weight.matmul(&self.bias.tensor().unsqueeze(1)?)?.squeeze(1)?;
        let bias = bias.map_or_else(|| Ok(shift.clone()), |bias| bias.add(&shift))?;
        Ok((wide(weight)?.mul(&self.factor()?)?.cast(weight.dtype())?, bias))
    }
}

/// `[window, channels]` without the oldest row and with a new one.
fn moved_on(buffer: &Tensor, row: &Tensor) -> wgrad::Result<Tensor> {
    let rows = buffer.shape()[0];
    Tensor::concat(&[&buffer.narrow(0, 1, rows - 1)?, &row.unsqueeze(0)?], 0)
}

impl Unified {
    /// What the batch is divided by, the scale of the result, whether the batch stands alone, and whether it is too early for the
    /// window. Moves the forward state.
    fn advance(&self, x: &Tensor, valid: Option<&Tensor>) -> wgrad::Result<Vec<Tensor>> {
        let UnifiedNormConfig { eps, keep, window, warmup, filter } = self.config;
        let (buffer, running) = (wide(&self.squares.tensor())?, wide(&self.running_square.tensor())?);
        let steps = wide(&self.steps.tensor())?.add_scalar(1.0)?;
        let square = mean(&x.square()?, valid)?;
        let mut seen = moved_on(&buffer, &square)?;
        let geometric = |seen: &Tensor| seen.clamp(Some(LEAST), None)?.log()?.mean(&[0], false)?.exp();
        let never = at_most(&steps, 0)?;
        let mut alone = if window == 1 { never.logical_not()? } else { never };
        if filter && window > 1 {
            let spread = buffer.sqrt()?.var(&[], 1.0, false)?.mul_scalar(window as f64)?;
            let unlike = seen.mean(&[0], false)?.sub(&geometric(&seen)?)?.gt(&spread)?.any(&[0], true)?;
            let late = at_most(&steps, warmup.saturating_sub(1))?.logical_not()?;
            alone = if warmup > 0 { unlike.logical_and(&late)? } else { unlike };
            seen = Tensor::where_cond(&alone, &moved_on(&buffer, &running)?, &seen)?;
        }
        let early = at_most(&steps, window.max(warmup.saturating_sub(1)))?;
        let used = Tensor::where_cond(&early.logical_or(&alone)?, &square, &geometric(&seen)?)?;
        let ratio = used.add_scalar(eps)?.div(&running.add_scalar(eps)?)?.sqrt()?.clamp(Some(0.2), Some(5.0))?;
        let unscaled = at_most(&steps, warmup.max(SETTLING))?.logical_or(&alone)?;
        let ratio = Tensor::where_cond(&unscaled, &ratio.ones_like()?, &ratio)?;
        self.squares.set(&seen.cast(self.squares.dtype())?)?;
        self.running_square.set(&blend(&running, &used, keep)?.cast(self.running_square.dtype())?)?;
        self.steps.set(&steps.cast(self.steps.dtype())?)?;
        Ok(vec![used, ratio, alone, early])
    }
}

impl Function for Unified {
    fn name(&self) -> &'static str {
        "unified_norm"
    }

    fn forward(&self, inputs: &[Tensor]) -> wgrad::Result<(Vec<Tensor>, Saved)> {
        let (x, valid) = (wide(&inputs[0])?, inputs.get(1));
        let mut saved = self.latest.or_advance(|| self.advance(&x, valid))?;
        let scale = saved[0].add_scalar(self.config.eps)?.rsqrt()?;
        let normalised = x.mul(&scale)?;
        let y = normalised.mul(&saved[1])?.cast(inputs[0].dtype())?;
        saved.extend([normalised, scale]);
        Ok((vec![y], saved))
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[Tensor],
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> wgrad::Result<Vec<Option<Tensor>>> {
        let ([_, ratio, alone, early, normalised, scale], Some(Some(gradient))) = (&saved[..], grads.first()) else {
            return Ok(vec![None; needs.len()]);
        };
        let (buffer, running) = (wide(&self.products.tensor())?, wide(&self.running_product.tensor())?);
        let gradient = wide(gradient)?.mul(ratio)?;
        let product = mean(&gradient.mul(normalised)?, inputs.get(1))?;
        let kept = Tensor::where_cond(alone, &running, &product)?;
        let buffer = moved_on(&buffer, &kept)?;
        let averaged = Tensor::where_cond(&early.logical_or(alone)?, &product, &buffer.mean(&[0], false)?)?;
        let running = blend(&running, &averaged, self.config.keep)?;
        let used = Tensor::where_cond(alone, &averaged, &running)?;
        self.products.set(&buffer.cast(self.products.dtype())?)?;
        self.running_product.set(&running.cast(self.running_product.dtype())?)?;
        let dx = gradient.sub(&normalised.mul(&used)?)?.mul(scale)?;
        Ok([Some(dx.cast(inputs[0].dtype())?), None].into_iter().take(needs.len()).collect())
    }
}

impl Module for UnifiedNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.param("squares", &self.unified.squares);
        v.param("products", &self.unified.products);
        v.param("running_square", &self.unified.running_square);
        v.param("running_product", &self.unified.running_product);
        v.param("steps", &self.unified.steps);
        v.mode(&self.mode);
    }
}
