//! Attention layers: projections, positions, scores and masks, on the engine's fused attention.

mod cache;
mod deformable;
mod distance;
mod dynamic;
mod head_norm;
mod pairs;
mod pass;
mod project;
mod rotary;

use wgrad::nn::{Build, Dropout, Module, Visitor, join_heads};
use wgrad::{AttentionOptions, KvCache, Rope, Tensor};

pub use cache::KeyValues;
pub use deformable::{Deformable, DeformableConfig};
pub use distance::{Distance, DistanceConfig, sinusoids};
pub use dynamic::DynamicConfig;
pub use head_norm::HeadNorm;
pub use pairs::{DisentangledConfig, DistancesConfig, Pairs, RelativeConfig};
pub use pass::{Lessons, Losses, Pass, Window};
pub use project::Project;
pub use rotary::{Rotary, Stretch};

use crate::gain::{Gain, GainConfig};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};
use dynamic::Dynamic;
use head_norm::HeadNorms;
use pairs::{Disentangled, Distances, Relative};
use project::Projection;

/// Which of the layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bias {
    /// Of the projection to queries; where one matrix makes all three, of that.
    pub query: bool,
    /// Of the projection to keys.
    pub key: bool,
    /// Of the projection to values.
    pub value: bool,
    /// Of the output.
    pub output: bool,
}

impl Bias {
    /// All four, or none.
    pub fn all(bias: bool) -> Self {
        Bias { query: bias, key: bias, value: bias, output: bias }
    }

    /// The three projections to heads.
    pub fn heads(bias: bool) -> Self {
        Bias { output: false, ..Bias::all(bias) }
    }
}

/// What is added to the scores beside products of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scores {
    /// Nothing but what the pass says.
    Plain,
    /// DeBERTa's products of content and relative position.
    Disentangled(DisentangledConfig),
    /// Transformer-XL's products with relative positions and segments.
    Relative(RelativeConfig),
    /// Products of queries with a vector for each distance.
    Distances(DistancesConfig),
    /// Doge's dynamic mask.
    Dynamic(DynamicConfig),
}

/// What an attention layer is made of. Names are those of a checkpoint, below the block's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, each shared by `heads / key_heads` heads of queries.
    pub key_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The projections to heads.
    pub project: Project,
    /// The projection back.
    pub output: &'static str,
    /// Which of them have biases.
    pub bias: Bias,
    /// How the matrices to heads are stored.
    pub form: Form,
    /// How the matrix of the output is stored.
    pub output_form: Form,
    /// Factor of the scores; `1 / sqrt(head_dim)` if absent.
    pub scale: Option<f64>,
    /// Bound of the scores, by a tanh.
    pub softcap: Option<f64>,
    /// How far a query sees, if not all of what the pass allows.
    pub window: Option<Window>,
    /// Rotary positions.
    pub rotary: Option<Rotary>,
    /// Whether they turn what queries and keys are made of, in as many parts as there are heads, rather than queries and keys.
    pub turns_input: bool,
    /// Norm of queries and keys.
    pub norm: Option<HeadNorm>,
    /// Learned factor of each element of queries and of keys, the same for both, after norm and positions.
    pub query_key_gain: Option<GainConfig>,
    /// Learned factor of the scores.
    pub score_gain: Option<GainConfig>,
    /// Learned factor of what comes out of each head.
    pub head_gain: Option<GainConfig>,
    /// Name and kind of a norm of all heads' outputs together, before the projection back.
    pub output_norm: Option<(&'static str, NormConfig)>,
    /// Further terms of the scores.
    pub scores: Scores,
    /// Dropout of the weights while training.
    pub dropout: f64,
}

impl AttentionConfig {
    /// Attention of `heads` heads with biases and nothing special.
    pub fn new(heads: usize, head_dim: usize, project: Project, output: &'static str) -> Self {
        AttentionConfig {
            heads,
            key_heads: heads,
            head_dim,
            project,
            output,
            bias: Bias::all(true),
            form: Form::Rows,
            output_form: Form::Rows,
            scale: None,
            softcap: None,
            window: None,
            rotary: None,
            turns_input: false,
            norm: None,
            query_key_gain: None,
            score_gain: None,
            head_gain: None,
            output_norm: None,
            scores: Scores::Plain,
            dropout: 0.0,
        }
    }
}

/// Terms of the scores with their parameters.
enum Terms {
    Plain,
    Disentangled(Disentangled),
    Relative(Relative),
    Distances(Distances),
    Dynamic(Dynamic),
}

