//! Multi-head latent attention (DeepSeek-V2, 2024, arXiv 2405.04434): keys and values of all heads are made from one short vector a
//! position, which is all that decoding has to keep.

use wgrad::nn::{Build, Module, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, Mask, Tensor};

use super::Mixer;
use crate::attention::Pass;
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// What a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentConfig {
    /// Heads.
    pub heads: usize,
    /// Width of the short vector that queries are made from.
    pub query_rank: usize,
    /// Width of the short vector that keys and values are made from.
    pub rank: usize,
    /// Elements of a head's query and key without position.
    pub plain_dim: usize,
    /// Elements with rotary positions; those of the key are shared by all heads.
    pub rotary_dim: usize,
    /// Elements of a head's value.
    pub value_dim: usize,
    /// Base of the rotary wavelengths.
    pub theta: f64,
    /// Added to the mean squares in the norms.
    pub eps: f64,
}

impl LatentConfig {
    /// Numbers that decoding keeps for a position; attention with keys and values for each head would keep `heads * (plain_dim +
    /// rotary_dim + value_dim)`.
    pub fn kept(&self) -> usize {
        self.rank + self.rotary_dim
    }
}

/// What decoding keeps: `[batch, 1, positions, rank + rotary_dim]`.
#[derive(Clone, Default)]
pub struct LatentCache {
    rows: Option<Tensor>,
}

impl LatentCache {
    /// What is kept, if anything.
    pub fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref()
    }
}

/// A layer of latent attention.
pub struct Latent {
    config: LatentConfig,
    query_down: Linear,
    query_norm: Norm,
    query_up: Linear,
    down: Linear,
    norm: Norm,
    up: Linear,
    output: Linear,
}

impl Latent {
    /// A layer on vectors of `hidden`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: LatentConfig, hidden: usize, build: &Build) -> Result<Self> {
        let LatentConfig { heads, query_rank, rank, plain_dim, rotary_dim, value_dim, eps, .. } = config;
        let linear = |inputs, outputs| Linear::new(inputs, outputs, false, Form::Rows, build);
        Ok(Latent {
            query_down: linear(hidden, query_rank)?,
            query_norm: Norm::new(NormConfig::rms(eps), query_rank, build)?,
            query_up: linear(query_rank, heads * (plain_dim + rotary_dim))?,
            down: linear(hidden, rank + rotary_dim)?,
            norm: Norm::new(NormConfig::rms(eps), rank, build)?,
            up: linear(rank, heads * (plain_dim + value_dim))?,
            output: linear(heads * value_dim, hidden)?,
            config,
        })
    }

    /// The queries `[batch, heads, length, plain_dim]` and `[.., rotary_dim]`, and what is kept of the keys, `[batch, 1, length, rank]`
    /// and `[.., rotary_dim]`.
    fn parts(&self, x: &Tensor, pass: &Pass) -> Result<[Tensor; 4]> {
        let LatentConfig { heads, rank, plain_dim, rotary_dim, theta, .. } = self.config;
        let positions =
            pass.positions.as_ref().ok_or_else(|| Error::argument("Latent", "the pass has no positions"))?;
        let turned = |x: &Tensor| x.rotary(positions, theta, rotary_dim, true);
        let query = self.query_up.forward(&self.query_norm.forward(&self.query_down.forward(x)?)?)?;
        let query = split_heads(&query, heads)?;
        let down = self.down.forward(x)?;
        let latent = self.norm.forward(&down.narrow(-1, 0, rank)?)?.unsqueeze(1)?;
        let key = turned(&down.narrow(-1, rank, rotary_dim)?.unsqueeze(1)?)?;
        let turned_query = turned(&query.narrow(-1, plain_dim, rotary_dim)?)?;
        Ok([query.narrow(-1, 0, plain_dim)?, turned_query, latent, key])
    }

    fn options(&self, mask: Mask) -> AttentionOptions {
        let LatentConfig { plain_dim, rotary_dim, .. } = self.config;
        let scale = Some(1.0 / ((plain_dim + rotary_dim) as f64).sqrt());
        AttentionOptions { scale, mask, ..AttentionOptions::default() }
    }

    /// The matrices that make keys and values of the short vector: `[heads, plain_dim, rank]` and `[heads, value_dim, rank]`.
    fn ups(&self) -> Result<[Tensor; 2]> {
        let LatentConfig { heads, rank, plain_dim, value_dim, .. } = self.config;
        let sizes = [heads, plain_dim + value_dim, rank].map(|n| n as isize);
        let up = self.up.matrix()?.reshape(&sizes)?;
        Ok([up.narrow(1, 0, plain_dim)?, up.narrow(1, plain_dim, value_dim)?])
    }

    /// Decoding: positions that follow those of a cache, which keeps `rank + rotary_dim` numbers for each. The matrices of keys and
    /// values are multiplied into queries and results instead, so that attention is that of one key head.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn decode(&self, x: &Tensor, pass: &Pass, cache: &mut LatentCache) -> Result<Tensor> {
        let [plain, turned, latent, key] = self.parts(x, pass)?;
        let [key_up, value_up] = self.ups()?;
        let query = Tensor::concat(&[&plain.matmul(&key_up.unsqueeze(0)?)?, &turned], -1)?;
        let own = Tensor::concat(&[&latent, &key], -1)?;
        let rows = match &cache.rows {
            Some(before) => Tensor::concat(&[before, &own], 2)?,
            None => own,
        };
        let values = rows.narrow(-1, 0, self.config.rank)?;
        let mask = pass.mask(None);
        let out = query.attention(&rows, &values, &self.options(mask))?;
        cache.rows = Some(rows);
        let out = out.matmul(&value_up.transpose(1, 2)?.unsqueeze(0)?)?;
        self.output.forward(&join_heads(&out)?)
    }
}

impl Mixer for Latent {
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let LatentConfig { heads, plain_dim, rotary_dim, value_dim, .. } = self.config;
        let [plain, turned, latent, shared] = self.parts(x, pass)?;
        let both = split_heads(&self.up.forward(&latent.squeeze(1)?)?, heads)?;
        let (key, value) = (both.narrow(-1, 0, plain_dim)?, both.narrow(-1, plain_dim, value_dim)?);
        let (batch, length) = (x.size(0)?, x.size(1)?);
        let shared = shared.expand(&[batch, heads, length, rotary_dim])?;
        let query = Tensor::concat(&[&plain, &turned], -1)?;
        let key = Tensor::concat(&[&key, &shared], -1)?;
        let out = query.attention(&key, &value, &self.options(pass.mask(None)))?;
        self.output.forward(&join_heads(&out)?)
    }
}

impl Module for Latent {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("q_a_proj", &self.query_down);
        v.module("q_a_layernorm", &self.query_norm);
        v.module("q_b_proj", &self.query_up);
        v.module("kv_a_proj_with_mqa", &self.down);
        v.module("kv_a_layernorm", &self.norm);
        v.module("kv_b_proj", &self.up);
        v.module("o_proj", &self.output);
    }
}
