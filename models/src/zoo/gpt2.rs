//! GPT-2 (Radford et al., 2019): norms before the parts, learned positions, matrices stored as `[in, out]`.

use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, DistanceConfig, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{EmbeddingsConfig, PositionRule, PositionsConfig};
use crate::heads::HeadConfig;
use crate::norm::NormConfig;
use crate::stack::StackConfig;
use crate::weights::Form;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let (hidden, vocab) = (c.size("n_embd|hidden_size")?, c.size("vocab_size")?);
    let heads = c.size("n_head|num_attention_heads")?;
    let head_dim = c.head_dim(hidden, heads)?;
    let norm = NormConfig::layer(c.eps("layer_norm_epsilon", 1e-5)?);
    let by_layer = c.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let scale = if c.flag_or("scale_attn_weights", true)? { 1.0 / (head_dim as f64).sqrt() } else { 1.0 };
    let attention = AttentionConfig {
        form: Form::Columns,
        output_form: Form::Columns,
        dropout: c.number_or("attn_pdrop", 0.1)?,
        ..AttentionConfig::new(heads, head_dim, Project::Thirds("attn.c_attn"), "attn.c_proj")
    };
    let feed_forward = FeedForwardConfig {
        width: c.size_or("n_inner", 4 * hidden)?,
        activation: c.activation("activation_function", "gelu_new")?,
        inner: Inner::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
        bias: [true; 2],
        form: Form::Columns,
        between: Between::default(),
        dropout: 0.0,
    };
    let dropout = c.number_or("resid_pdrop", 0.1)?;
    let block = |layer: usize| BlockConfig {
        hidden,
        norm,
        attention: AttentionConfig {
            scale: Some(if by_layer { scale / (layer + 1) as f64 } else { scale }),
            ..attention
        },
        attention_place: Place::pre("ln_1"),
        cross: None,
        feed_forward,
        feed_forward_place: Place::pre("ln_2"),
        wiring: Wiring::Sequential,
        dropout,
    };
    let count = c.size("n_positions|n_ctx|max_position_embeddings")?;
    let embeddings = EmbeddingsConfig {
        positions: Some(PositionsConfig { name: "wpe", count, rule: PositionRule::Count }),
        dropout: c.number_or("embd_pdrop", 0.1)?,
        ..EmbeddingsConfig::new("wte", vocab, hidden)
    };
    Ok(TextConfig {
        prefix: "transformer",
        task: task(c, Task::CausalLm)?,
        hidden,
        embeddings,
        stack: StackConfig {
            name: "h",
            blocks: (0..c.layers("n_layer|num_hidden_layers")?).map(block).collect(),
            norm: Some(("ln_f", norm)),
        },
        distance: DistanceConfig::None,
        causal: true,
        head: HeadConfig::new("lm_head.weight", vocab, c.flag_or("tie_word_embeddings", true)?),
        pooler: "",
        std: c.number_or("initializer_range", 0.02)?,
        unused: &[],
    })
}
