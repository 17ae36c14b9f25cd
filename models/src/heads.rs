//! Readouts of hidden states, and losses.

use wgrad::nn::{Build, Module, Param, Visitor, loss};
use wgrad::{CrossEntropy, DType, Reduction, Tensor};

use crate::Result;
use crate::activation::Activation;
use crate::corrupt::mlm::IGNORE;
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};

/// A layer before the last one of a head, by its names in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformConfig {
    /// The linear layer.
    pub dense: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows it.
    pub activation: Option<Activation>,
    /// The norm that follows that.
    pub norm: Option<(&'static str, NormConfig)>,
    /// Its width.
    pub width: usize,
}

/// What a head is made of: `outputs = softcap(scale * W f(x) + bias)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadConfig {
    /// The layer f.
    pub transform: Option<TransformConfig>,
    /// Name of the matrix W.
    pub weight: &'static str,
    /// Names that its bias goes by in checkpoints; none if there is none.
    pub bias: &'static [&'static str],
    /// Whether W is the word embedding.
    pub tied: bool,
    /// How many outputs.
    pub outputs: usize,
    /// Factor before the bias.
    pub scale: f64,
    /// Bound of the outputs, by a tanh.
    pub softcap: Option<f64>,
}

impl HeadConfig {
    /// One matrix without a bias.
    pub fn new(weight: &'static str, outputs: usize, tied: bool) -> Self {
        HeadConfig { transform: None, weight, bias: &[], tied, outputs, scale: 1.0, softcap: None }
    }
}

/// A head.
pub struct Head {
    config: HeadConfig,
    transform: Option<(Linear, Option<Norm>)>,
    weight: Param,
    bias: Option<Param>,
}

impl Head {
    /// A new head on vectors of `hidden`; `embedding` is what a tied one takes its matrix from.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: HeadConfig, hidden: usize, embedding: &Param, build: &Build) -> Result<Self> {
        let transform = |t: TransformConfig| {
            let norm = t.norm.map(|(_, norm)| Norm::new(norm, t.width, build)).transpose()?;
            Ok::<_, crate::Error>((Linear::new(hidden, t.width, t.bias, Form::Rows, build)?, norm))
        };
        let width = config.transform.map_or(hidden, |t| t.width);
        let weight = match config.tied {
            true => embedding.clone(),
            false => build.weight(&[config.outputs, width])?,
        };
        let bias = (!config.bias.is_empty()).then(|| build.param(&[config.outputs], wgrad::nn::Init::Zeros));
        Ok(Head { config, transform: config.transform.map(transform).transpose()?, weight, bias: bias.transpose()? })
    }

    /// `[.., hidden]` to `[.., outputs]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let HeadConfig { scale, softcap, transform, .. } = self.config;
        let mut x = hidden.clone();
        if let (Some((dense, norm)), Some(config)) = (&self.transform, transform) {
            x = dense.forward_then(&x, config.activation, None)?;
            if let Some(norm) = norm {
                x = norm.forward(&x)?;
            }
        }
        if scale != 1.0 {
            x = x.mul_scalar(scale)?;
        }
        let outputs = x.linear(&self.weight.tensor(), self.bias.as_ref().map(Param::tensor).as_ref())?;
        Ok(match softcap {
            Some(cap) => outputs.mul_scalar(1.0 / cap)?.tanh()?.mul_scalar(cap)?,
            None => outputs,
        })
    }
}

impl Module for Head {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let (Some((dense, norm)), Some(config)) = (&self.transform, self.config.transform) {
            v.module(config.dense, dense);
            if let (Some((name, _)), Some(norm)) = (config.norm, norm) {
                v.module(name, norm);
            }
        }
        v.param(self.config.weight, &self.weight);
        if let Some(bias) = &self.bias {
            self.config.bias.iter().for_each(|name| v.param(name, bias));
        }
    }
}

/// Mean cross-entropy of `logits [.., classes]` over the labels `[..]` that are not [`IGNORE`].
///
/// # Errors
/// If shapes do not fit, or a label is no class.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let options = CrossEntropy { ignore_index: Some(i64::from(IGNORE)), ..CrossEntropy::default() };
    Ok(logits.cross_entropy(labels, &options)?)
}

/// The losses that [`cross_entropy`] takes the mean of, 0 for labels that are [`IGNORE`].
///
/// # Errors
/// If shapes do not fit, or a label is no class.
pub fn cross_entropies(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let ignore_index = Some(i64::from(IGNORE));
    Ok(logits
        .cross_entropy(labels, &CrossEntropy { ignore_index, reduction: Reduction::None, ..CrossEntropy::default() })?)
}

/// [`cross_entropy`] where the logits of a position predict the label of the next: `[batch, length, classes]`, `[batch, length]`.
///
/// # Errors
/// If shapes do not fit, or a label is no class.
pub fn next_token(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let length = labels.size(1)?.saturating_sub(1);
    let labels = labels.narrow(1, labels.size(1)? - length, length)?;
    cross_entropy(&logits.narrow(1, 0, length)?, &labels.contiguous()?)
}

/// Mean binary cross-entropy of `logits [batch, length]` against labels 0 and 1 (i32), over real tokens.
///
/// # Errors
/// If shapes do not fit.
pub fn detection(logits: &Tensor, labels: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
    let labels = labels.cast(logits.dtype())?;
    let Some(real) = real else { return Ok(loss::bce_with_logits(logits, &labels, None, None, Reduction::Mean)?) };
    let weight = real.cast(logits.dtype())?;
    let sum = loss::bce_with_logits(logits, &labels, Some(&weight), None, Reduction::Sum)?;
    let count = real.cast(DType::F32)?.sum_all()?.cast(logits.dtype())?;
    Ok(sum.div(&count)?)
}