/// An attention layer.
pub struct Attention {
    config: AttentionConfig,
    projection: Projection,
    norms: Option<HeadNorms>,
    /// Of queries and keys, of scores, and of heads.
    gains: [Option<Gain>; 3],
    output_norm: Option<(&'static str, Norm)>,
    rope: Option<Rope>,
    terms: Terms,
    output: Linear,
    dropout: Dropout,
}

impl Attention {
    /// A layer from vectors of `hidden` to vectors of `hidden`.
    ///
    /// # Errors
    /// If the numbers of heads do not fit each other, or memory is exhausted.
    pub fn new(config: AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let AttentionConfig { heads, key_heads, head_dim, bias, output_form, .. } = config;
        if heads == 0 || key_heads == 0 || head_dim == 0 || !heads.is_multiple_of(key_heads) {
            let message = format!("{heads} attention heads of width {head_dim} with {key_heads} key heads");
            return Err(Error::config(message));
        }
        if config.query_key_gain.is_some() && heads != key_heads {
            let message = format!("one learned factor for queries of {heads} heads and keys of {key_heads}");
            return Err(Error::config(message));
        }
        let gain = |gain: Option<GainConfig>, width| gain.map(|gain| Gain::new(gain, width, build)).transpose();
        let output_norm = |(name, norm)| Ok::<_, Error>((name, Norm::new(norm, heads * head_dim, build)?));
        let terms = match config.scores {
            Scores::Plain => Terms::Plain,
            Scores::Disentangled(c) => Terms::Disentangled(Disentangled::new(c, &config, hidden, build)?),
            Scores::Relative(c) => Terms::Relative(Relative::new(c, &config, hidden, build)?),
            Scores::Distances(c) => Terms::Distances(Distances::new(c, &config, build)?),
            Scores::Dynamic(c) => Terms::Dynamic(Dynamic::new(c, &config, build)?),
        };
        Ok(Attention {
            projection: Projection::new(&config, hidden, build)?,
            norms: config.norm.map(|norm| HeadNorms::new(norm, &config, build)).transpose()?,
            gains: [
                gain(config.query_key_gain, heads * head_dim)?,
                gain(config.score_gain, 1)?,
                gain(config.head_gain, heads)?,
            ],
            output_norm: config.output_norm.map(output_norm).transpose()?,
            rope: config.rotary.map(|rotary| rotary.rope()).transpose()?,
            terms,
            output: Linear::new(heads * head_dim, hidden, bias.output, output_form, build)?,
            dropout: Dropout::new(config.dropout)?,
            config,
        })
    }

    /// How far a query sees.
    pub fn window(&self) -> Option<Window> {
        self.config.window
    }

    /// Attention of `x [batch, queries, hidden]` to `context [batch, keys, hidden]`, `x` itself if absent; adds a residual. Keys
    /// and values of a `cache` come before those of this pass, and are kept with them.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        pass: &Pass,
        cache: Option<&mut KeyValues>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let context = context.unwrap_or(x);
        let mut heads = match (self.placed(x, pass)?, self.placed(context, pass)?) {
            (Some(x), Some(placed)) => {
                [self.projection.query(&x)?, self.projection.key(&placed)?, self.projection.value(context)?]
            }
            _ => self.projection.forward(x, context)?,
        };
        let turned = self.norms.as_ref().is_some_and(|norms| norms.config.turned);
        if let Some(norms) = self.norms.as_ref().filter(|_| !turned) {
            heads = norms.forward(heads)?;
        }
        let [query, key, value] = heads;
        let [mut query, mut key, mut value] = [query.transpose(1, 2)?, key.transpose(1, 2)?, value.transpose(1, 2)?];
        if let (Some(rope), Some(positions), false) = (&self.rope, &pass.positions, self.config.turns_input) {
            (query, key) = (query.rope(positions, rope)?, key.rope(positions, rope)?);
        }
        if let Some(norms) = self.norms.as_ref().filter(|_| turned) {
            [query, key, value] = norms.forward([query, key, value])?;
        }
        let [of_both, of_scores, _] = &self.gains;
        if let Some(gain) = of_both {
            (query, key) = (gain.by_head(&query)?, gain.by_head(&key)?);
        }
        if let Some(gain) = of_scores {
            query = gain.forward(&query)?;
        }
        if let Some(cache) = cache {
            cache.append(&key, &value)?;
            // The first positions have nothing before them: they need not be read back.
            if pass.offset > 0
                && let Some(all) = cache.tensors()?
            {
                (key, value) = all;
            }
            let kept = if pass.steps { cache.kept() } else { None };
            return self.attend(query, &key, &value, kept, pass, residual);
        }
        self.attend(query, &key, &value, None, pass, residual)
    }

