//! ModernBERT (Warner et al., 2024, arXiv 2412.13663): norms before the parts, gated units, rotary positions, and windows in most layers.

use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, Bias, DistanceConfig, Project, Window};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::EmbeddingsConfig;
use crate::heads::{HeadConfig, TransformConfig};
use crate::norm::{NormConfig, NormKind};
use crate::stack::StackConfig;
use crate::weights::Form;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let (hidden, vocab, layers) = (c.size("hidden_size")?, c.size("vocab_size")?, c.layers("num_hidden_layers")?);
    let bias = c.flag_or("norm_bias", false)?;
    let norm = NormConfig { kind: NormKind::Layer { gain: true, bias }, eps: c.eps("norm_eps", 1e-5)? };
    let heads = c.size("num_attention_heads")?;
    let head_dim = c.head_dim(hidden, heads)?;
    let attention = AttentionConfig {
        bias: Bias::all(c.flag_or("attention_bias", false)?),
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(heads, head_dim, Project::Thirds("attn.Wqkv"), "attn.Wo")
    };
    let feed_forward = FeedForwardConfig {
        width: c.size("intermediate_size")?,
        activation: c.activation("hidden_activation", "gelu")?,
        inner: Inner::Joined { gate_up: "mlp.Wi", down: "mlp.Wo" },
        bias: [c.flag_or("mlp_bias", false)?; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout: c.number_or("mlp_dropout", 0.0)?,
    };
    let every = c.size_or("global_attn_every_n_layers", 3)?.max(1);
    let kinds = c.texts("layer_types")?;
    let near = c.size_or("local_attention", 128)? / 2;
    let [theta, near_theta] =
        [c.number_or("global_rope_theta", 160_000.0)?, c.number_or("local_rope_theta", 10_000.0)?];
    let mut blocks = Vec::with_capacity(layers);
    for layer in 0..layers {
        let local = kinds.get(layer).map_or(layer % every != 0, |kind| kind == "sliding_attention");
        let (kind, theta) = if local { ("sliding_attention", near_theta) } else { ("full_attention", theta) };
        blocks.push(BlockConfig {
            hidden,
            norm,
            attention: AttentionConfig {
                window: local.then_some(Window { left: near, right: near }),
                rotary: Some(c.rotary(Some(kind), head_dim, theta)?),
                ..attention
            },
            // The embeddings are normalised already.
            attention_place: if layer == 0 { Place::NONE } else { Place::pre("attn_norm") },
            cross: None,
            feed_forward,
            feed_forward_place: Place::pre("mlp_norm"),
            wiring: Wiring::Sequential,
            dropout: 0.0,
        });
    }
    let embeddings = EmbeddingsConfig {
        padding: c.size_if("pad_token_id")?,
        norm: Some(("embeddings.norm", norm)),
        dropout: c.number_or("embedding_dropout", 0.0)?,
        ..EmbeddingsConfig::new("embeddings.tok_embeddings", vocab, hidden)
    };
    let transform = TransformConfig {
        dense: "head.dense",
        bias: c.flag_or("classifier_bias", false)?,
        activation: Some(c.activation("classifier_activation", "gelu")?),
        norm: Some(("head.norm", norm)),
        width: hidden,
    };
    let head = HeadConfig {
        transform: Some(transform),
        bias: if c.flag_or("decoder_bias", true)? { &["decoder.bias"] } else { &[] },
        ..HeadConfig::new("decoder.weight", vocab, c.flag_or("tie_word_embeddings", true)?)
    };
    Ok(TextConfig {
        prefix: "model",
        task: task(c, Task::MaskedLm)?,
        hidden,
        embeddings,
        stack: StackConfig { name: "layers", blocks, norm: Some(("final_norm", norm)) },
        distance: DistanceConfig::None,
        causal: false,
        head,
        pooler: "pooler.dense",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &["head.", "decoder."],
    })
}
