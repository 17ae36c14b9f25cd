//! Relative positions that all layers of a stack share.

use wgrad::nn::{Build, Embedding, Module, Visitor, alibi, alibi_slopes, relative_bias};
use wgrad::{Buckets, Tensor};

use super::Pass;
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// What scores know of distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DistanceConfig {
    /// Nothing.
    None,
    /// A bias for each bucket of distances and each head (Raffel et al., T5, 2020).
    Buckets {
        /// Name of the table `[buckets, heads]` in a checkpoint.
        name: &'static str,
        /// Its rows.
        buckets: usize,
        /// Heads.
        heads: usize,
        /// From this distance on all share the last bucket.
        far: usize,
        /// Whether later keys have buckets of their own.
        bidirectional: bool,
    },
    /// A bias that falls with the distance, at a slope for each head (Press et al., ALiBi, 2022).
    Alibi {
        /// Heads.
        heads: usize,
        /// Factor of the slopes.
        scale: f64,
    },
    /// A vector for each bucket of distances, for disentangled attention (He et al., DeBERTa, 2021).
    Vectors {
        /// Name of the table `[2 * span, width]` in a checkpoint.
        name: &'static str,
        /// Name and kind of the norm of its rows.
        norm: Option<(&'static str, NormConfig)>,
        /// Rows for each direction.
        span: usize,
        /// Width of the vectors.
        width: usize,
        /// Whether far distances share rows, and up to which distance.
        log: Option<usize>,
    },
}

/// The tables of a stack.
pub struct Distance {
    config: DistanceConfig,
    table: Option<Embedding>,
    norm: Option<Norm>,
}

impl Distance {
    /// New tables.
    ///
    /// # Errors
    /// If a size is zero, or memory is exhausted.
    pub fn new(config: DistanceConfig, build: &Build) -> Result<Self> {
        let (rows, width, norm) = match config {
            DistanceConfig::Buckets { buckets, heads, far, .. } if buckets >= 4 && far > buckets / 2 => {
                (buckets, heads, None)
            }
            DistanceConfig::Vectors { span, width, norm, log, .. }
                if span >= 1 && log.is_none_or(|far| span >= 4 && far > span / 2 + 1) =>
            {
                (2 * span, width, norm)
            }
            DistanceConfig::None | DistanceConfig::Alibi { .. } => {
                return Ok(Distance { config, table: None, norm: None });
            }
            _ => return Err(Error::config(format!("unusable relative positions: {config:?}"))),
        };
        let table = Embedding::new(rows, width, None, build)?;
        let norm = norm.map(|(_, norm)| Norm::new(norm, width, build)).transpose()?;
        Ok(Distance { config, table: Some(table), norm })
    }

    /// Tells a pass of `queries` after `pass.offset` others.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn tell(&self, pass: &mut Pass, queries: usize, like: &Tensor) -> Result<()> {
        let (offset, keys) = (pass.offset as i64, queries + pass.offset);
        let table = self.table.as_ref().map(|table| table.weight.tensor());
        match (self.config, table) {
            (DistanceConfig::Alibi { heads, scale }, _) => {
                let slopes: Vec<f32> = alibi_slopes(heads).into_iter().map(|slope| (slope * scale) as f32).collect();
                let slopes = Tensor::from_vec(slopes, &[heads], like.device())?.cast(like.dtype())?;
                pass.relative_bias = Some(alibi(&slopes, queries, keys, offset)?);
            }
            (DistanceConfig::Buckets { far, bidirectional, .. }, Some(table)) => {
                pass.relative_bias = Some(relative_bias(&table, queries, keys, offset, far, bidirectional)?);
            }
            (DistanceConfig::Vectors { span, log, .. }, Some(mut table)) => {
                if let Some(norm) = &self.norm {
                    table = norm.forward(&table)?;
                }
                let buckets = Buckets::disentangled(queries, keys, span, log)?;
                pass.vectors = Some((table, buckets));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sinusoids of `positions`, the sines before the cosines: `[positions, width]`.
///
/// # Errors
/// If memory is exhausted.
pub fn sinusoids(positions: impl Iterator<Item = f64>, width: usize, like: &Tensor) -> Result<Tensor> {
    let half = width / 2;
    let angle = |position: f64, k: usize| position / 10_000f64.powf(k as f64 / half as f64);
    let mut values = Vec::new();
    let mut rows = 0;
    for position in positions {
        values.extend((0..half).map(|k| angle(position, k).sin() as f32));
        values.extend((0..half).map(|k| angle(position, k).cos() as f32));
        rows += 1;
    }
    Ok(Tensor::from_vec(values, &[rows, 2 * half], like.device())?.cast(like.dtype())?)
}

impl Module for Distance {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let (DistanceConfig::Buckets { name, .. } | DistanceConfig::Vectors { name, .. }, Some(table)) =
            (self.config, &self.table)
        {
            v.module(name, table);
        }
        if let (DistanceConfig::Vectors { norm: Some((name, _)), .. }, Some(norm)) = (self.config, &self.norm) {
            v.module(name, norm);
        }
    }
}
