//! Llama (Touvron et al., 2023, arXiv 2302.13971), and what its descendants share with it: RMS norms before the parts, rotary positions, gated
//! units, grouped key heads, no biases.

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

pub(super) const PROJECT: Project =
    Project::Apart { query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj" };

/// A Llama as its `config.json` describes it.
pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let (hidden, vocab) = (c.size("hidden_size")?, c.size("vocab_size")?);
    let heads = c.size("num_attention_heads")?;
    let head_dim = c.head_dim(hidden, heads)?;
    let norm = NormConfig::rms(c.eps("rms_norm_eps", 1e-6)?);
    let attention = AttentionConfig {
        key_heads: c.size_or("num_key_value_heads", heads)?,
        bias: Bias::all(c.flag_or("attention_bias", false)?),
        rotary: Some(c.rotary(None, head_dim, 10_000.0)?),
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(heads, head_dim, PROJECT, "self_attn.o_proj")
    };
    let feed_forward = FeedForwardConfig {
        width: c.size("intermediate_size")?,
        activation: c.activation("hidden_act|hidden_activation", "silu")?,
        inner: Inner::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
        bias: [c.flag_or("mlp_bias", false)?; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout: 0.0,
    };
    let block = BlockConfig {
        hidden,
        norm,
        attention,
        attention_place: Place::pre("input_layernorm"),
        cross: None,
        feed_forward,
        feed_forward_place: Place::pre("post_attention_layernorm"),
        wiring: Wiring::Sequential,
        dropout: 0.0,
    };
    let embeddings = EmbeddingsConfig {
        padding: c.size_if("pad_token_id")?.filter(|&pad| pad < vocab),
        ..EmbeddingsConfig::new("embed_tokens", vocab, hidden)
    };
    Ok(TextConfig {
        prefix: "model",
        task: task(c, Task::CausalLm)?,
        hidden,
        embeddings,
        stack: StackConfig {
            name: "layers",
            blocks: vec![block; c.layers("num_hidden_layers")?],
            norm: Some(("norm", norm)),
        },
        distance: DistanceConfig::None,
        causal: true,
        head: HeadConfig::new("lm_head.weight", vocab, c.flag_or("tie_word_embeddings", false)?),
        pooler: "",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &[],
    })
}

/// The same model with other blocks: each by its number and what Llama has there.
pub(super) fn with_blocks(llama: TextConfig, block: impl Fn(usize, &BlockConfig) -> BlockConfig) -> TextConfig {
    let blocks = llama.stack.blocks.iter().enumerate().map(|(layer, old)| block(layer, old)).collect();
    TextConfig { stack: StackConfig { blocks, ..llama.stack }, ..llama }
}
