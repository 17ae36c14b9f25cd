//! Where norms stand and how residuals are weighed: the placements of the literature, each as values of a block's options.

use std::fmt;
use std::str::FromStr;

use wgrad::Activation;

use crate::attention::{AttentionConfig, Bias, HeadNorm, Project, Rotary, Stretch};
use crate::block::{BlockConfig, Factor, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::gain::GainConfig;
use crate::initial::{Scheme, correlations};
use crate::lm::LmConfig;
use crate::norm::NormConfig;
use crate::weights::Form;
use crate::{Error, Result};

/// Names of the norms of a block.
const ATTENTION: &str = "attention_norm";
const ATTENTION_OUT: &str = "attention_out_norm";
const FEED_FORWARD: &str = "feed_forward_norm";
const FEED_FORWARD_OUT: &str = "feed_forward_out_norm";

/// A placement of norms with its rule of residuals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `norm(x + f(x))` (Vaswani et al., 2017).
    Post,
    /// `x + f(norm(x))` (Xiong et al., 2020, arXiv 2002.04745).
    Pre,
    /// Post in the first quarter of the blocks, then pre (Li et al., Mix-LN, 2024, arXiv 2412.13795).
    Mix,
    /// `x + norm(f(norm(x)))`, and a norm of the words' vectors (Kim et al., Peri-LN, 2025, arXiv 2502.02732).
    Peri,
    /// The same without a norm of the words' vectors (Ding et al., CogView, 2021).
    Sandwich,
    /// Norms of queries, keys and values, and a norm before the feed-forward part from which the residual goes on (Zhuo et al., HybridNorm,
    /// 2025, arXiv 2503.04598).
    Hybrid,
    /// The same with pre-norms in the first block.
    HybridStar,
    /// Pre, with a norm behind attention, one inside the feed-forward part, and factors of heads (Shleifer et al., NormFormer, 2021, arXiv
    /// 2110.09456).
    NormFormer,
    /// Pre, where what block `l` reads is divided by `sqrt(l)` (Sun et al., The Curse of Depth, 2025, arXiv 2502.05795).
    LayerNormScaling,
    /// Post, where the residual is multiplied by `(2 layers)^(1/4)` (Wang et al., DeepNet, 2022, arXiv 2203.00555).
    DeepNorm,
    /// Pre, with squares of residual and addition that sum to one (Kedia et al., DeepScaleLM, 2024, arXiv 2403.09635).
    DeepScale,
    /// All vectors have length one (Loshchilov et al., nGPT, 2024, arXiv 2410.01131).
    Sphere,
    /// Pre, with attention and feed-forward part side by side behind one norm (Almazrouei et al., Falcon, 2023, arXiv 2311.16867).
    Parallel,
    /// Pre, with a learned factor of what is added that starts at zero (Bachlechner et al., ReZero, 2020, arXiv 2003.04887).
    ReZero,
}

impl Placement {
    /// All of them.
    pub const ALL: [Placement; 14] = [
        Placement::Post,
        Placement::Pre,
        Placement::Mix,
        Placement::Peri,
        Placement::Sandwich,
        Placement::Hybrid,
        Placement::HybridStar,
        Placement::NormFormer,
        Placement::LayerNormScaling,
        Placement::DeepNorm,
        Placement::DeepScale,
        Placement::Sphere,
        Placement::Parallel,
        Placement::ReZero,
    ];

    /// Name on the command line and in pictures.
    pub fn name(self) -> &'static str {
        match self {
            Placement::Post => "post",
            Placement::Pre => "pre",
            Placement::Mix => "mix",
            Placement::Peri => "peri",
            Placement::Sandwich => "sandwich",
            Placement::Hybrid => "hybrid",
            Placement::HybridStar => "hybrid-star",
            Placement::NormFormer => "normformer",
            Placement::LayerNormScaling => "layernorm-scaling",
            Placement::DeepNorm => "deepnorm",
            Placement::DeepScale => "deepscale",
            Placement::Sphere => "sphere",
            Placement::Parallel => "parallel",
            Placement::ReZero => "rezero",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Placement {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|placement| placement.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Placement::name).join(", ");
            Error::argument("placement", format!("{name:?} is none of {known}"))
        })
    }
}

/// Sizes of a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Tokens of a text, for initial values that depend on it.
    pub length: usize,
}

