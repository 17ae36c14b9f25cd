//! Trainable dynamic mask attention (Shi et al., 2025, arXiv 2508.02124), as in Doge: a state of each key, computed from its values, is
//! added to its scores, and a query sees only the keys of the largest states.

use wgrad::nn::{Build, Init, Module, Param, Visitor, join_heads};
use wgrad::{AttentionOptions, DType, Mask, Tensor};

use super::{AttentionConfig, Pass};
use crate::Result;
use crate::weights::{Form, Linear};

/// The state of padding, below that of all real keys.
const PADDING: f64 = -1e4;

/// Queries from which on keys are brought into another order, so that what is hidden can be skipped, and how many times the keys kept all keys have to
/// be. Of normal states and 2 heads of 64, a training step in which 1024 keep 512 or 340 takes the same either way; 256 of 1024, 0.7 of the dense one
/// on the CPU and 0.8 on llvmpipe; 256 of 4096, 0.2 and 0.4.
const SKIPS: (usize, usize) = (128, 4);

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

    /// Adds `z = exp(rate softplus(W v))` to the scores of a key and hides keys that others outdo. Says whether so many are hidden that
    /// [`Tensor::interval_attention`] pays.
    pub fn add_to(&self, options: &mut AttentionOptions, query: &Tensor, value: &Tensor, pass: &Pass) -> Result<bool> {
        let (heads, queries) = (query.shape()[1], query.shape()[2]);
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
        let (least, times) = SKIPS;
        let many = queries >= least && keys >= times.saturating_mul(self.config.keep);
        Ok(many && options.mask.is_intervals() && options.relative_bias.is_none())
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

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;
    use crate::attention::{Attention, Project, Scores};

    /// The result and the gradients of input and parameters are those of the dense form, which a mask that is no intervals asks for.
    #[test]
    fn skipping_is_dense() {
        let device = Device::new_cpu();
        device.set_seed(4);
        let dynamic = DynamicConfig { rates: "rates", steps: "steps", bias: true, keep: 7 };
        let config = AttentionConfig {
            key_heads: 2,
            scores: Scores::Dynamic(dynamic),
            ..AttentionConfig::new(4, 8, Project::Apart { query: "q", key: "k", value: "v" }, "o")
        };
        let length = SKIPS.0 + 5;
        let layer = Attention::new(config, 24, &Build::new(&device)).unwrap();
        // Rates are zeros at first, and all states the same.
        for (name, param) in layer.named_parameters() {
            if name == "rates" {
                param.set(&Tensor::from_slice(&[0.6f32, -0.8], &[2], &device).unwrap()).unwrap();
            }
        }
        let x = Tensor::normal(0.0, 1.0, &[2, length, 24], DType::F32, &device).unwrap().requires_grad();
        let real: Vec<bool> = (0..2 * length).map(|at| at < length || at % length > 30).collect();
        let real = Tensor::from_vec(real, &[2, length], &device).unwrap();
        let padding = Mask::dense(&real.unsqueeze(1).unwrap().unsqueeze(1).unwrap());
        let all = Mask::dense(&Tensor::ones(&[length, length], DType::Bool, &device).unwrap());
        let run = |more: Mask| {
            let mut pass = Pass::new(&Mask::causal(0).and(padding.clone()).and(more), 0, std::iter::empty());
            pass.real = Some(real.clone());
            let y = layer.forward(&x, None, &pass, None, None).unwrap();
            let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![y.to_f64_vec().unwrap(), gradients.get(&x).unwrap().to_f64_vec().unwrap()];
            let of_parameters = layer.named_parameters();
            all.extend(of_parameters.iter().map(|(_, p)| p.gradient(&gradients).unwrap().to_f64_vec().unwrap()));
            all
        };
        for (got, want) in run(Mask::all()).iter().zip(&run(all)) {
            let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-5 * largest));
        }
    }
}
