//! Trainable dynamic mask attention (Shi et al., 2025, arXiv 2508.02124), as in Doge: a state of each key, computed from its values, is
//! added to its scores, and a query sees only the keys of the largest states.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wgrad::nn::{Build, Init, Module, Param, Visitor, join_heads};
use wgrad::{AttentionOptions, Device, Mask, Tensor};

use super::{AttentionConfig, Pass};
use crate::Result;
use crate::weights::{Form, Linear};

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
    let &[batch, key_heads, keys] = states.shape() else { return Ok(Mask::all()) };
    let values = states.detach().to_f64_vec()?;
    let real = real.map(Tensor::to_vec::<bool>).transpose()?;
    let starts: Vec<i32> = (0..keys as i32).collect();
    let mut ends: Vec<i32> = Vec::with_capacity(batch * key_heads * group * keys);
    for (row, values) in values.chunks_exact(keys.max(1)).enumerate() {
        let real = real.as_ref().map(|real| &real[row / key_heads * keys..][..keys]);
        let of_row = last_seen(values, real, keep);
        (0..group).for_each(|_| ends.extend(&of_row));
    }
    let cpu = Device::cpu();
    let low = Tensor::from_vec(starts, &[1, 1, keys], &cpu)?;
    let high = Tensor::from_vec(ends, &[batch, key_heads * group, keys], &cpu)?;
    Ok(Mask::intervals(&low, &high, None))
}

/// For each key the first query from which on `keep` others outdo it.
fn last_seen(values: &[f64], real: Option<&[bool]>, keep: usize) -> Vec<i32> {
    let mut ends = vec![values.len() as i32; values.len()];
    let mut best = BinaryHeap::with_capacity(keep + 1);
    for (key, &value) in values.iter().enumerate() {
        if real.is_some_and(|real| !real[key]) {
            continue;
        }
        best.push(Reverse((Ordered(value), key)));
        if best.len() > keep
            && let Some(Reverse((_, outdone))) = best.pop()
        {
            ends[outdone] = key as i32;
        }
    }
    ends
}

/// A number with a total order.
#[derive(PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Module for Dynamic {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param(self.config.rates, &self.rates);
        v.module(self.config.steps, &self.steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_largest_of_each_prefix() {
        let values = [3.0, 1.0, 2.0, 2.0, 5.0, 0.0, 2.0];
        let real = [true, true, true, false, true, true, true];
        for keep in 1..=7 {
            let ends = last_seen(&values, Some(&real), keep);
            for query in 0..values.len() {
                let mut seen: Vec<usize> = (0..=query).filter(|&key| real[key]).collect();
                seen.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(b.cmp(&a)));
                seen.truncate(keep);
                seen.sort_unstable();
                let kept = (0..=query).filter(|&key| real[key] && (query as i32) < ends[key]);
                assert_eq!(kept.collect::<Vec<_>>(), seen, "keep {keep}, query {query}");
            }
        }
    }
}
