//! T5 (Raffel et al., 2020, arXiv 1910.10683) and its version 1.1, hence ByT5 and CodeT5: an encoder and a decoder with RMS norms before the
//! parts, a bias by distance that all layers of a side share, scores without a scale, and no biases.

use std::path::Path;

use wgrad::Tensor;
use wgrad::nn::{Build, Embedding, Init, Module, Visitor};

use super::config::Config;
use super::files;
use super::model::{About, Cache, Task, TextModel};
use crate::attention::{AttentionConfig, Bias, Distance, DistanceConfig, Project};
use crate::block::{BlockConfig, Encoded, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::TextInput;
use crate::heads::{Head, HeadConfig};
use crate::norm::NormConfig;
use crate::stack::{Stack, StackConfig};
use crate::weights::Form;
use crate::{Error, Result, activation};

const OWN: Project = Project::Apart {
    query: "layer.0.SelfAttention.q",
    key: "layer.0.SelfAttention.k",
    value: "layer.0.SelfAttention.v",
};
const CROSS: Project = Project::Apart {
    query: "layer.1.EncDecAttention.q",
    key: "layer.1.EncDecAttention.k",
    value: "layer.1.EncDecAttention.v",
};

/// Encoder or decoder.
struct Side {
    stack: Stack,
    distance: Distance,
}

impl Module for Side {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.stack);
        v.module("", &self.distance);
    }
}

/// An encoder and a decoder with one table of words.
pub struct T5 {
    about: About,
    words: Embedding,
    encoder: Side,
    decoder: Side,
    head: Head,
    /// What a text of the decoder begins with.
    start: u32,
    pad: u32,
}

impl T5 {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let (hidden, vocab) = (c.size("d_model")?, c.size("vocab_size")?);
        let words =
            Embedding::new(vocab, hidden, None, &build.clone().with_init(Init::Normal { mean: 0.0, std: 1.0 }))?;
        let build = build.clone().with_init(Init::Normal { mean: 0.0, std: (hidden.max(1) as f64).powf(-0.5) });
        let [layers, later] = sizes(c)?;
        let tied = c.flag_or("tie_word_embeddings", true)?;
        let scaled = c.flag_or("scale_decoder_outputs", tied)?;
        let head = HeadConfig {
            scale: if scaled { (hidden.max(1) as f64).powf(-0.5) } else { 1.0 },
            ..HeadConfig::new("lm_head.weight", vocab, tied)
        };
        let id = |name, default| Ok::<_, Error>(c.size_or(name, default)? as u32);
        Ok(T5 {
            encoder: side(c, hidden, layers, false, &build)?,
            decoder: side(c, hidden, later, true, &build)?,
            head: Head::new(head, hidden, &words.weight, &build)?,
            words,
            start: id("decoder_start_token_id", 0)?,
            pad: id("pad_token_id", 0)?,
            about: About { config: c.clone(), task: Task::Seq2Seq, vocab, hidden, longest: None, packs: None },
        })
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let [layers, later] = sizes(c)?;
        let weights = files::open(folder, layers + later)?;
        let model = Self::new(c, &build.clone().blank()?)?;
        // Older files have a table where no layer looks.
        files::fill(&model, &weights, &["EncDecAttention.relative_attention_bias"])?;
        Ok(model)
    }

    /// States of an input text, ready for the decoder.
    ///
    /// # Errors
    /// If shapes do not fit, or an id is outside the vocabulary.
    pub fn encoded(&self, input: &TextInput, states: Option<&mut Vec<Tensor>>) -> Result<Encoded> {
        let Side { stack, distance } = &self.encoder;
        let mask = input.mask()?;
        let x = self.words.forward(input.ids)?;
        let mut pass = stack.pass(&mask, 0);
        distance.tell(&mut pass, input.sizes()?[1], &x)?;
        let states = stack.forward(x, &pass, None, None, states)?;
        // The decoder's distances to the encoder's positions mean nothing.
        Ok(Encoded { states, pass: stack.pass(&mask, 0) })
    }

    /// The decoder's states for a text that goes on from what is in the `cache`.
    ///
    /// # Errors
    /// If shapes do not fit, or an id is outside the vocabulary.
    pub fn decode(
        &self,
        input: &TextInput,
        encoded: &Encoded,
        mut cache: Option<&mut Cache>,
        states: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let Side { stack, distance } = &self.decoder;
        let [_, length] = input.sizes()?;
        let x = self.words.forward(input.ids)?;
        let mask = input.mask()?;
        let mut pass = Cache::pass(cache.as_deref_mut(), stack, (!mask.is_all()).then_some(mask), length);
        distance.tell(&mut pass, length, &x)?;
        let blocks = cache.map(|cache| cache.blocks(stack.blocks().len(), length));
        stack.forward(x, &pass, Some(encoded), blocks, states)
    }

    /// What the decoder sees of `labels [batch, length]` (i32): all but the last, behind the start token, ignored ones as padding.
    ///
    /// # Errors
    /// If the labels are not a matrix of i32.
    pub fn shifted(&self, labels: &Tensor) -> Result<Tensor> {
        let (batch, length) = (labels.size(0)?, labels.size(1)?);
        let full =
            |value: u32, length| Tensor::full(f64::from(value), &[batch, length], labels.dtype(), labels.device());
        let shifted =
            Tensor::concat(&[&full(self.start, 1.min(length))?, &labels.narrow(1, 0, length.saturating_sub(1))?], 1)?;
        let ignored = shifted.eq(&Tensor::scalar(-100.0, labels.dtype(), labels.device())?)?;
        Ok(Tensor::where_cond(&ignored, &full(self.pad, length)?, &shifted)?)
    }

    /// The token that a text of the decoder begins with.
    pub fn start(&self) -> u32 {
        self.start
    }
}

