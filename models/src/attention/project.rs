//! From hidden states to queries, keys and values.

use wgrad::Tensor;
use wgrad::nn::{Build, Module, Visitor};

use super::AttentionConfig;
use crate::Result;
use crate::weights::Linear;

/// The layers, by their names in a checkpoint, and how the rows of a joint one are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Project {
    /// One layer for each.
    Apart {
        /// Queries.
        query: &'static str,
        /// Keys.
        key: &'static str,
        /// Values.
        value: &'static str,
    },
    /// One for all: all heads' queries, then all keys, then all values.
    Thirds(&'static str),
    /// One for all: for each key head the queries that share it, the key, and the value.
    Groups(&'static str),
}

pub(super) struct Projection {
    project: Project,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    layers: Vec<(&'static str, Linear)>,
}

impl Projection {
    pub fn new(config: &AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let &AttentionConfig { project, heads, key_heads, head_dim, bias, form, .. } = config;
        let linear = |heads: usize, bias| Linear::new(hidden, heads * head_dim, bias, form, build);
        let layers = match project {
            Project::Apart { query, key, value } => vec![
                (query, linear(heads, bias.query)?),
                (key, linear(key_heads, bias.key)?),
                (value, linear(key_heads, bias.value)?),
            ],
            Project::Thirds(name) | Project::Groups(name) => vec![(name, linear(heads + 2 * key_heads, bias.query)?)],
        };
        Ok(Projection { project, heads, key_heads, head_dim, layers })
    }

    /// Queries of `x [batch, length, hidden]`, keys and values of `context`, each `[batch, length, heads, head_dim]`.
    pub fn forward(&self, x: &Tensor, context: &Tensor) -> Result<[Tensor; 3]> {
        match &self.layers[..] {
            [(_, query), (_, key), (_, value)] => Ok([
                self.split(&query.forward(x)?, self.heads)?,
                self.split(&key.forward(context)?, self.key_heads)?,
                self.split(&value.forward(context)?, self.key_heads)?,
            ]),
            // A joint matrix of queries for one and of keys for the other is not met in any checkpoint.
            _ => self.joint(x),
        }
    }

    /// Queries alone.
    pub fn query(&self, x: &Tensor) -> Result<Tensor> {
        match &self.layers[..] {
            [(_, query), _, _] => self.split(&query.forward(x)?, self.heads),
            _ => Ok(self.joint(x)?[0].clone()),
        }
    }

    /// Keys alone.
    pub fn key(&self, x: &Tensor) -> Result<Tensor> {
        match &self.layers[..] {
            [_, (_, key), _] => self.split(&key.forward(x)?, self.key_heads),
            _ => Ok(self.joint(x)?[1].clone()),
        }
    }

    /// Values alone.
    pub fn value(&self, x: &Tensor) -> Result<Tensor> {
        match &self.layers[..] {
            [_, _, (_, value)] => self.split(&value.forward(x)?, self.key_heads),
            _ => Ok(self.joint(x)?[2].clone()),
        }
    }

    fn joint(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let (heads, key_heads, share) = (self.heads, self.key_heads, self.heads / self.key_heads);
        let Some((_, layer)) = self.layers.first() else { return Ok([x.clone(), x.clone(), x.clone()]) };
        let all = layer.forward(x)?;
        if let Project::Groups(_) = self.project {
            let sizes = [x.shape()[0], x.shape()[1], key_heads, share + 2, self.head_dim].map(|n| n as isize);
            let groups = all.reshape(&sizes)?;
            let part = |start, length| groups.narrow(3, start, length)?.flatten(2, 3);
            return Ok([part(0, share)?, part(share, 1)?, part(share + 1, 1)?]);
        }
        let all = self.split(&all, heads + 2 * key_heads)?;
        let part = |start, length| all.narrow(2, start, length);
        Ok([part(0, heads)?, part(heads, key_heads)?, part(heads + key_heads, key_heads)?])
    }

    fn split(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let sizes = [x.shape()[0], x.shape()[1], heads, self.head_dim].map(|n| n as isize);
        Ok(x.reshape(&sizes)?)
    }
}

impl Module for Projection {
    fn visit(&self, v: &mut Visitor<'_>) {
        for (name, layer) in &self.layers {
            layer.visit_as(name, v);
        }
    }
}
