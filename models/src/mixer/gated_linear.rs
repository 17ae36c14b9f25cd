//! Gated linear attention of TransNormerLLM (Qin et al., 2023, arXiv 2307.14995): linear attention with a decay for each head, optionally
//! with learned rotations of queries and keys, a norm without parameters, and a gate.

use wgrad::nn::{Build, Init, Module, Param, Visitor, alibi_slopes, join_heads, split_heads};
use wgrad::{DType, LinearAttention, Tensor};

use super::Mixer;
use crate::Result;
use crate::attention::Pass;
use crate::weights::{Form, Linear};

/// Added to the mean square in the norm.
const EPS: f64 = 1e-6;

/// What a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GatedLinearConfig {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether queries and keys are turned by learned angles (LRPE), which doubles their width.
    pub rotations: bool,
    /// The number of the layer and of all layers: lower layers forget faster.
    pub layer: [usize; 2],
    /// Positions that are worked on at once.
    pub chunk: usize,
}

/// The logarithm of each head's decay in a layer: ALiBi's slopes, from the first layer on falling to nearly none in the last.
pub fn decays(heads: usize, [layer, layers]: [usize; 2]) -> Vec<f64> {
    let depth = layer as f64 / layers.saturating_sub(1).max(1) as f64;
    alibi_slopes(heads).into_iter().map(|slope| -slope * (1.0 - depth + 1e-5)).collect()
}

/// What a layer keeps of the positions that it has seen: its size does not grow.
#[derive(Clone)]
pub struct GatedLinearState {
    /// `[batch, heads, features, head_dim]`.
    sums: Tensor,
    /// Positions seen.
    seen: usize,
}

/// A layer of gated linear attention.
pub struct GatedLinear {
    config: GatedLinearConfig,
    /// Queries, keys, values and gate.
    project: Linear,
    angles: Option<Param>,
    log_decay: Tensor,
    output: Linear,
}

impl GatedLinear {
    /// A layer on vectors of `hidden`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: GatedLinearConfig, hidden: usize, build: &Build) -> Result<Self> {
        let GatedLinearConfig { heads, head_dim, rotations, layer, .. } = config;
        let width = heads * head_dim;
        let angles = rotations.then(|| {
            let angle = |i: usize| 10_000f64.powf(-2.0 * i as f64 / width as f64) as f32;
            let angles = Tensor::from_vec((0..width).map(angle).collect(), &[heads, 1, head_dim], &build.device)?;
            let param = build.param(&[heads, 1, head_dim], Init::Zeros)?;
            param.set(&angles.cast(build.dtype)?)?;
            Ok::<_, crate::Error>(param)
        });
        let log_decay: Vec<f32> = decays(heads, layer).into_iter().map(|decay| decay as f32).collect();
        Ok(GatedLinear {
            config,
            project: Linear::new(hidden, 4 * width, false, Form::Rows, build)?,
            angles: angles.transpose()?,
            log_decay: Tensor::from_vec(log_decay, &[heads], &build.device)?.cast(build.dtype)?,
            output: Linear::new(width, hidden, false, Form::Rows, build)?,
        })
    }

    /// The layer on positions that follow those of a state; returns the state after them.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn advance(&self, x: &Tensor, before: Option<&GatedLinearState>) -> Result<(Tensor, GatedLinearState)> {
        let seen = before.map_or(0, |state| state.seen);
        let (length, [query, key, value, gate]) = (x.size(1)?, self.parts(x, seen)?);
        let options = LinearAttention {
            causal: true,
            log_decay: Some(self.log_decay.clone()),
            chunk: self.config.chunk,
            state: before.map(|state| state.sums.clone()),
            ..LinearAttention::default()
        };
        let (out, sums) = match (before, length) {
            // One position: the recurrence itself.
            (Some(state), 1) => {
                let one = |x: &Tensor| x.select(2, 0);
                let (query, key, value) = (one(&query)?, one(&key)?, one(&value)?);
                let (out, sums) = query.linear_attention_step(&key, &value, &state.sums, &options)?;
                (out.unsqueeze(2)?, sums)
            }
            _ => query.linear_attention(&key, &value, &options)?,
        };
        let normed = join_heads(&out)?.rms_norm(None, EPS)?;
        Ok((self.output.forward(&normed.mul(&gate)?)?, GatedLinearState { sums, seen: seen + length }))
    }

    /// Queries, keys, values `[batch, heads, length, ..]`, and the gate `[batch, length, heads * head_dim]`.
    fn parts(&self, x: &Tensor, seen: usize) -> Result<[Tensor; 4]> {
        let parts = self.project.forward(x)?.chunk(4, -1)?;
        let heads = |x: &Tensor| split_heads(x, self.config.heads);
        let (query, key) = (heads(&parts[0].silu()?)?, heads(&parts[1].silu()?)?);
        Ok([self.turned(&query, seen)?, self.turned(&key, seen)?, heads(&parts[2])?, parts[3].clone()])
    }

    /// `[x cos(angle t), x sin(angle t)]` for position `t`, so that products depend on distances.
    fn turned(&self, x: &Tensor, seen: usize) -> Result<Tensor> {
        let Some(angles) = &self.angles else { return Ok(x.clone()) };
        let end = seen + x.size(2)?;
        let places = Tensor::arange(seen as i64, end as i64, DType::I32, x.device())?.cast(x.dtype())?;
        let angles = places.reshape(&[1, -1, 1])?.mul(&angles.tensor())?;
        Ok(Tensor::concat(&[&x.mul(&angles.cos()?)?, &x.mul(&angles.sin()?)?], -1)?)
    }
}

impl Mixer for GatedLinear {
    /// Causal whatever the pass says.
    fn mix(&self, x: &Tensor, _: &Pass) -> Result<Tensor> {
        Ok(self.advance(x, None)?.0)
    }
}

impl Module for GatedLinear {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("qkvu_proj", &self.project);
        v.optional("angles", self.angles.as_ref());
        v.module("out_proj", &self.output);
    }
}
