//! What all layers of a model have in common when they are made.

use super::{Init, Param};
use crate::{DType, Device, Result, Tensor};

/// Device, dtype and initial values of new layers.
#[derive(Debug, Clone)]
pub struct Build {
    /// Where the parameters live.
    pub device: Device,
    /// Their dtype.
    pub dtype: DType,
    /// Initial values of weight matrices. Biases start at zero, gains of norms at one.
    pub init: Init,
    /// The one zero that stands for every value of blank parameters.
    blank: Option<Tensor>,
}

impl Build {
    /// Parameters of f32, weights uniform within `1 / sqrt(fan_in)`.
    pub fn new(device: &Device) -> Self {
        Build {
            device: device.clone(),
            dtype: DType::F32,
            init: Init::KaimingUniform { gain: (1.0f64 / 3.0).sqrt() },
            blank: None,
        }
    }

    /// Parameters that take no memory and no time: each is one zero, broadcast. For models whose every parameter will be
    /// [loaded](super::Module::load).
    ///
    /// # Errors
    /// If the dtype is not one of the device, or memory is exhausted.
    pub fn blank(self) -> Result<Self> {
        Ok(Build { blank: Some(Tensor::zeros(&[], self.dtype, &self.device)?), ..self })
    }

    /// Whether parameters have no values yet.
    pub fn is_blank(&self) -> bool {
        self.blank.is_some()
    }

    /// With another dtype.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        Build { dtype, ..self }
    }

    /// With other initial values of weight matrices.
    #[must_use]
    pub fn with_init(self, init: Init) -> Self {
        Build { init, ..self }
    }

    /// A parameter of the weights' initial values.
    ///
    /// # Errors
    /// As [`Init::tensor`].
    pub fn weight(&self, shape: &[usize]) -> Result<Param> {
        self.param(shape, self.init)
    }

    /// A parameter of any initial values.
    ///
    /// # Errors
    /// As [`Init::tensor`].
    pub fn param(&self, shape: &[usize], init: Init) -> Result<Param> {
        match &self.blank {
            Some(zero) => Param::new(&zero.expand(shape)?),
            None => Param::new(&init.tensor(shape, self.dtype, &self.device)?),
        }
    }
}
