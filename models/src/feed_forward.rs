//! The part of a block that works on each position by itself.

use wgrad::Tensor;
use wgrad::nn::{Build, Dropout, Module, Visitor};

use crate::activation::Activation;
use crate::gain::{Gain, GainConfig};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// The layers inside, by their names in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// `down(f(up(x)))`.
    Plain {
        /// First layer.
        up: &'static str,
        /// Second layer.
        down: &'static str,
    },
    /// `down(f(gate(x)) * up(x))` (Shazeer, GLU Variants Improve Transformer, 2020).
    Gated {
        /// What the activation is of.
        gate: &'static str,
        /// What passes the gate.
        up: &'static str,
        /// Last layer.
        down: &'static str,
    },
    /// `down(left(x) * right(x))`, without the activation (Shazeer, 2020; TransNormerLLM's SGLU).
    Bilinear {
        /// One factor.
        left: &'static str,
        /// The other.
        right: &'static str,
        /// Last layer.
        down: &'static str,
    },
    /// The same as gated, with gate and up in one matrix, the gate first.
    Joined {
        /// Both.
        gate_up: &'static str,
        /// Last layer.
        down: &'static str,
    },
}

/// What stands between the layers up and the layer down, beside the activation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Between {
    /// Name and kind of a norm before the layer down.
    pub norm: Option<(&'static str, NormConfig)>,
    /// Learned factors of the gate and of what passes it. A part without a gate has none.
    pub gains: Option<[GainConfig; 2]>,
}

/// What a feed-forward part is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedForwardConfig {
    /// Width inside.
    pub width: usize,
    /// Activation inside.
    pub activation: Activation,
    /// The layers.
    pub inner: Inner,
    /// What else stands between them.
    pub between: Between,
    /// Whether the layers up and the layer down have biases.
    pub bias: [bool; 2],
    /// How matrices are stored.
    pub form: Form,
    /// Dropout inside while training.
    pub dropout: f64,
}

/// A feed-forward part.
pub struct FeedForward {
    config: FeedForwardConfig,
    /// Gate and up, or the one layer up.
    up: Vec<(&'static str, Linear)>,
    down: (&'static str, Linear),
    gains: Option<[Gain; 2]>,
    norm: Option<(&'static str, Norm)>,
    dropout: Dropout,
}

impl FeedForward {
    /// A part for vectors of `hidden`.
    ///
    /// # Errors
    /// If there are factors of a gate and no gate, or memory is exhausted.
    pub fn new(config: FeedForwardConfig, hidden: usize, build: &Build) -> Result<Self> {
        let FeedForwardConfig { width, inner, bias, form, between, .. } = config;
        let (up, down): (Vec<(&'static str, usize)>, _) = match inner {
            Inner::Plain { up, down } => (vec![(up, width)], down),
            Inner::Gated { gate, up, down } => (vec![(gate, width), (up, width)], down),
            Inner::Bilinear { left, right, down } => (vec![(left, width), (right, width)], down),
            Inner::Joined { gate_up, down } => (vec![(gate_up, 2 * width)], down),
        };
        if between.gains.is_some() && up.len() != 2 {
            return Err(Error::config(format!("learned factors of a gate in a feed-forward part of {inner:?}")));
        }
        let gain = |gain| Gain::new(gain, width, build);
        let gains = between.gains.map(|[gate, up]| Ok::<_, Error>([gain(gate)?, gain(up)?]));
        let norm = between.norm.map(|(name, norm)| Ok::<_, Error>((name, Norm::new(norm, width, build)?)));
        let up = up.into_iter().map(|(name, width)| Ok((name, Linear::new(hidden, width, bias[0], form, build)?)));
        Ok(FeedForward {
            config,
            up: up.collect::<Result<_>>()?,
            down: (down, Linear::new(width, hidden, bias[1], form, build)?),
            gains: gains.transpose()?,
            norm: norm.transpose()?,
            dropout: Dropout::new(config.dropout)?,
        })
    }

    /// Applies it to `x [.., hidden]`, and adds a residual.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let activation = self.config.activation;
        let mut inside = match (&self.config.inner, &self.up[..]) {
            (Inner::Joined { .. }, [(_, both)]) => both.forward(x)?.gate_up(-1, activation)?,
            (inner, [(_, gate), (_, up)]) => {
                let (mut gate, mut up) = (gate.forward(x)?, up.forward(x)?);
                if let Some([of_gate, of_up]) = &self.gains {
                    (gate, up) = (of_gate.forward(&gate)?, of_up.forward(&up)?);
                }
                match inner {
                    Inner::Bilinear { .. } => gate.mul(&up)?,
                    _ => gate.gated(&up, activation)?,
                }
            }
            (_, layers) => {
                let up = |x, (_, up): &(_, Linear)| up.forward_then(&x, Some(activation), None);
                layers.iter().try_fold(x.clone(), up)?
            }
        };
        if let Some((_, norm)) = &self.norm {
            inside = norm.forward(&inside)?;
        }
        self.down.1.forward_then(&self.dropout.forward(&inside)?, None, residual)
    }
}

impl Module for FeedForward {
    fn visit(&self, v: &mut Visitor<'_>) {
        for (name, layer) in self.up.iter().chain([&self.down]) {
            layer.visit_as(name, v);
        }
        self.gains.iter().flatten().for_each(|gain| v.module("", gain));
        if let Some((name, norm)) = &self.norm {
            v.module(name, norm);
        }
        v.module("", &self.dropout);
    }
}
