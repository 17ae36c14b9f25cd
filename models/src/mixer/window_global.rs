//! Longformer's attention (Beltagy et al., 2020, arXiv 2004.05150): a token sees those near it and the first few, which see all.

use wgrad::nn::{Build, Module, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, Mask, Tensor};

use super::Mixer;
use crate::attention::{AttentionConfig, Pass};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// A layer of windows and global tokens. Global tokens have projections of their own, as in Longformer.
pub struct WindowGlobal {
    config: AttentionConfig,
    window: usize,
    global: usize,
    /// Of all tokens.
    query: Linear,
    key: Linear,
    value: Linear,
    /// Of the first tokens, as they look at all.
    global_query: Linear,
    global_key: Linear,
    global_value: Linear,
    output: Linear,
}

impl WindowGlobal {
    /// A layer in which a token sees `window` tokens on each side and the first `global` ones. Of the configuration heads, widths and rotary
    /// positions count.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: &AttentionConfig, window: usize, global: usize, hidden: usize, build: &Build) -> Result<Self> {
        let width = config.heads * config.head_dim;
        let linear = || Linear::new(hidden, width, true, Form::Rows, build);
        Ok(WindowGlobal {
            config: *config,
            window,
            global,
            query: linear()?,
            key: linear()?,
            value: linear()?,
            global_query: linear()?,
            global_key: linear()?,
            global_value: linear()?,
            output: Linear::new(width, hidden, true, Form::Rows, build)?,
        })
    }

    fn heads(&self, layer: &Linear, x: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
        let x = split_heads(&layer.forward(x)?, self.config.heads)?;
        Ok(match (self.config.rotary, positions) {
            (Some(rotary), Some(positions)) => x.rotary(positions, rotary.theta, rotary.dim, rotary.interleaved)?,
            _ => x,
        })
    }
}

impl Mixer for WindowGlobal {
    /// Under the pass's mask too.
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (length, mask) = (x.size(1)?, pass.mask(None));
        let global = self.global.min(length);
        let positions = pass.positions.as_ref();
        let part = |start: usize, count: usize| positions.map(|p| p.narrow(1, start, count)).transpose();
        let options = |mask| AttentionOptions { mask, ..AttentionOptions::default() };
        let mut parts = Vec::new();
        if global > 0 {
            let first = x.narrow(1, 0, global)?;
            let query = self.heads(&self.global_query, &first, part(0, global)?.as_ref())?;
            let (key, value) = (self.heads(&self.global_key, x, positions)?, self.heads(&self.global_value, x, None)?);
            parts.push(query.attention(&key, &value, &options(mask.clone()))?);
        }
        if length > global {
            let rest = x.narrow(1, global, length - global)?;
            let query = self.heads(&self.query, &rest, part(global, length - global)?.as_ref())?;
            let (key, value) = (self.heads(&self.key, x, positions)?, self.heads(&self.value, x, None)?);
            let near = Mask::sink_window(global, self.window, self.window);
            let near = mask.and(near).at(global as i64);
            parts.push(query.attention(&key, &value, &options(near))?);
        }
        let out = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 2).map_err(Error::from)?;
        self.output.forward(&join_heads(&out)?)
    }
}

impl Module for WindowGlobal {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("query_global", &self.global_query);
        v.module("key_global", &self.global_key);
        v.module("value_global", &self.global_value);
        v.module("output", &self.output);
    }
}
