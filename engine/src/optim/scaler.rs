//! Scaling of the loss, so that gradients do not vanish in f16.

use serde_json::{Value, json};

use crate::autograd::backward;
use crate::{Error, Gradients, Result, Tensor};

/// A factor on the loss that grows while all gradients are finite and is halved when one is not. The optimizer divides it out:
/// see [`super::Optimizer::step_scaled`].
#[derive(Debug, Clone, PartialEq)]
pub struct LossScaler {
    scale: f64,
    /// Steps with finite gradients after which the scale is doubled.
    interval: u64,
    good_steps: u64,
}

impl Default for LossScaler {
    fn default() -> Self {
        LossScaler { scale: 65536.0, interval: 2000, good_steps: 0 }
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
        Ok(LossScaler { scale, interval, good_steps: 0 })
    }

    /// The factor on the loss of the next backward pass.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Gradients of `loss` times the scale. The loss should be f32: in f16 the scale itself may overflow.
    ///
    /// # Errors
    /// As [`Tensor::backward`].
    pub fn backward(&self, loss: &Tensor) -> Result<Gradients> {
        let seed = Tensor::full(self.scale, loss.shape(), loss.dtype(), loss.device())?;
        if loss.elements() != 1 {
            return Err(Error::shape("LossScaler::backward", format!("needs a scalar, got shape {:?}", loss.shape())));
        }
        backward(&[(loss, seed)], &[], false)
    }

    pub(super) fn update(&mut self, finite: bool) {
        if !finite {
            self.scale = (self.scale * 0.5).max(f64::from(f32::MIN_POSITIVE));
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps >= self.interval {
            self.scale = (self.scale * 2.0).min(2f64.powi(32));
            self.good_steps = 0;
        }
    }

    /// The state for a checkpoint's [`extra`](crate::io::Snapshot::extra).
    pub fn state(&self) -> Value {
        json!({ "scale": self.scale, "interval": self.interval, "good_steps": self.good_steps })
    }

    /// A scaler of this state.
    ///
    /// # Errors
    /// If a number is missing or out of its domain.
    pub fn from_state(state: &Value) -> Result<Self> {
        let missing = |name: &str| Error::argument("LossScaler::from_state", format!("no number `{name}` in {state}"));
        let whole = |name: &str| state[name].as_u64().ok_or_else(|| missing(name));
        let scale = state["scale"].as_f64().ok_or_else(|| missing("scale"))?;
        Ok(LossScaler { good_steps: whole("good_steps")?, ..Self::new(scale, whole("interval")?)? })
    }
}
