//! Scaling of the loss, so that gradients do not vanish in f16.

use serde_json::{Value, json};

use crate::autograd::backward;
use crate::kernels::optim as kernels;
use crate::{Device, Error, Gradients, Result, Tensor};

/// A factor on the loss that grows while all gradients are finite and is halved when one is not. The optimizer divides it out:
/// see [`super::Optimizer::step_scaled`]. On a GPU the device keeps it, so that no step waits for what became of the one before.
#[derive(Debug)]
pub struct LossScaler {
    /// Steps with finite gradients after which the scale is doubled.
    interval: u64,
    state: State,
}

/// The scale, and the good steps in a row.
#[derive(Debug)]
enum State {
    Host {
        scale: f64,
        good_steps: u64,
    },
    /// Two f32, changed in place by `shaders/optim/scale.wgsl`.
    Device(Tensor),
}

impl Default for LossScaler {
    fn default() -> Self {
        LossScaler { interval: 2000, state: State::Host { scale: 65536.0, good_steps: 0 } }
    }
}

impl LossScaler {
    /// A scaler that starts at `scale` and doubles it after `interval` good steps in a row.
    ///
    /// # Errors
    /// If `scale` is not a power of two (others would round the gradients) or `interval` is 0.
    pub fn new(scale: f64, interval: u64) -> Result<Self> {
        let power = scale.is_finite() && scale > 0.0 && scale.log2().fract() == 0.0;
        if !power || interval == 0 {
            let message = format!("scale is {scale} and interval {interval}, expected a power of two and at least 1");
            return Err(Error::argument("LossScaler::new", message));
        }
        Ok(LossScaler { interval, state: State::Host { scale, good_steps: 0 } })
    }

    fn numbers(&self) -> Result<(f64, u64)> {
        match &self.state {
            State::Host { scale, good_steps } => Ok((*scale, *good_steps)),
            State::Device(state) => match state.to_f64_vec()?[..] {
                [scale, good_steps] => Ok((scale, good_steps as u64)),
                _ => Err(Error::argument("LossScaler", "a state of another size than 2")),
            },
        }
    }

    /// The factor on the loss of the next backward pass. Waits for the device.
    ///
    /// # Errors
    /// If the device failed.
    pub fn scale(&self) -> Result<f64> {
        Ok(self.numbers()?.0)
    }

    /// The state as the device keeps it, brought there if need be.
    fn on(&mut self, device: &Device) -> Result<Tensor> {
        if let State::Device(state) = &self.state
            && state.device().same(device)
        {
            return Ok(state.clone());
        }
        let (scale, good_steps) = self.numbers()?;
        let state = Tensor::from_slice(&[scale as f32, good_steps as f32], &[2], device)?;
        self.state = State::Device(state.clone());
        Ok(state)
    }

    /// Gradients of `loss` times the scale. The loss should be f32: in f16 the scale itself may overflow.
    ///
    /// # Errors
    /// As [`Tensor::backward`].
    pub fn backward(&mut self, loss: &Tensor) -> Result<Gradients> {
        if loss.elements() != 1 {
            return Err(Error::shape("LossScaler::backward", format!("needs a scalar, got shape {:?}", loss.shape())));
        }
        let seed = match loss.device().is_gpu() {
            // A copy, for the scale changes in place.
            true => self.on(loss.device())?.narrow(0, 0, 1)?.copy()?.cast(loss.dtype())?,
            false => Tensor::full(self.scale()?, &[1], loss.dtype(), loss.device())?,
        };
        let shape: Vec<isize> = loss.shape().iter().map(|&n| n as isize).collect();
        backward(&[(loss, seed.reshape(&shape)?)], &[], false)
    }

    /// What a step on a GPU reads of gradients with these statistics, and the next scale.
    pub(super) fn step_on_device(&mut self, found: &Tensor, max_norm: f64, skipped: &Tensor) -> Result<Tensor> {
        let device = found.device();
        let state = self.on(device)?;
        kernels::scale(device, found, max_norm, self.interval, &state, skipped)
    }

    /// The next scale, after a step on the CPU.
    pub(super) fn update(&mut self, finite: bool) -> Result<()> {
        let (scale, good_steps) = self.numbers()?;
        let (scale, good_steps) = match finite {
            false => ((scale * 0.5).max(f64::from(f32::MIN_POSITIVE)), 0),
            true if good_steps + 1 >= self.interval => ((scale * 2.0).min(2f64.powi(32)), 0),
            true => (scale, good_steps + 1),
        };
        self.state = State::Host { scale, good_steps };
        Ok(())
    }

    /// The state for a checkpoint's [`extra`](crate::io::Snapshot::extra). Waits for the device.
    ///
    /// # Errors
    /// If the device failed.
    pub fn state(&self) -> Result<Value> {
        let (scale, good_steps) = self.numbers()?;
        Ok(json!({ "scale": scale, "interval": self.interval, "good_steps": good_steps }))
    }

    /// A scaler of this state.
    ///
    /// # Errors
    /// If a number is missing or out of its domain.
    pub fn from_state(state: &Value) -> Result<Self> {
        let missing = |name: &str| Error::argument("LossScaler::from_state", format!("no number `{name}` in {state}"));
        let whole = |name: &str| state[name].as_u64().ok_or_else(|| missing(name));
        let scale = state["scale"].as_f64().ok_or_else(|| missing("scale"))?;
        let good_steps = whole("good_steps")?;
        let scaler = Self::new(scale, whole("interval")?)?;
        Ok(LossScaler { state: State::Host { scale, good_steps }, ..scaler })
    }
}
