//! In which precision a model trains.

use std::fmt;
use std::str::FromStr;

use crate::optim::LossScaler;
use crate::{DType, Error};

/// In which precision a model trains (Micikevicius et al., Mixed Precision Training, 2018, arXiv:1710.03740).
///
/// The half types are for storage: parameters, activations and gradients are halves, so that they take half the memory and
/// half the time to move. Every sum, and so every matrix product, norm, softmax and loss, is computed in f32. An
/// [`Optimizer`](crate::optim::Optimizer) keeps an f32 master of each parameter, and rounds it after every update.
///
/// ```
/// use wgrad::nn::{Build, Precision};
/// # fn main() -> wgrad::Result<()> {
/// let precision: Precision = "f16".parse()?;
/// let build = Build::new(&wgrad::Device::cpu()).with_dtype(precision.dtype());
/// let mut scaler = precision.scaler();
/// # let (_, _) = (build, &mut scaler);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Halves of 11 significant bits and a small range, from 6e-8 to 65,504: losses are scaled, so that gradients do not vanish.
    F16,
    /// Halves of 8 significant bits and the range of f32.
    Bf16,
}

impl Precision {
    /// Dtype of parameters and activations, for [`Build::with_dtype`](super::Build::with_dtype).
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// The scaler of losses for [`Optimizer::step_scaled`](crate::optim::Optimizer::step_scaled), where one is needed.
    pub fn scaler(self) -> Option<LossScaler> {
        (self == Precision::F16).then(LossScaler::default)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dtype().fmt(f)
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [Precision::F32, Precision::F16, Precision::Bf16];
        let found = all.into_iter().find(|precision| precision.to_string() == name);
        found.ok_or_else(|| Error::argument("Precision", format!("{name:?} is none of f32, f16, bf16")))
    }
}
