//! Dropout.

use super::{Mode, Module, Visitor};
use crate::{Error, Result, Tensor};

/// In training, zeroes each element with probability `p` and divides the others by `1 - p`; in inference, the identity.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
    mode: Mode,
}

impl Dropout {
    /// Dropout with this probability, in training mode.
    ///
    /// # Errors
    /// Unless `0 <= p <= 1`.
    pub fn new(p: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument("Dropout::new", format!("probability is {p}, expected 0 <= p <= 1")));
        }
        Ok(Dropout { p, mode: Mode::default() })
    }

    /// The probability in force: 0 in inference.
    pub fn probability(&self) -> f64 {
        if self.mode.is_training() { self.p } else { 0.0 }
    }

    /// Applies it.
    ///
    /// # Errors
    /// If `x` is not of floats.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.probability() {
            0.0 => Ok(x.clone()),
            p => x.dropout(p),
        }
    }
}

impl Module for Dropout {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.mode(&self.mode);
    }
}
