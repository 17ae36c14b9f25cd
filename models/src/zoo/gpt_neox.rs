//! GPT-NeoX (Black et al., 2022, arXiv 2204.06745), and Pythia: attention and feed-forward part side by side, a quarter of each head turned.

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
    let heads = c.size("num_attention_heads")?;
    let head_dim = c.head_dim(hidden, heads)?;
    let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?);
    let mut rotary = c.rotary(None, head_dim, 10_000.0)?;
    if c.number_if("rotary_pct|partial_rotary_factor")?.is_none() && c.inner("rope_parameters")?.is_none() {
        rotary.dim = head_dim / 4;
    }
    let attention = AttentionConfig {
        bias: Bias::all(c.flag_or("attention_bias", true)?),
        rotary: Some(rotary),
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(heads, head_dim, Project::Groups("attention.query_key_value"), "attention.dense")
    };
    let feed_forward = FeedForwardConfig {
        width: c.size("intermediate_size")?,
        activation: c.activation("hidden_act", "gelu")?,
        inner: Inner::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
        bias: [true; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout: 0.0,
    };
    let parallel = c.flag_or("use_parallel_residual", true)?;
    let block = BlockConfig {
        hidden,
        norm,
        attention,
        attention_place: Place::pre("input_layernorm"),
        cross: None,
        feed_forward,
        feed_forward_place: Place::pre("post_attention_layernorm"),
        wiring: if parallel { Wiring::Parallel } else { Wiring::Sequential },
        dropout: c.number_or("hidden_dropout", 0.0)?,
    };
    Ok(TextConfig {
        prefix: "gpt_neox",
        task: task(c, Task::CausalLm)?,
        hidden,
        embeddings: EmbeddingsConfig::new("embed_in", vocab, hidden),
        stack: StackConfig {
            name: "layers",
            blocks: vec![block; c.layers("num_hidden_layers")?],
            norm: Some(("final_layer_norm", norm)),
        },
        distance: DistanceConfig::None,
        causal: true,
        head: HeadConfig::new("embed_out.weight", vocab, c.flag_or("tie_word_embeddings", false)?),
        pooler: "",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &[],
    })
}
