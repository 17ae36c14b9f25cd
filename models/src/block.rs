//! One transformer block: attention and feed-forward, each with its norms and its residual.
//!
//! Every placement of norms is a value of [`Place`]: `y = residual_norm(keep * x + add * after_norm(f(scale * before_norm(x))))`.

use wgrad::Tensor;
use wgrad::nn::{Build, Dropout, Init, Module, Param, Visitor};

use crate::attention::{Attention, AttentionConfig, KeyValues, Pass};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// A factor of a residual or of what is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Factor {
    /// One.
    #[default]
    One,
    /// A constant.
    Constant(f64),
    /// A parameter of this name, one number for each element of the vectors, which start at `init`.
    Vector {
        /// Its name in a checkpoint.
        name: &'static str,
        /// Its first value.
        init: f64,
    },
}

/// Where the norms of a part of a block stand, by their names in a checkpoint, and how its result joins the residual stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Norm of what goes into the part.
    pub before: Option<&'static str>,
    /// Norm of what comes out of it.
    pub after: Option<&'static str>,
    /// Norm of the sum.
    pub residual: Option<&'static str>,
    /// Whether the residual is what the part sees, normalised, rather than what came in.
    pub from_normed: bool,
    /// Factor of what goes into the part.
    pub scale: f64,
    /// Factor of the residual.
    pub keep: Factor,
    /// Factor of what is added.
    pub add: Factor,
}

impl Place {
    /// No norm: `x + f(x)`.
    pub const NONE: Place = Place {
        before: None,
        after: None,
        residual: None,
        from_normed: false,
        scale: 1.0,
        keep: Factor::One,
        add: Factor::One,
    };

    /// `x + f(norm(x))`.
    pub const fn pre(norm: &'static str) -> Self {
        Place { before: Some(norm), ..Self::NONE }
    }

    /// `norm(x + f(x))`.
    pub const fn post(norm: &'static str) -> Self {
        Place { residual: Some(norm), ..Self::NONE }
    }

    /// `x + norm(f(x))`.
    pub const fn after(norm: &'static str) -> Self {
        Place { after: Some(norm), ..Self::NONE }
    }

    /// `x + after(f(before(x)))`.
    pub const fn both(before: &'static str, after: &'static str) -> Self {
        Place { before: Some(before), after: Some(after), ..Self::NONE }
    }
}

/// A part's norms and factors with their parameters.
pub struct Residual {
    place: Place,
    norms: [Option<Norm>; 3],
    factors: [Option<Param>; 2],
    dropout: Dropout,
}

impl Residual {
    /// New norms of vectors of `width`; dropout is that of what is added.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(place: Place, norm: NormConfig, width: usize, dropout: f64, build: &Build) -> Result<Self> {
        let new = |name: Option<&str>| name.map(|_| Norm::new(norm, width, build)).transpose();
        let factor = |factor: Factor| match factor {
            Factor::Vector { init, .. } => Ok(Some(build.param(&[width], Init::Constant(init))?)),
            _ => Ok::<_, Error>(None),
        };
        Ok(Residual {
            place,
            norms: [new(place.before)?, new(place.after)?, new(place.residual)?],
            factors: [factor(place.keep)?, factor(place.add)?],
            dropout: Dropout::new(dropout)?,
        })
    }

    /// What goes into the part.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn input(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.norms[0] {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        if self.place.scale == 1.0 { Ok(x) } else { Ok(x.mul_scalar(self.place.scale)?) }
    }

    /// Whether the part may add the residual itself, in the kernel of its last product.
    pub fn is_plain(&self) -> bool {
        let Place { keep, add, from_normed, .. } = self.place;
        let [_, after, residual] = &self.norms;
        after.is_none()
            && residual.is_none()
            && !from_normed
            && (keep, add) == (Factor::One, Factor::One)
            && self.dropout.probability() == 0.0
    }

    /// Applies the part `f`, which is given its input, and the residual that it is to add itself if it is plain.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn around(&self, x: &Tensor, f: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<Tensor>) -> Result<Tensor> {
        let input = self.input(x)?;
        if self.is_plain() {
            return f(&input, Some(x));
        }
        let out = f(&input, None)?;
        self.join(if self.place.from_normed { &input } else { x }, &out)
    }

    /// The residual stream after what came out of the part.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn join(&self, x: &Tensor, out: &Tensor) -> Result<Tensor> {
        let mut out = self.dropout.forward(out)?;
        if let Some(norm) = &self.norms[1] {
            out = norm.forward(&out)?;
        }
        let times = |x: &Tensor, factor: Factor, param: &Option<Param>| match (factor, param) {
            (Factor::Constant(c), _) => x.mul_scalar(c),
            (_, Some(param)) => x.mul(&param.tensor()),
            _ => Ok(x.clone()),
        };
        let x = times(x, self.place.keep, &self.factors[0])?;
        let out = times(&out, self.place.add, &self.factors[1])?;
        match &self.norms[2] {
            Some(norm) => norm.forward_add(&x, &out),
            None => Ok(x.add(&out)?),
        }
    }
}

