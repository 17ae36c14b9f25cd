//! Doge (Shi et al., 2024, arXiv 2412.11834 and 2508.02124): Llama with norms of each head's queries and keys, factors of the residual, and
//! a dynamic mask. The models with a mixture of experts are not supported.

use super::config::Config;
use super::llama;
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, DynamicConfig, HeadNorm, Scores, Window};
use crate::block::{BlockConfig, Factor, Place};
use crate::gain::GainConfig;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    if c.flag_or("is_moe", false)? {
        return Err(c.error("a mixture of experts is not supported"));
    }
    let dynamic = DynamicConfig {
        rates: "self_attn.A",
        steps: "self_attn.dt_proj",
        bias: c.flag_or("attention_bias", false)?,
        keep: c.size_or("keep_window_size", 2048)?,
    };
    let window = c.size_if("sliding_window")?.map(|n| Window { left: n.saturating_sub(1), right: 0 });
    let place = |norm, name| Place { keep: Factor::Learned(GainConfig::vector(name, 1.0)), ..Place::pre(norm) };
    Ok(llama::with_blocks(llama::config(c)?, |_, block| BlockConfig {
        attention: AttentionConfig {
            norm: Some(HeadNorm {
                norm: block.norm,
                query: "self_attn.q_norm",
                key: "self_attn.k_norm",
                value: None,
                together: false,
                turned: false,
            }),
            window,
            scores: Scores::Dynamic(dynamic),
            ..block.attention
        },
        attention_place: place("input_layernorm", "input_residual"),
        feed_forward_place: place("post_attention_layernorm", "post_attention_residual"),
        ..*block
    }))
}
