//! Parameter groups.

use crate::nn::{Module, Param};

/// Parameters that share their settings.
#[derive(Clone)]
pub struct Group {
    /// The parameters and the names under which their state is saved.
    pub params: Vec<(String, Param)>,
    /// Factor on the optimizer's learning rate.
    pub lr_scale: f64,
    /// Weight decay in place of the rule's own.
    pub weight_decay: Option<f64>,
    /// Decay of the weights that a 2:4 mask leaves out.
    pub sr_ste: f64,
}

impl Group {
    /// Parameters with the optimizer's own settings.
    pub fn new(params: Vec<(String, Param)>) -> Self {
        Group { params, lr_scale: 1.0, weight_decay: None, sr_ste: 0.0 }
    }

    /// With a factor on the learning rate.
    #[must_use]
    pub fn with_lr_scale(self, lr_scale: f64) -> Self {
        Group { lr_scale, ..self }
    }

    /// With a weight decay of its own.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Group { weight_decay: Some(weight_decay), ..self }
    }

    /// With `decay * w` added to the (clipped) gradient of each weight `w` that is not among the two largest by size of its four neighbours along
    /// the last axis: parameters that are seen through 2:4 masks and get straight-through gradients keep their masks then (SR-STE: Zhou et
    /// al., Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch, 2021, arXiv 2102.04010, equation 9). The last axis of
    /// each parameter must be that of the inputs, and a multiple of four long. [`super::Rule::Lion`] cannot: it looks at signs alone.
    #[must_use]
    pub fn with_sr_ste(self, decay: f64) -> Self {
        Group { sr_ste: decay, ..self }
    }

    /// The usual two groups of a model: matrices and larger decay, vectors (biases and gains of norms) do not. In place of a
    /// [packed](Param::set_packed) matrix NAME its values are there, as NAME.values; matrices of which nothing is trained are not.
    pub fn of(module: &(impl Module + ?Sized)) -> Vec<Group> {
        let trained = |(name, param): (String, Param)| match param.packed_values() {
            Some(values) => Some((format!("{name}.values"), values)),
            None => (!param.is_packed()).then_some((name, param)),
        };
        let params = module.named_parameters().into_iter().filter_map(trained);
        let (matrices, vectors) = params.partition(|(_, p)| p.shape().len() >= 2);
        vec![Group::new(matrices), Group::new(vectors).with_weight_decay(0.0)]
    }
}
