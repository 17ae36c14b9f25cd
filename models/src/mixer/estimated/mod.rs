//! SEA, sparse linear attention with an estimated mask (Lee et al., 2023, arXiv 2310.01777): linear attention estimates where the weights of full
//! attention lie, on a grid of few columns; the largest cells of the grid say which keys a query sees.

mod estimator;
mod grid;

use wgrad::nn::{Build, Module, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, DType, Device, KeyIndex, Mask, Tensor};

use super::Mixer;
use crate::attention::{AttentionConfig, Pass};
use crate::weights::{Form, Linear};
use crate::{Error, Result};
use estimator::Estimator;
use grid::{Seen, column_of};

/// Whom queries may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What is up to them, whatever the pass says (the paper's form for OPT).
    Causal {
        /// Most tokens of a sequence.
        longest: usize,
    },
    /// All real tokens of a sequence (its form for BERT).
    Both,
}

/// What an estimator is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatedConfig {
    /// Columns of the grid, a multiple of 4.
    pub columns: usize,
    /// Keys that a query sees in a head, in the mean over the heads; in both directions over heads and queries.
    pub keys: usize,
    /// Features of linear attention.
    pub features: usize,
    /// Whom queries may see.
    pub direction: Direction,
}

/// Attention to estimated keys.
pub struct Estimated {
    config: EstimatedConfig,
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    estimator: Estimator,
}

impl Estimated {
    /// A layer on vectors of `hidden`. Of the attention's configuration heads and widths count.
    ///
    /// # Errors
    /// If the columns are no multiple of 4, a number is 0, or memory is exhausted.
    pub fn new(config: EstimatedConfig, attention: &AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let EstimatedConfig { columns, keys, features, direction } = config;
        let (heads, dim) = (attention.heads, attention.head_dim);
        let none = direction == Direction::Causal { longest: 0 };
        if columns == 0 || columns % 4 != 0 || keys * features * heads == 0 || none {
            return Err(Error::config(format!("{config:?} with {heads} heads")));
        }
        let linear = |inputs, outputs| Linear::new(inputs, outputs, false, Form::Rows, build);
        Ok(Estimated {
            config,
            heads,
            query: linear(hidden, heads * dim)?,
            key: linear(hidden, heads * dim)?,
            value: linear(hidden, heads * dim)?,
            output: linear(heads * dim, hidden)?,
            estimator: Estimator::new(&config, heads, dim, build)?,
        })
    }

    /// The parameters of the estimator alone, which are what is trained to agree with full attention.
    pub fn estimator(&self) -> &dyn Module {
        &self.estimator
    }

    /// The keys of each query: those of the largest cells of the grid.
    fn choose(&self, grid: &Tensor, seen: &Seen, real: Option<&Tensor>) -> Result<KeyIndex> {
        let keys = self.config.keys;
        // In both directions, the queries of a sample share what is kept too.
        let spread = if self.config.direction == Direction::Both { 4 } else { 2 };
        let kept = grid::kept(grid, seen, keys, real)?;
        grid::lists(&kept, seen, (spread * keys).min(grid.size(2)?))
    }

    fn seen(&self, x: &Tensor, real: Option<&Tensor>) -> Result<Seen> {
        match self.config.direction {
            Direction::Causal { .. } => Ok(Seen::Causal),
            Direction::Both => Seen::real(real, x.size(-2)?, x.device()),
        }
    }

    /// The column of each key, and what no query may see: both broadcast to `[batch, heads, queries, keys]`.
    fn columns(
        &self,
        seen: &Seen,
        length: usize,
        real: Option<&Tensor>,
        device: &Device,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let numbers = Tensor::arange(0, length as i64, DType::I32, device)?;
        let (numbers, hidden) = match (seen, real) {
            (Seen::Causal, _) => (numbers, Some(Tensor::ones(&[length, length], DType::Bool, device)?.triu(1)?)),
            (Seen::Real { .. }, None) => (numbers, None),
            (Seen::Real { .. }, Some(real)) => {
                let before = real.cast(DType::I32)?.cumsum(1)?.sub(&Tensor::scalar(1.0, DType::I32, device)?)?;
                let wide = |x: &Tensor| x.unsqueeze(1)?.unsqueeze(1);
                (wide(&before)?, Some(wide(&real.logical_not()?)?))
            }
        };
        Ok((column_of(&numbers, &seen.count(length, device)?, self.config.columns)?, hidden))
    }

    /// The estimated weights of all keys `[batch, heads, queries, keys]`, as logits, -1e9 where no query may see them.
    fn expanded(&self, grid: &Tensor, seen: &Seen, real: Option<&Tensor>) -> Result<Tensor> {
        let (batch, heads, length) = (grid.size(0)?, grid.size(1)?, grid.size(2)?);
        let (columns, hidden) = self.columns(seen, length, real, grid.device())?;
        let logits = grid.gather(-1, &columns.expand(&[batch, heads, length, length])?)?;
        Ok(hidden.map_or(Ok(logits.clone()), |hidden| logits.masked_fill(&hidden, -1e9))?)
    }

