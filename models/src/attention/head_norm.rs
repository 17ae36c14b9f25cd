//! Norms of queries, keys and values.

use wgrad::Tensor;
use wgrad::nn::{Build, Module, Visitor};

use super::AttentionConfig;
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// A norm of queries and keys, and of values if they are named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadNorm {
    /// Which.
    pub norm: NormConfig,
    /// Name of the queries' norm.
    pub query: &'static str,
    /// Name of the keys' norm.
    pub key: &'static str,
    /// Name of the values' norm.
    pub value: Option<&'static str>,
    /// Whether all heads of a position are normalised as one vector, or each by itself.
    pub together: bool,
    /// Whether positions are put in before the norm.
    pub turned: bool,
}

pub(super) struct HeadNorms {
    pub config: HeadNorm,
    norms: [Option<Norm>; 3],
}

impl HeadNorms {
    pub fn new(config: HeadNorm, attention: &AttentionConfig, build: &Build) -> Result<Self> {
        let &AttentionConfig { heads, key_heads, head_dim, .. } = attention;
        if config.together && config.turned {
            return Err(Error::config(
                "a norm of all heads of a position as one vector comes before positions are put in",
            ));
        }
        let norm =
            |heads: usize| Norm::new(config.norm, if config.together { heads * head_dim } else { head_dim }, build);
        let value = config.value.map(|_| norm(key_heads)).transpose()?;
        Ok(HeadNorms { config, norms: [Some(norm(heads)?), Some(norm(key_heads)?), value] })
    }

    /// Norms of queries, keys and values, `[batch, length, heads, head_dim]`, or, of each head by itself, in any other order.
    pub fn forward(&self, heads: [Tensor; 3]) -> Result<[Tensor; 3]> {
        let normed = |x: Tensor, norm: &Option<Norm>| match norm {
            None => Ok(x),
            Some(norm) if !self.config.together => norm.forward(&x),
            Some(norm) => {
                let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
                Ok(norm.forward(&x.flatten(2, 3)?)?.reshape(&shape)?)
            }
        };
        let ([query, key, value], [of_query, of_key, of_value]) = (heads, &self.norms);
        Ok([normed(query, of_query)?, normed(key, of_key)?, normed(value, of_value)?])
    }
}

impl Module for HeadNorms {
    fn visit(&self, v: &mut Visitor<'_>) {
        let HeadNorm { query, key, value, .. } = self.config;
        for (name, norm) in [Some(query), Some(key), value].into_iter().zip(&self.norms) {
            if let (Some(name), Some(norm)) = (name, norm) {
                v.module(name, norm);
            }
        }
    }
}