impl Shape {
    /// A block without norms: rotary positions, GELU in a feed-forward part four times as wide, no biases.
    pub fn block(&self, norm: NormConfig) -> BlockConfig {
        let head_dim = self.hidden / self.heads.max(1);
        let rotary = Rotary { theta: 10_000.0, dim: head_dim, interleaved: false, stretch: Stretch::None };
        let project = Project::Apart { query: "query", key: "key", value: "value" };
        BlockConfig {
            hidden: self.hidden,
            norm,
            attention: AttentionConfig {
                bias: Bias::all(false),
                rotary: Some(rotary),
                ..AttentionConfig::new(self.heads, head_dim, project, "output")
            },
            attention_place: Place::NONE,
            cross: None,
            feed_forward: FeedForwardConfig {
                width: 4 * self.hidden,
                activation: Activation::Gelu,
                inner: Inner::Plain { up: "up", down: "down" },
                between: Between::default(),
                bias: [false; 2],
                form: Form::Rows,
                dropout: 0.0,
            },
            feed_forward_place: Place::NONE,
            wiring: Wiring::Sequential,
            dropout: 0.0,
        }
    }

    /// A decoder of this placement with RMS norms, as its paper starts it.
    pub fn decoder(&self, placement: Placement) -> LmConfig {
        self.decoder_with(placement, NormConfig::rms(1e-6))
    }

    /// The same with other norms.
    pub fn decoder_with(&self, placement: Placement, norm: NormConfig) -> LmConfig {
        let normed_words = matches!(placement, Placement::Post | Placement::Peri | Placement::DeepNorm);
        let normed_end = !matches!(placement, Placement::Post | Placement::DeepNorm | Placement::Sphere);
        let sphere = placement == Placement::Sphere;
        let root = (self.hidden as f64).sqrt();
        LmConfig {
            vocab: self.vocab,
            hidden: self.hidden,
            embedding_norm: normed_words.then_some(norm),
            shrink: 1.0,
            blocks: (1..=self.layers).map(|layer| self.placed(placement, norm, layer)).collect(),
            averages: 0,
            norm: normed_end.then_some(norm),
            head_bias: false,
            logit_gain: sphere.then_some(GainConfig::scaled("logit_gain", 1.0, root.recip())),
            causal: true,
            embedding_std: 1.0,
            scheme: self.scheme(placement),
            unit: sphere,
        }
    }

    /// The block of a placement at place `layer`, from 1.
    fn placed(&self, placement: Placement, norm: NormConfig, layer: usize) -> BlockConfig {
        let layers = self.layers as f64;
        let base = self.block(norm);
        let with = |attention_place, feed_forward_place| BlockConfig { attention_place, feed_forward_place, ..base };
        let both =
            |change: &dyn Fn(Place) -> Place| with(change(Place::pre(ATTENTION)), change(Place::pre(FEED_FORWARD)));
        let pre = both(&|place| place);
        let post = with(Place::post(ATTENTION), Place::post(FEED_FORWARD));
        match placement {
            Placement::Pre => pre,
            Placement::Post => post,
            Placement::Mix if layer <= self.layers / 4 => post,
            Placement::Mix => pre,
            Placement::Peri | Placement::Sandwich => {
                with(Place::both(ATTENTION, ATTENTION_OUT), Place::both(FEED_FORWARD, FEED_FORWARD_OUT))
            }
            Placement::Hybrid | Placement::HybridStar => {
                let norms = HeadNorm {
                    norm,
                    query: "query_norm",
                    key: "key_norm",
                    value: Some("value_norm"),
                    together: false,
                    turned: false,
                };
                let attention = AttentionConfig { norm: Some(norms), ..base.attention };
                let fed = Place { from_normed: true, ..Place::pre(FEED_FORWARD) };
                match placement == Placement::HybridStar && layer == 1 {
                    true => BlockConfig { attention, ..pre },
                    false => BlockConfig { attention, ..with(Place::NONE, fed) },
                }
            }
            Placement::NormFormer => BlockConfig {
                attention: AttentionConfig { head_gain: Some(GainConfig::vector("head_gain", 1.0)), ..base.attention },
                feed_forward: FeedForwardConfig {
                    between: Between { norm: Some(("inner_norm", norm)), gains: None },
                    ..base.feed_forward
                },
                ..with(Place::both(ATTENTION, ATTENTION_OUT), Place::pre(FEED_FORWARD))
            },
            Placement::LayerNormScaling => both(&|place| Place { scale: (layer as f64).sqrt().recip(), ..place }),
            Placement::DeepNorm => {
                let keep = Factor::Constant((2.0 * layers).powf(0.25));
                let deep = |name| Place { keep, ..Place::post(name) };
                with(deep(ATTENTION), deep(FEED_FORWARD))
            }
            Placement::DeepScale => {
                let add = layers.recip();
                let scaled = both(&|place| Place {
                    keep: Factor::Constant((1.0 - add).sqrt()),
                    add: Factor::Constant(add.sqrt()),
                    ..place
                });
                // The predicted moments are those of ReLUs.
                BlockConfig {
                    feed_forward: FeedForwardConfig { activation: Activation::Relu, ..base.feed_forward },
                    ..scaled
                }
            }
            Placement::Sphere => self.on_sphere(base),
            Placement::Parallel => BlockConfig { wiring: Wiring::Shared, ..with(Place::pre(ATTENTION), Place::NONE) },
            Placement::ReZero => {
                let add = |name| Factor::Learned(GainConfig::scalar(name, 0.0));
                let started = |norm, name| Place { add: add(name), ..Place::pre(norm) };
                with(started(ATTENTION, "attention_add"), started(FEED_FORWARD, "feed_forward_add"))
            }
        }
    }