    /// The mean of the estimated weights over real queries, for all keys `[batch, heads, 1, keys]`.
    fn mean_weights(&self, grid: &Tensor, seen: &Seen, real: Option<&Tensor>) -> Result<Tensor> {
        let (batch, heads, length) = (grid.size(0)?, grid.size(1)?, grid.size(2)?);
        let weights = of_real(grid.detach().softmax(-1)?, real)?.sum(&[2], true)?;
        let (columns, hidden) = self.columns(seen, length, real, grid.device())?;
        let columns = columns.expand(&[batch, 1, 1, length])?.expand(&[batch, heads, 1, length])?;
        let mut weights = weights.gather(-1, &columns)?;
        if let Some(hidden) = hidden {
            weights = weights.masked_fill(&hidden, 0.0)?;
        }
        // A sample without a real token has no mean.
        Ok(weights.div(&weights.sum(&[-1], true)?.clamp(Some(1e-30), None)?)?)
    }

    /// How far estimated weights and results are from those of full attention, of a teacher or else of the layer itself: 0.1 times the
    /// Kullback-Leibler divergence and the squared differences (the paper's losses of a layer), and the same of the weights that its own
    /// queries and keys have in full. All weights are in memory.
    fn distance(
        &self,
        logits: &Tensor,
        own: [&Tensor; 3],
        teacher: Option<[Tensor; 3]>,
        out: &Tensor,
        pass: &Pass,
        real: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mask = match self.config.direction {
            Direction::Causal { .. } => Mask::causal(0),
            Direction::Both => pass.mask(None),
        };
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        let taught = teacher.is_some();
        let [query, key, value] = teacher.unwrap_or_else(|| own.map(Tensor::detach));
        let weights = of_real(query.attention_weights(&key, &options)?, real)?;
        let &[batch, heads, length, dim] = own[0].shape() else {
            return Err(Error::argument("Estimated", format!("queries of shape {:?}", own[0].shape())));
        };
        let all = (batch * heads * length) as f64;
        let queries = match real {
            // As many heads for each real token.
            Some(real) => real.cast(weights.dtype())?.sum_all()?.mul_scalar(heads as f64)?,
            None => Tensor::scalar(all, weights.dtype(), weights.device())?,
        };
        // A mean over real queries.
        let mse = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
            let mean = wgrad::nn::loss::mse(a, b, wgrad::Reduction::Mean)?;
            Ok(mean.mul_scalar(all)?.div(&queries)?)
        };
        let apart = |logits: &Tensor| -> Result<Tensor> {
            let logs = logits.log_softmax(-1)?;
            let divergence = wgrad::nn::loss::kl_div(&logs, &weights, false, wgrad::Reduction::Sum)?;
            Ok(divergence.mul_scalar(0.1)?.div(&queries)?.add(&mse(&of_real(logs.exp()?, real)?, &weights)?)?)
        };
        let result = of_real(query.attention(&key, &value, &options)?, real)?;
        let loss = apart(logits)?.add(&mse(&of_real(out.clone(), real)?, &result)?)?;
        if !taught {
            return Ok(loss);
        }
        let in_full = own[0].mul_scalar((dim as f64).sqrt().recip())?.matmul(&own[1].transpose(2, 3)?)?;
        let hidden = logits.detach().lt(&Tensor::scalar(-1e8, logits.dtype(), logits.device())?)?;
        Ok(loss.add(&apart(&in_full.masked_fill(&hidden, -1e9)?)?)?)
    }
}

/// `x [batch, .., queries, width]` with zeros for queries, or keys, that are not `real [batch, queries]`.
fn of_real(x: Tensor, real: Option<&Tensor>) -> Result<Tensor> {
    let Some(real) = real else { return Ok(x) };
    Ok(x.mul(&real.cast(x.dtype())?.unsqueeze(1)?.unsqueeze(-1)?)?)
}

impl Mixer for Estimated {
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let heads = |layer: &Linear| Ok::<_, Error>(split_heads(&layer.forward(x)?, self.heads)?);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let real = match self.config.direction {
            Direction::Causal { .. } => None,
            Direction::Both => pass.real_of(x)?,
        };
        let real = real.as_ref();
        let seen = self.seen(x, real)?;
        let [grid, gates] = self.estimator.forward([&query.detach(), &key.detach(), &value.detach()], real)?;
        let index = self.choose(&grid, &seen, real)?;
        let chosen = query.sparse_attention(&key, &value, &index, &AttentionOptions::default())?;
        // How much of it counts, beside a mean of values: of all so far, or by the mean of the estimated weights.
        let gates = gates.sigmoid()?;
        let (scale, share) = (gates.narrow(-1, 0, 1)?, gates.narrow(-1, 1, 1)?);
        let mean = match &seen {
            Seen::Causal => {
                let counts = Tensor::arange(1, x.size(1)? as i64 + 1, DType::I32, x.device())?.cast(x.dtype())?;
                value.cumsum(2)?.div(&counts.reshape(&[-1, 1])?)?
            }
            Seen::Real { .. } => self.mean_weights(&grid, &seen, real)?.matmul(&value)?,
        };
        let out = chosen.mul(&scale)?.mul(&share)?.add(&mean.mul(&share.affine(-1.0, 1.0)?)?)?;
        if let Some(losses) = &pass.losses {
            let logits = self.expanded(&grid, &seen, real)?;
            losses.add(self.distance(&logits, [&query, &key, &value], losses.lesson()?, &out, pass, real)?);
        }
        self.output.forward(&join_heads(&out)?)
    }
}

impl Module for Estimated {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("output", &self.output);
        v.module("estimator", &self.estimator);
    }
}

#[cfg(test)]
mod tests;
