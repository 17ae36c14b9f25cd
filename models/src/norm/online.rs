//! Online Normalization (Chiley et al., Online normalization for training neural networks, NeurIPS 2019, arXiv:1905.05894): each sample is
//! normalised by what came before it, so that batches need not be large, and the gradient is made orthogonal to ones and to the
//! result on average.

use std::sync::Arc;

use wgrad::autograd::{Function, Saved, apply};
use wgrad::nn::{Build, Init, Mode, Module, Param, Visitor};
use wgrad::{NormKind, NormOptions, Tensor};

use super::state::{Latest, state, wide};
use crate::{Error, Result};

/// What keeps the errors of approximate statistics from growing from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compensation {
    /// Nothing.
    Off,
    /// Results are cut off at this size, where the gradient is zero.
    Clamp(f64),
    /// Each sample is divided by the root mean square of its features.
    LayerScale,
}

/// The numbers of [`OnlineNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineNormConfig {
    /// Added to the variances.
    pub eps: f64,
    /// How much of the running mean and variance a sample keeps.
    pub forward_keep: f64,
    /// How much of the running gradient statistics a sample keeps.
    pub backward_keep: f64,
    /// After gain and bias.
    pub compensation: Compensation,
}

impl Default for OnlineNormConfig {
    fn default() -> Self {
        let compensation = Compensation::Clamp(5.0);
        OnlineNormConfig { eps: 1e-5, forward_keep: 0.999, backward_keep: 0.99, compensation }
    }
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` of a stream of samples `x [samples, .., channels]`, with the running mean and
/// variance of each channel before the sample. Dimensions between are places of one sample, over which its statistics go. The stream
/// gives the same results however it is cut into batches; the recurrences are running sums and products over all samples at once.
/// In training both passes move the state: one backward pass for each forward pass.
pub struct OnlineNorm {
    weight: Param,
    bias: Param,
    online: Arc<Online>,
    mode: Mode,
}

/// The part without gain and bias, of `[samples, places, channels]`.
struct Online {
    config: OnlineNormConfig,
    mean: Param,
    var: Param,
    /// The sum of gradients times results that is still to be taken off.
    along_y: Param,
    /// And that of gradients.
    along_ones: Param,
    latest: Latest,
}

impl OnlineNorm {
    /// A norm with gains of one, biases of zero, means of zero and variances of one.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: OnlineNormConfig, channels: usize, build: &Build) -> Result<Self> {
        let of = |value| state(&[channels], value, build);
        let (mean, var, along_y, along_ones) = (of(0.0)?, of(1.0)?, of(0.0)?, of(0.0)?);
        Ok(OnlineNorm {
            weight: build.param(&[channels], Init::Ones)?,
            bias: build.param(&[channels], Init::Zeros)?,
            online: Arc::new(Online { config, mean, var, along_y, along_ones, latest: Latest::default() }),
            mode: Mode::default(),
        })
    }

    /// Applies the norm.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = self.weight.elements();
        let &[samples, .., last] = x.shape() else {
            return Err(Error::argument("online_norm", format!("x of shape {:?}, expected [samples, ..]", x.shape())));
        };
        if last != channels || x.elements() == 0 {
            let message = format!("x of shape {:?}, expected [samples, .., {channels}], none of them 0", x.shape());
            return Err(Error::argument("online_norm", message));
        }
        let stream = x.reshape(&[samples as isize, -1, channels as isize])?;
        let y = if self.mode.is_training() {
            apply(&self.online, &[&stream])?.swap_remove(0)
        } else {
            let (mean, var) = (wide(&self.online.mean.tensor())?, wide(&self.online.var.tensor())?);
            let scale = var.add_scalar(self.online.config.eps)?.rsqrt()?;
            wide(&stream)?.sub(&mean)?.mul(&scale)?.cast(x.dtype())?
        };
        let y = y.mul(&self.weight.tensor())?.add(&self.bias.tensor())?;
        let y = match self.online.config.compensation {
            Compensation::Off => y,
            Compensation::Clamp(most) => y.clamp(Some(-most), Some(most))?,
            Compensation::LayerScale => {
                let over = NormOptions { dims: Some(2), ..NormOptions::new(NormKind::Rms, self.online.config.eps) };
                y.row_norm(&over)?
            }
        };
        let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        Ok(y.reshape(&shape)?)
    }
}

/// `s_(t+1) = factor_t s_t + x_t` from `s_0 = start [channels]`: the states before each sample, and the last one. `x [samples, channels]`,
/// and factors of the same shape between 0 and 1. Doubling: after step `k`, each place has composed `2^k` samples.
fn recurrence(factor: &Tensor, x: &Tensor, start: &Tensor) -> wgrad::Result<(Tensor, Tensor)> {
    let n = x.shape()[0];
    let (mut factor, mut sum) = (factor.clone(), x.clone());
    let mut reach = 1;
    while reach < n {
        let later = |t: &Tensor| t.narrow(0, reach, n - reach);
        let earlier = |t: &Tensor| t.narrow(0, 0, n - reach);
        let joined = later(&factor)?.mul(&earlier(&sum)?)?.add(&later(&sum)?)?;
        let product = later(&factor)?.mul(&earlier(&factor)?)?;
        sum = Tensor::concat(&[&sum.narrow(0, 0, reach)?, &joined], 0)?;
        factor = Tensor::concat(&[&factor.narrow(0, 0, reach)?, &product], 0)?;
        reach *= 2;
    }
    let after = factor.mul(start)?.add(&sum)?;
    let before = Tensor::concat(&[&start.unsqueeze(0)?, &after.narrow(0, 0, n - 1)?], 0)?;
    Ok((before, after.narrow(0, n - 1, 1)?.squeeze(0)?))
}

impl Online {
    /// Mean and reciprocal deviation before each sample, `[samples, 1, channels]`. Moves the forward state.
    fn advance(&self, x: &Tensor) -> wgrad::Result<Vec<Tensor>> {
        let keep = self.config.forward_keep;
        let own = x.mean(&[1], false)?;
        let spread = x.var(&[1], 0.0, false)?;
        let factor = Tensor::full(keep, own.shape(), own.dtype(), own.device())?;
        let step = own.mul_scalar(1.0 - keep)?;
        let (mean, last_mean) = recurrence(&factor, &step, &wide(&self.mean.tensor())?)?;
        let moved = own.sub(&mean)?.square()?.mul_scalar(keep * (1.0 - keep))?;
        let step = spread.mul_scalar(1.0 - keep)?.add(&moved)?;
        let (var, last_var) = recurrence(&factor, &step, &wide(&self.var.tensor())?)?;
        self.mean.set(&last_mean.cast(self.mean.dtype())?)?;
        self.var.set(&last_var.cast(self.var.dtype())?)?;
        Ok(vec![mean.unsqueeze(1)?, var.add_scalar(self.config.eps)?.rsqrt()?.unsqueeze(1)?])
    }
}

impl Function for Online {
    fn name(&self) -> &'static str {
        "online_norm"
    }

    fn forward(&self, inputs: &[Tensor]) -> wgrad::Result<(Vec<Tensor>, Saved)> {
        let x = wide(&inputs[0])?;
        let statistics = self.latest.or_advance(|| self.advance(&x))?;
        let (mean, scale) = (&statistics[0], &statistics[1]);
        let y = x.sub(mean)?.mul(scale)?;
        Ok((vec![y.cast(inputs[0].dtype())?], vec![y, scale.clone()]))
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[Tensor],
        saved: &Saved,
        grads: &[Option<Tensor>],
        _: &[bool],
    ) -> wgrad::Result<Vec<Option<Tensor>>> {
        let ([y, scale], Some(Some(gradient))) = (&saved[..], grads.first()) else { return Ok(vec![None]) };
        let keep = self.config.backward_keep;
        let gradient = wide(gradient)?;
        // g = dy - (1 - keep) p y, and p grows by the mean of g y.
        let factor = y.square()?.mean(&[1], false)?.affine(-(1.0 - keep), 1.0)?;
        let (along, last) = recurrence(&factor, &gradient.mul(y)?.mean(&[1], false)?, &wide(&self.along_y.tensor())?)?;
        self.along_y.set(&last.cast(self.along_y.dtype())?)?;
        let g = gradient.sub(&along.unsqueeze(1)?.mul(y)?.mul_scalar(1.0 - keep)?)?.mul(scale)?;
        // dx = g - (1 - keep) w, and w grows by the mean of dx.
        let own = g.mean(&[1], false)?;
        let factor = Tensor::full(keep, own.shape(), own.dtype(), own.device())?;
        let (along, last) = recurrence(&factor, &own, &wide(&self.along_ones.tensor())?)?;
        self.along_ones.set(&last.cast(self.along_ones.dtype())?)?;
        let dx = g.sub(&along.unsqueeze(1)?.mul_scalar(1.0 - keep)?)?;
        Ok(vec![Some(dx.cast(inputs[0].dtype())?)])
    }
}

impl Module for OnlineNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.param("running_mean", &self.online.mean);
        v.param("running_var", &self.online.var);
        v.param("along_y", &self.online.along_y);
        v.param("along_ones", &self.online.along_ones);
        v.mode(&self.mode);
    }
}
