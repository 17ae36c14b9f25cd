//! OLMo 2 (OLMo team, 2025, arXiv 2501.00656): Llama with norms of what comes out of the parts, and of all heads' queries and keys.

use super::config::Config;
use super::llama;
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, HeadNorm};
use crate::block::{BlockConfig, Place};

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    Ok(llama::with_blocks(llama::config(c)?, |_, block| BlockConfig {
        attention: AttentionConfig {
            norm: Some(HeadNorm {
                norm: block.norm,
                query: "self_attn.q_norm",
                key: "self_attn.k_norm",
                value: None,
                together: true,
                turned: false,
            }),
            ..block.attention
        },
        attention_place: Place::after("post_attention_layernorm"),
        feed_forward_place: Place::after("post_feedforward_layernorm"),
        ..*block
    }))
}
