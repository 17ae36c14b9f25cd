//! Trainable dynamic mask attention (Shi et al., 2025, arXiv 2508.02124), as in Doge: a state of each key, computed from its values, is
//! added to its scores, and a query sees only the keys of the largest states.

use wgrad::nn::{Build, Init, Module, Param, Visitor, join_heads};
use wgrad::{AttentionOptions, DType, Mask, Tensor};

use super::{AttentionConfig, Pass};
use crate::Result;
use crate::weights::{Form, Linear};

/// The state of padding, below that of all real keys.
const PADDING: f64 = -1e4;

/// The dynamic mask of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicConfig {
    /// Name of the rates, `[key heads]`.
    pub rates: &'static str,
    /// Name of the projection of all values of a position to one number for each key head.
    pub steps: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
    /// Keys that a query sees at most.
    pub keep: usize,
}

pub(super) struct Dynamic {
    config: DynamicConfig,
    rates: Param,
    steps: Linear,
}

impl Dynamic {
    pub fn new(config: DynamicConfig, attention: &AttentionConfig, build: &Build) -> Result<Self> {
        let &AttentionConfig { key_heads, head_dim, .. } = attention;
        Ok(Dynamic {
            config,
            rates: build.param(&[key_heads], Init::Zeros)?,
            steps: Linear::new(key_heads * head_dim, key_heads, config.bias, Form::Rows, build)?,
        })
    }

    /// Adds `z = exp(rate softplus(W v))` to the scores of a key and hides keys that others outdo.
    pub fn add_to(&self, options: &mut AttentionOptions, heads: usize, value: &Tensor, pass: &Pass) -> Result<()> {
        let (key_heads, keys) = (value.shape()[1], value.shape()[2]);
        let steps = self.steps.forward(&join_heads(value)?)?.softplus()?;
        // [batch, key heads, keys]
        let states = steps.mul(&self.rates.tensor())?.exp()?.transpose(1, 2)?;
        if keys > self.config.keep {
            let hidden = kept(&states, pass.real.as_ref(), self.config.keep, heads / key_heads)?;
            let before = if pass.steps { 0 } else { pass.offset as i64 };
            options.mask = options.mask.clone().and(hidden.at(before));
        }
        options.bias = Some(states.repeat_interleave(heads / key_heads, 1)?.unsqueeze(2)?);
        Ok(())
    }
}

/// The mask under which a query sees the `keep` largest states of the keys up to it, of equal ones the later. A key that others outdo
/// never comes back, so that it is seen by the queries of an interval.
fn kept(states: &Tensor, real: Option<&Tensor>, keep: usize, group: usize) -> Result<Mask> {
    let mut states = states.detach();
    if let Some(real) = real {
        states = states.masked_fill(&real.unsqueeze(1)?.logical_not()?, PADDING)?;
    }
    let keys = states.size(2)?;
    let starts = Tensor::arange(0, keys as i64, DType::I32, states.device())?.reshape(&[1, 1, -1])?;
    let ends = states.kept_until(keep)?.repeat_interleave(group, 1)?;
    Ok(Mask::intervals(&starts, &ends, None))
}

impl Module for Dynamic {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param(self.config.rates, &self.rates);
        v.module(self.config.steps, &self.steps);
    }
}
