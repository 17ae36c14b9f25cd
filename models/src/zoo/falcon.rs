//! Falcon (Almazrouei et al., 2023, arXiv 2311.16867): attention and feed-forward part side by side, few key heads, one projection to heads.

use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, Bias, DistanceConfig, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::EmbeddingsConfig;
use crate::heads::HeadConfig;
use crate::norm::NormConfig;
use crate::stack::StackConfig;
use crate::weights::Form;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let (hidden, vocab) = (c.size("hidden_size")?, c.size("vocab_size")?);
    let heads = c.size("num_attention_heads|n_head")?;
    let head_dim = c.head_dim(hidden, heads)?;
    let norm = NormConfig::layer(c.eps("layer_norm_epsilon", 1e-5)?);
    let bias = c.flag_or("bias", false)?;
    let new = c.flag_or("new_decoder_architecture", false)?;
    let alibi = c.flag_or("alibi", false)?;
    let key_heads = match (new, c.flag_or("multi_query", true)?) {
        (true, _) => c.size_or("num_kv_heads|n_head_kv", heads)?,
        (false, true) => 1,
        (false, false) => heads,
    };
    let attention = AttentionConfig {
        key_heads,
        bias: Bias::all(bias),
        rotary: if alibi { None } else { Some(c.rotary(None, head_dim, 10_000.0)?) },
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(
            heads,
            head_dim,
            Project::Groups("self_attention.query_key_value"),
            "self_attention.dense",
        )
    };
    let feed_forward = FeedForwardConfig {
        width: c.size_or("ffn_hidden_size", 4 * hidden)?,
        activation: c.activation("activation", "gelu")?,
        inner: Inner::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
        bias: [bias; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout: 0.0,
    };
    let two_norms = new && c.size_or("num_ln_in_parallel_attn", 2)? == 2;
    let (wiring, places) = match (new || c.flag_or("parallel_attn", true)?, two_norms) {
        (true, true) => (Wiring::Parallel, [Place::pre("ln_attn"), Place::pre("ln_mlp")]),
        (true, false) => (Wiring::Shared, [Place::pre("input_layernorm"), Place::NONE]),
        (false, _) => (Wiring::Sequential, [Place::pre("input_layernorm"), Place::pre("post_attention_layernorm")]),
    };
    let block = BlockConfig {
        hidden,
        norm,
        attention,
        attention_place: places[0],
        cross: None,
        feed_forward,
        feed_forward_place: places[1],
        wiring,
        dropout: c.number_or("hidden_dropout", 0.0)?,
    };
    // The slopes are scaled with the scores.
    let slopes = DistanceConfig::Alibi { heads, scale: 1.0 / (head_dim as f64).sqrt() };
    Ok(TextConfig {
        prefix: "transformer",
        task: task(c, Task::CausalLm)?,
        hidden,
        embeddings: EmbeddingsConfig::new("word_embeddings", vocab, hidden),
        stack: StackConfig {
            name: "h",
            blocks: vec![block; c.layers("num_hidden_layers|n_layer")?],
            norm: Some(("ln_f", norm)),
        },
        distance: if alibi { slopes } else { DistanceConfig::None },
        causal: true,
        head: HeadConfig::new("lm_head.weight", vocab, c.flag_or("tie_word_embeddings", true)?),
        pooler: "",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &[],
    })
}