    /// nGPT's block: steps on the sphere, whose lengths are learned.
    fn on_sphere(&self, base: BlockConfig) -> BlockConfig {
        let (root, l2) = ((self.hidden as f64).sqrt(), NormConfig::l2());
        let head_dim = base.attention.head_dim as f64;
        let step = |after, residual, name| Place {
            after: Some(after),
            residual: Some(residual),
            keep: Factor::Rest,
            add: Factor::Learned(GainConfig { magnitude: true, ..GainConfig::scaled(name, 0.05, root.recip()) }),
            ..Place::NONE
        };
        let norms =
            HeadNorm { norm: l2, query: "query_norm", key: "key_norm", value: None, together: false, turned: true };
        BlockConfig {
            norm: l2,
            attention: AttentionConfig {
                scale: Some(head_dim.sqrt()),
                norm: Some(norms),
                query_key_gain: Some(GainConfig::scaled("query_key_gain", 1.0, root.recip())),
                ..base.attention
            },
            attention_place: step(ATTENTION_OUT, ATTENTION, "attention_step"),
            feed_forward: FeedForwardConfig {
                // As many parameters as two matrices of width four have.
                width: 8 * self.hidden / 3,
                activation: Activation::Silu,
                inner: Inner::Gated { gate: "gate", up: "up", down: "down" },
                between: Between {
                    norm: None,
                    gains: Some([
                        GainConfig { pace: root, ..GainConfig::vector("gate_gain", 1.0) },
                        GainConfig { pace: root, ..GainConfig::vector("up_gain", 1.0) },
                    ]),
                },
                ..base.feed_forward
            },
            feed_forward_place: step(FEED_FORWARD_OUT, FEED_FORWARD, "feed_forward_step"),
            ..base
        }
    }

    fn scheme(&self, placement: Placement) -> Scheme {
        let layers = self.layers as f64;
        // The usual 0.02 of models of width 1000, for any width.
        let usual = (2.5 * self.hidden as f64).sqrt().recip();
        match placement {
            Placement::DeepNorm => Scheme::Xavier { gain: (8.0 * layers).powf(-0.25) },
            Placement::DeepScale => {
                // Position `t` of a decoder sees `t + 1` keys; the mean of their reciprocals counts.
                let seen =
                    (1..=self.length.max(1)).map(|keys| 1.0 / keys as f64).sum::<f64>() / self.length.max(1) as f64;
                // Tokens by Zipf's law meet an equal one so often.
                const EQUAL: f64 = 0.221;
                let correlations = correlations(self.layers, layers.recip().sqrt(), EQUAL, seen.recip());
                Scheme::DeepScale { hidden: self.hidden, correlations }
            }
            Placement::Sphere => Scheme::Normal((self.hidden as f64).sqrt().recip()),
            Placement::Hybrid | Placement::HybridStar => Scheme::ScaledResidual(usual, self.layers),
            Placement::Post => Scheme::Xavier { gain: 1.0 },
            _ => Scheme::Normal(usual),
        }
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