impl Module for Residual {
    fn visit(&self, v: &mut Visitor<'_>) {
        let Place { before, after, residual, keep, add, .. } = self.place;
        for (name, norm) in [before, after, residual].into_iter().zip(&self.norms) {
            if let (Some(name), Some(norm)) = (name, norm) {
                v.module(name, norm);
            }
        }
        for (factor, param) in [keep, add].into_iter().zip(&self.factors) {
            if let (Factor::Vector { name, .. }, Some(param)) = (factor, param) {
                v.param(name, param);
            }
        }
        v.module("", &self.dropout);
    }
}

/// How the parts of a block follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wiring {
    /// The feed-forward part sees what the attention part left.
    #[default]
    Sequential,
    /// Both see the block's input, each through its own norm, and both are added to it.
    Parallel,
    /// The same with one norm, that of the attention part.
    Shared,
}

/// What a block is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Which norms.
    pub norm: NormConfig,
    /// The attention part.
    pub attention: AttentionConfig,
    /// Its norms.
    pub attention_place: Place,
    /// The part that attends to an encoder, and its norms.
    pub cross: Option<(AttentionConfig, Place)>,
    /// The feed-forward part.
    pub feed_forward: FeedForwardConfig,
    /// Its norms.
    pub feed_forward_place: Place,
    /// How the parts follow each other.
    pub wiring: Wiring,
    /// Dropout of the outputs of the parts while training.
    pub dropout: f64,
}

/// Keys and values of a block's attention to its own stream and to an encoder.
#[derive(Default)]
pub struct BlockCache {
    /// Of the stream.
    pub own: KeyValues,
    /// Of the encoder.
    pub cross: KeyValues,
}

/// An encoder's states, and which of them may be seen.
#[derive(Clone)]
pub struct Encoded {
    /// `[batch, keys, hidden]`.
    pub states: Tensor,
    /// The masks of attention to them.
    pub pass: Pass,
}

/// A block.
pub struct Block {
    wiring: Wiring,
    attention: Attention,
    attention_residual: Residual,
    cross: Option<(Attention, Residual)>,
    feed_forward: FeedForward,
    feed_forward_residual: Residual,
}

impl Block {
    /// A new block.
    ///
    /// # Errors
    /// If the sizes do not fit each other, or memory is exhausted.
    pub fn new(config: &BlockConfig, build: &Build) -> Result<Self> {
        let &BlockConfig { hidden, norm, attention, feed_forward, wiring, dropout, .. } = config;
        let residual = |place| Residual::new(place, norm, hidden, dropout, build);
        let cross = |(attention, place)| Ok::<_, Error>((Attention::new(attention, hidden, build)?, residual(place)?));
        Ok(Block {
            wiring,
            attention: Attention::new(attention, hidden, build)?,
            attention_residual: residual(config.attention_place)?,
            cross: config.cross.map(cross).transpose()?,
            feed_forward: FeedForward::new(feed_forward, hidden, build)?,
            feed_forward_residual: residual(config.feed_forward_place)?,
        })
    }

    /// The attention part.
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// `x [batch, length, hidden]` to the same shape. `context` is what queries attend to, if not `x` itself; `encoded`, what a
    /// decoder's block attends to as well.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        pass: &Pass,
        encoded: Option<&Encoded>,
        cache: Option<&mut BlockCache>,
    ) -> Result<Tensor> {
        let (own, other) = cache.map_or((None, None), |cache| (Some(&mut cache.own), Some(&mut cache.cross)));
        if self.wiring != Wiring::Sequential {
            return self.parallel(x, pass, own);
        }
        let attend = |x: &Tensor, residual: Option<&Tensor>| self.attention.forward(x, context, pass, own, residual);
        let mut x = self.attention_residual.around(x, attend)?;
        if let (Some((attention, residual)), Some(Encoded { states, pass })) = (&self.cross, encoded) {
            x = residual.around(&x, |x, residual| attention.cross(x, states, pass, other, residual))?;
        }
        self.feed_forward_residual.around(&x, |x, residual| self.feed_forward.forward(x, residual))
    }

    fn parallel(&self, x: &Tensor, pass: &Pass, cache: Option<&mut KeyValues>) -> Result<Tensor> {
        let seen = self.attention_residual.input(x)?;
        let plain = self.attention_residual.is_plain();
        let attended = self.attention.forward(&seen, None, pass, cache, plain.then_some(x))?;
        let sum = if plain { attended } else { self.attention_residual.join(x, &attended)? };
        let fed = match self.wiring {
            Wiring::Shared => seen,
            _ => self.feed_forward_residual.input(x)?,
        };
        if self.feed_forward_residual.is_plain() {
            return self.feed_forward.forward(&fed, Some(&sum));
        }
        self.feed_forward_residual.join(&sum, &self.feed_forward.forward(&fed, None)?)
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.attention);
        v.module("", &self.attention_residual);
        if let Some((attention, residual)) = &self.cross {
            v.module("", attention);
            v.module("", residual);
        }
        v.module("", &self.feed_forward);
        v.module("", &self.feed_forward_residual);
    }
}
