//! BERT (Devlin et al., 2018, arXiv 1810.04805), and what its descendants share with it.

use wgrad::nn::Build;
use wgrad::{DType, Device};

use super::config::Config;
use super::model::{Task, task};
use super::text::{TextConfig, Transformer};
use crate::Result;
use crate::activation::Activation;
use crate::attention::{AttentionConfig, DistanceConfig, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{EmbeddingsConfig, PositionRule, PositionsConfig};
use crate::heads::{HeadConfig, TransformConfig};
use crate::norm::NormConfig;
use crate::stack::StackConfig;
use crate::weights::Form;

pub(super) const PROJECT: Project =
    Project::Apart { query: "attention.self.query", key: "attention.self.key", value: "attention.self.value" };

/// A BERT as its `config.json` describes it.
pub(super) fn config(c: &Config) -> Result<TextConfig> {
    encoder(c, task(c, Task::MaskedLm)?)
}

/// A masked language model with new weights.
///
/// # Errors
/// If the configuration is incomplete or contradicts itself, or memory is exhausted.
pub fn new(c: &Config, dtype: DType, device: &Device) -> Result<Transformer> {
    Transformer::new(c, &config(c)?, &Build::new(device).with_dtype(dtype))
}

/// BERT's encoder and its masked language modelling head.
pub(super) fn encoder(c: &Config, task: Task) -> Result<TextConfig> {
    let (hidden, vocab) = (c.size("hidden_size")?, c.size("vocab_size")?);
    let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?);
    let activation = c.activation("hidden_act", "gelu")?;
    let heads = c.size("num_attention_heads")?;
    let attention = AttentionConfig {
        dropout: c.number_or("attention_probs_dropout_prob", 0.1)?,
        ..AttentionConfig::new(heads, c.head_dim(hidden, heads)?, PROJECT, "attention.output.dense")
    };
    let block = BlockConfig {
        hidden,
        norm,
        attention,
        attention_place: Place::post("attention.output.LayerNorm"),
        cross: None,
        feed_forward: feed_forward(c.size("intermediate_size")?, activation),
        feed_forward_place: Place::post("output.LayerNorm"),
        wiring: Wiring::Sequential,
        dropout: c.number_or("hidden_dropout_prob", 0.1)?,
    };
    let positions = PositionsConfig {
        name: "embeddings.position_embeddings",
        count: c.size("max_position_embeddings")?,
        rule: PositionRule::Count,
    };
    let embeddings = EmbeddingsConfig {
        padding: c.size_if("pad_token_id")?,
        positions: Some(positions),
        types: match c.size_or("type_vocab_size", 2)? {
            0 => None,
            types => Some(("embeddings.token_type_embeddings", types)),
        },
        norm: Some(("embeddings.LayerNorm", norm)),
        dropout: block.dropout,
        ..EmbeddingsConfig::new("embeddings.word_embeddings", vocab, hidden)
    };
    let transform = TransformConfig {
        dense: "cls.predictions.transform.dense",
        bias: true,
        activation: Some(activation),
        norm: Some(("cls.predictions.transform.LayerNorm", norm)),
        width: hidden,
    };
    let head = HeadConfig {
        transform: Some(transform),
        bias: &["cls.predictions.bias", "cls.predictions.decoder.bias"],
        ..HeadConfig::new("cls.predictions.decoder.weight", vocab, c.flag_or("tie_word_embeddings", true)?)
    };
    Ok(TextConfig {
        prefix: "bert",
        task,
        hidden,
        embeddings,
        stack: StackConfig { name: "encoder.layer", blocks: vec![block; c.layers("num_hidden_layers")?], norm: None },
        distance: DistanceConfig::None,
        causal: false,
        head,
        pooler: "pooler.dense",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &["pooler.", "cls.seq_relationship."],
    })
}

pub(super) fn feed_forward(width: usize, activation: Activation) -> FeedForwardConfig {
    FeedForwardConfig {
        width,
        activation,
        inner: Inner::Plain { up: "intermediate.dense", down: "output.dense" },
        bias: [true; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout: 0.0,
    }
}