    /// What queries and keys are made of, where that is `x` with its positions.
    fn placed(&self, x: &Tensor, pass: &Pass) -> Result<Option<Tensor>> {
        match (&pass.added, &self.rope, &pass.positions) {
            (Some(added), ..) => Ok(Some(x.add(added)?)),
            (_, Some(rope), Some(positions)) if self.config.turns_input => {
                Ok(Some(turned(x, self.config.heads, positions, rope)?))
            }
            _ => Ok(None),
        }
    }

    /// Attention to the encoder's states, whose keys and values are computed once and stay in the `cache`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn cross(
        &self,
        x: &Tensor,
        context: &Tensor,
        pass: &Pass,
        cache: Option<&mut KeyValues>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Some(cache) = cache else { return self.forward(x, Some(context), pass, None, residual) };
        let (key, value) = match cache.tensors()? {
            Some(both) => both,
            None => {
                let [_, key, value] = self.projection.forward(x, context)?;
                let (key, value) = (key.transpose(1, 2)?, value.transpose(1, 2)?);
                cache.append(&key, &value)?;
                (key, value)
            }
        };
        let query = self.projection.query(x)?.transpose(1, 2)?;
        self.attend(query, &key, &value, None, pass, residual)
    }

    /// Attention to keys and values, read from where they are `kept` if they are.
    fn attend(
        &self,
        mut query: Tensor,
        key: &Tensor,
        value: &Tensor,
        kept: Option<&KvCache>,
        pass: &Pass,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut options = AttentionOptions {
            scale: self.config.scale,
            softcap: self.config.softcap,
            mask: pass.mask(self.config.window),
            relative_bias: pass.relative_bias.clone(),
            dropout: self.dropout.probability(),
            ..AttentionOptions::default()
        };
        let mut skips = false;
        match &self.terms {
            Terms::Plain => {}
            Terms::Disentangled(terms) => terms.add_to(&mut options, &self.projection, &query, key, pass)?,
            Terms::Relative(terms) => query = terms.add_to(&mut options, &query, pass)?,
            Terms::Distances(terms) => terms.add_to(&mut options, &query, key)?,
            Terms::Dynamic(terms) => skips = terms.add_to(&mut options, &query, value, pass)?,
        }
        if let Some(lessons) = &pass.lessons {
            lessons.put([&query, key, value]);
        }
        let mut out = match kept {
            Some(kept) => query.decode(kept, &options)?,
            None if skips => query.interval_attention(key, value, &options)?,
            None => query.attention(key, value, &options)?,
        };
        if let [_, _, Some(gain)] = &self.gains {
            out = gain.by_head(&out)?;
        }
        let mut out = join_heads(&out)?;
        if let Some((_, norm)) = &self.output_norm {
            out = norm.forward(&out)?;
        }
        self.output.forward_then(&out, None, residual)
    }
}

/// Rotary positions in `x [batch, length, hidden]`, each of `heads` parts of its vectors turned by itself.
fn turned(x: &Tensor, heads: usize, positions: &Tensor, rope: &Rope) -> Result<Tensor> {
    let sizes = [x.size(0)?, x.size(1)?, heads].map(|n| n as isize);
    let parts = x.reshape(&[&sizes[..], &[-1]].concat())?.transpose(1, 2)?;
    Ok(join_heads(&parts.rope(positions, rope)?)?)
}

impl Module for Attention {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.projection);
        if let Some(norms) = &self.norms {
            v.module("", norms);
        }
        self.gains.iter().flatten().for_each(|gain| v.module("", gain));
        if let Some((name, norm)) = &self.output_norm {
            v.module(name, norm);
        }
        match &self.terms {
            Terms::Plain => {}
            Terms::Disentangled(terms) => v.module("", terms),
            Terms::Relative(terms) => v.module("", terms),
            Terms::Distances(terms) => v.module("", terms),
            Terms::Dynamic(terms) => v.module("", terms),
        }
        self.output.visit_as(self.config.output, v);
        v.module("", &self.dropout);
    }
}
