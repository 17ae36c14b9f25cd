//! The part of a block that works on each position by itself.

use wgrad::Tensor;
use wgrad::nn::{Build, Dropout, Module, Visitor};

use crate::Result;
use crate::activation::Activation;
use crate::weights::{Form, Linear};

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
    /// The same with gate and up in one matrix, the gate first.
    Joined {
        /// Both.
        gate_up: &'static str,
        /// Last layer.
        down: &'static str,
    },
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
    dropout: Dropout,
}

impl FeedForward {
    /// A part for vectors of `hidden`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(config: FeedForwardConfig, hidden: usize, build: &Build) -> Result<Self> {
        let FeedForwardConfig { width, inner, bias, form, .. } = config;
        let (up, down): (Vec<(&'static str, usize)>, _) = match inner {
            Inner::Plain { up, down } => (vec![(up, width)], down),
            Inner::Gated { gate, up, down } => (vec![(gate, width), (up, width)], down),
            Inner::Joined { gate_up, down } => (vec![(gate_up, 2 * width)], down),
        };
        let up = up.into_iter().map(|(name, width)| Ok((name, Linear::new(hidden, width, bias[0], form, build)?)));
        Ok(FeedForward {
            config,
            up: up.collect::<Result<_>>()?,
            down: (down, Linear::new(width, hidden, bias[1], form, build)?),
            dropout: Dropout::new(config.dropout)?,
        })
    }

    /// Applies it to `x [.., hidden]`, and adds a residual.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let activation = self.config.activation;
        let inside = match (&self.config.inner, &self.up[..]) {
            (Inner::Joined { .. }, [(_, both)]) => both.forward(x)?.gate_up(-1, activation)?,
            (_, [(_, gate), (_, up)]) => gate.forward(x)?.gated(&up.forward(x)?, activation)?,
            (_, layers) => {
                let up = |x, (_, up): &(_, Linear)| up.forward_then(&x, Some(activation), None);
                layers.iter().try_fold(x.clone(), up)?
            }
        };
        self.down.1.forward_then(&self.dropout.forward(&inside)?, None, residual)
    }
}

impl Module for FeedForward {
    fn visit(&self, v: &mut Visitor<'_>) {
        for (name, layer) in self.up.iter().chain([&self.down]) {
            layer.visit_as(name, v);
        }
        v.module("", &self.dropout);
    }
}
