//! Scores that depend on the relative position and the segments of a pair.

use wgrad::nn::{Build, Embedding, Init, Module, Param, Visitor};
use wgrad::{AttentionOptions, Buckets, Tensor};

use super::project::Projection;
use super::{AttentionConfig, Pass};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// Where pairs of a query and a key stand to each other, for scores that are added as a bias for each pair.
#[derive(Clone)]
pub struct Pairs {
    /// A vector for each relative position, `[places, hidden]`.
    pub table: Tensor,
    /// The row of the table for each pair, u32, broadcasts to `[batch, heads, queries, keys]`.
    pub places: Tensor,
    /// Which of the two segment vectors goes for each pair, likewise.
    pub segments: Option<Tensor>,
    /// Factor of what relative positions and segments add to a pair, likewise.
    pub factor: Option<Tensor>,
}

fn pairs(pass: &Pass) -> Result<&Pairs> {
    pass.pairs.as_ref().ok_or_else(|| Error::argument("pass", "the scores need relative positions, which it lacks"))
}

/// `rows [batch, heads, n, choices]` at the choice of each pair, `[batch, heads, n, m]`.
fn chosen(rows: &Tensor, choice: &Tensor) -> Result<Tensor> {
    let (&[batch, heads, n, _], Some(&m)) = (rows.shape(), choice.shape().last()) else {
        return Err(Error::argument("pairs", format!("places of shape {:?}", choice.shape())));
    };
    Ok(rows.gather(-1, &choice.expand(&[batch, heads, n, m])?)?)
}

/// Disentangled attention (He et al., DeBERTa, 2021, arXiv 2006.03654, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisentangledConfig {
    /// Whether queries meet the relative positions of keys.
    pub content_to_position: bool,
    /// Whether keys meet the relative positions of queries.
    pub position_to_content: bool,
    /// Names of the positions' projections to queries and keys; None if those of the content serve.
    pub apart: Option<[&'static str; 2]>,
}

pub(super) struct Disentangled {
    config: DisentangledConfig,
    apart: Option<[Linear; 2]>,
    heads: usize,
    head_dim: usize,
}

impl Disentangled {
    pub fn new(config: DisentangledConfig, attention: &AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let &AttentionConfig { heads, head_dim, .. } = attention;
        let linear = |bias| Linear::new(hidden, heads * head_dim, bias, Form::Rows, build);
        let apart = config.apart.map(|_| Ok::<_, Error>([linear(true)?, linear(true)?])).transpose()?;
        Ok(Disentangled { config, apart, heads, head_dim })
    }

    /// Adds `query_i . key of bucket (i, j) + key_j . query of bucket (i, j)`, and divides all by the square root of the number of terms.
    pub fn add_to(
        &self,
        options: &mut AttentionOptions,
        projection: &Projection,
        query: &Tensor,
        key: &Tensor,
        pass: &Pass,
    ) -> Result<()> {
        let Some((table, buckets)) = &pass.vectors else {
            return Err(Error::argument("pass", "disentangled attention needs vectors of distances, which it lacks"));
        };
        let DisentangledConfig { content_to_position, position_to_content, .. } = self.config;
        let terms = 1 + usize::from(content_to_position) + usize::from(position_to_content);
        let scale = 1.0 / ((self.head_dim * terms) as f64).sqrt();
        options.scale = Some(scale);
        let table = table.unsqueeze(0)?;
        // Scaled, [1, heads, head_dim, buckets].
        let project = |own: usize, shared: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Tensor> {
            let projected = match &self.apart {
                Some(layers) => {
                    let sizes = [1, -1, self.heads as isize, self.head_dim as isize];
                    layers[own].forward(&table)?.reshape(&sizes)?
                }
                None => shared(&table)?,
            };
            Ok(projected.permute(&[0, 2, 3, 1])?.mul_scalar(scale)?)
        };
        let mut added = wgrad::Disentangled { c2p: None, p2c: None, buckets: buckets.clone() };
        if content_to_position {
            added.c2p = Some(query.matmul(&project(1, &|table| projection.key(table))?)?);
        }
        if position_to_content {
            added.p2c = Some(key.matmul(&project(0, &|table| projection.query(table))?)?);
        }
        options.disentangled = (terms > 1).then_some(added);
        Ok(())
    }
}

impl Module for Disentangled {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let (Some(names), Some(layers)) = (self.config.apart, &self.apart) {
            for (name, layer) in names.iter().zip(layers) {
                v.module(name, layer);
            }
        }
    }
}

