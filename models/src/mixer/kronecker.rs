//! Kronecker attention (Gao et al., 2020, arXiv 2007.08442): attention over a map of rows and columns through the means of its rows and
//! of its columns, at the cost of `rows + columns` positions in place of `rows * columns`.

use wgrad::nn::{Build, Module, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, Tensor};

use super::Mixer;
use crate::attention::Pass;
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// What the queries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KroneckerKind {
    /// All positions; keys and values are the means (KAO_KV).
    Positions,
    /// The means too: a position gets the sum of what its row and its column got (KAO_QKV).
    Means,
}

/// A layer on maps of `rows` times `columns` positions.
pub struct Kronecker {
    kind: KroneckerKind,
    heads: usize,
    map: [usize; 2],
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Kronecker {
    /// A layer on vectors of `hidden`; `map` is the number of rows and of columns.
    ///
    /// # Errors
    /// If `heads` does not divide `hidden`, the map is empty, or memory is exhausted.
    pub fn new(kind: KroneckerKind, heads: usize, map: [usize; 2], hidden: usize, build: &Build) -> Result<Self> {
        if heads == 0 || !hidden.is_multiple_of(heads) || map.contains(&0) {
            return Err(Error::config(format!("width {hidden} in {heads} heads on a map of {map:?}")));
        }
        let linear = || Linear::new(hidden, hidden, false, Form::Rows, build);
        Ok(Kronecker { kind, heads, map, query: linear()?, key: linear()?, value: linear()?, output: linear()? })
    }

    /// The means of the rows and of the columns of `x [batch, rows, columns, hidden]`: `[batch, rows + columns, hidden]`.
    fn means(x: &Tensor) -> Result<Tensor> {
        Ok(Tensor::concat(&[&x.mean(&[2], false)?, &x.mean(&[1], false)?], 1)?)
    }
}

impl Mixer for Kronecker {
    /// Every position sees all: masks are not looked at.
    fn mix(&self, x: &Tensor, _: &Pass) -> Result<Tensor> {
        let ([rows, columns], [batch, hidden]) = (self.map, [x.size(0)?, x.size(-1)?]);
        let sizes = [batch, rows, columns, hidden].map(|n| n as isize);
        let map = x.reshape(&sizes)?;
        let means = Self::means(&map)?;
        let heads = |layer: &Linear, x: &Tensor| Ok::<_, Error>(split_heads(&layer.forward(x)?, self.heads)?);
        let query = if self.kind == KroneckerKind::Means { &means } else { x };
        let (query, key, value) = (heads(&self.query, query)?, heads(&self.key, &means)?, heads(&self.value, &means)?);
        let out = join_heads(&query.attention(&key, &value, &AttentionOptions::default())?)?;
        let out = match self.kind {
            KroneckerKind::Positions => out,
            KroneckerKind::Means => {
                let of_rows = out.narrow(1, 0, rows)?.unsqueeze(2)?;
                let of_columns = out.narrow(1, rows, columns)?.unsqueeze(1)?;
                of_rows.add(&of_columns)?.flatten(1, 2)?
            }
        };
        self.output.forward(&out)
    }
}

impl Module for Kronecker {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("output", &self.output);
    }
}