/// Numbers of layers of the encoder and of the decoder.
fn sizes(c: &Config) -> Result<[usize; 2]> {
    let layers = c.layers("num_layers")?;
    Ok([layers, if c.size_if("num_decoder_layers")?.is_some() { c.layers("num_decoder_layers")? } else { layers }])
}

fn side(c: &Config, hidden: usize, layers: usize, decoder: bool, build: &Build) -> Result<Side> {
    let norm = NormConfig::rms(c.eps("layer_norm_epsilon", 1e-6)?);
    let (heads, head_dim) = (c.size("num_heads")?, c.size("d_kv")?);
    let dropout = c.number_or("dropout_rate", 0.1)?;
    let kind = c.text_or("feed_forward_proj", "relu")?;
    let (gated, name) = kind.strip_prefix("gated-").map_or((false, kind.as_str()), |name| (true, name));
    // The gated ones were trained with the approximation by a tanh.
    let name = if kind == "gated-gelu" { "gelu_new" } else { name };
    let inner = match (decoder, gated) {
        (false, false) => Inner::Plain { up: "layer.1.DenseReluDense.wi", down: "layer.1.DenseReluDense.wo" },
        (true, false) => Inner::Plain { up: "layer.2.DenseReluDense.wi", down: "layer.2.DenseReluDense.wo" },
        (false, true) => Inner::Gated {
            gate: "layer.1.DenseReluDense.wi_0",
            up: "layer.1.DenseReluDense.wi_1",
            down: "layer.1.DenseReluDense.wo",
        },
        (true, true) => Inner::Gated {
            gate: "layer.2.DenseReluDense.wi_0",
            up: "layer.2.DenseReluDense.wi_1",
            down: "layer.2.DenseReluDense.wo",
        },
    };
    let attention = |project, output| AttentionConfig {
        bias: Bias::all(false),
        scale: Some(1.0),
        dropout,
        ..AttentionConfig::new(heads, head_dim, project, output)
    };
    let cross = (attention(CROSS, "layer.1.EncDecAttention.o"), Place::pre("layer.1.layer_norm"));
    let block = BlockConfig {
        hidden,
        norm,
        attention: attention(OWN, "layer.0.SelfAttention.o"),
        attention_place: Place::pre("layer.0.layer_norm"),
        cross: decoder.then_some(cross),
        feed_forward: FeedForwardConfig {
            width: c.size("d_ff")?,
            activation: activation::parse(name)
                .map_err(|_| c.error(format!("feed_forward_proj {kind:?} is unknown")))?,
            inner,
            bias: [false; 2],
            form: Form::Rows,
            between: Between::default(),
            dropout,
        },
        feed_forward_place: Place::pre(if decoder { "layer.2.layer_norm" } else { "layer.1.layer_norm" }),
        wiring: Wiring::Sequential,
        dropout,
    };
    let distance = DistanceConfig::Buckets {
        name: "block.0.layer.0.SelfAttention.relative_attention_bias",
        buckets: c.size_or("relative_attention_num_buckets", 32)?,
        heads,
        far: c.size_or("relative_attention_max_distance", 128)?,
        bidirectional: !decoder,
    };
    let stack = StackConfig { name: "block", blocks: vec![block; layers], norm: Some(("final_layer_norm", norm)) };
    Ok(Side { stack: Stack::new(&stack, hidden, build)?, distance: Distance::new(distance, build)? })
}

impl TextModel for T5 {
    fn about(&self) -> &About {
        &self.about
    }

    /// The encoder's states.
    fn run(&self, input: &TextInput, cache: Option<&mut Cache>, states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        if cache.is_some() {
            return Err(Error::argument("cache", "an encoder keeps no keys and values: use decode"));
        }
        Ok(self.encoded(input, states)?.states)
    }

    /// The decoder's states.
    fn states(&self, input: &TextInput, labels: &Tensor) -> Result<Tensor> {
        let shifted = self.shifted(labels)?;
        self.decode(&TextInput::new(&shifted), &self.encoded(input, None)?, None, None)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }
}

impl Module for T5 {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("shared", &self.words);
        v.module("encoder.embed_tokens", &self.words);
        v.module("decoder.embed_tokens", &self.words);
        v.module("encoder", &self.encoder);
        v.module("decoder", &self.decoder);
        v.module("", &self.head);
    }
}