/// Relative positions and segments as in Transformer-XL (Dai et al., 2019) and XLNet (Yang et al., 2019), names included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeConfig {
    /// Projection of the table of positions.
    pub project: &'static str,
    /// How its matrix is stored.
    pub form: Form,
    /// Names of what is added to queries that meet content and positions, `[heads, head_dim]` each.
    pub added: [&'static str; 2],
    /// Names of what is added to queries that meet segments, and of the vectors of the two kinds of them, `[2, heads, head_dim]`.
    pub segments: Option<[&'static str; 2]>,
}

pub(super) struct Relative {
    config: RelativeConfig,
    project: Linear,
    added: [Param; 2],
    segments: Option<[Param; 2]>,
    heads: usize,
    scale: f64,
}

impl Relative {
    pub fn new(config: RelativeConfig, attention: &AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let &AttentionConfig { heads, head_dim, scale, .. } = attention;
        let added = || build.param(&[heads, head_dim], Init::Zeros);
        let segments = |_| Ok::<_, Error>([added()?, build.weight(&[2, heads, head_dim])?]);
        Ok(Relative {
            config,
            project: Linear::new(hidden, heads * head_dim, false, config.form, build)?,
            added: [added()?, added()?],
            segments: config.segments.map(segments).transpose()?,
            heads,
            scale: scale.unwrap_or(1.0 / (head_dim as f64).sqrt()),
        })
    }

    /// `(query_i + u) . key_j + (query_i + v) . position (i, j) + (query_i + w) . segment (i, j)`: returns the first sum, and adds the
    /// other products as a bias.
    pub fn add_to(&self, options: &mut AttentionOptions, query: &Tensor, pass: &Pass) -> Result<Tensor> {
        let Pairs { table, places, segments, factor } = pairs(pass)?;
        // Vectors of heads as [1, heads, n, head_dim].
        let by_head = |x: &Tensor| x.reshape(&[1, -1, self.heads as isize, query.shape()[3] as isize])?.transpose(1, 2);
        let [content, position] = [0, 1].map(|i| by_head(&self.added[i].tensor()));
        let meet = |added: &Tensor, vectors: &Tensor| query.add(added)?.matmul(&vectors.transpose(2, 3)?);
        let vectors = by_head(&self.project.forward(table)?)?;
        let mut bias = chosen(&meet(&position?, &vectors)?, places)?;
        if let (Some(segments), Some([added, vectors])) = (segments, &self.segments) {
            let kinds = meet(&by_head(&added.tensor())?, &by_head(&vectors.tensor())?)?;
            bias = bias.add(&chosen(&kinds, segments)?)?;
        }
        if let Some(factor) = factor {
            bias = bias.mul(factor)?;
        }
        options.bias = Some(bias.mul_scalar(self.scale)?);
        Ok(query.add(&content?)?)
    }
}

impl Module for Relative {
    fn visit(&self, v: &mut Visitor<'_>) {
        self.project.visit_as(self.config.project, v);
        let names = self.config.added.iter().chain(self.config.segments.iter().flatten());
        for (name, param) in names.zip(self.added.iter().chain(self.segments.iter().flatten())) {
            v.param(name, param);
        }
    }
}

/// A vector for each distance from a query to a key, which queries meet (Shaw et al., Self-attention with relative position representations,
/// 2018, without the term of the values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DistancesConfig {
    /// Name of the table `[left + right + 1, head_dim]` in a checkpoint.
    pub name: &'static str,
    /// Keys further before a query than this share a vector.
    pub left: usize,
    /// Keys further behind it than this share one.
    pub right: usize,
}

pub(super) struct Distances {
    config: DistancesConfig,
    table: Embedding,
    scale: f64,
}

impl Distances {
    pub fn new(config: DistancesConfig, attention: &AttentionConfig, build: &Build) -> Result<Self> {
        let &AttentionConfig { head_dim, scale, .. } = attention;
        Ok(Distances {
            config,
            table: Embedding::new(config.left + config.right + 1, head_dim, None, build)?,
            scale: scale.unwrap_or(1.0 / (head_dim as f64).sqrt()),
        })
    }

    /// Adds `query_i . vector of (j - i)`, scaled as the scores are.
    pub fn add_to(&self, options: &mut AttentionOptions, query: &Tensor, key: &Tensor) -> Result<()> {
        let (left, right) = (self.config.left as i64, self.config.right as i64);
        let place = |distance: i64| (distance.clamp(-left, right) + left) as usize;
        let buckets = Buckets::new(query.size(2)?, key.size(2)?, (left + right + 1) as usize, place)?;
        let c2p = query.matmul(&self.table.weight.tensor().transpose(0, 1)?)?.mul_scalar(self.scale)?;
        options.disentangled = Some(wgrad::Disentangled { c2p: Some(c2p), p2c: None, buckets });
        Ok(())
    }
}

impl Module for Distances {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(self.config.name, &self.table);
    }
}
