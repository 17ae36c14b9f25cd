//! GLM-4 (GLM team, 2024, arXiv 2406.12793, the 0414 models): Llama with norms before and after each part, and half of each head turned, in
//! neighbouring pairs.

use super::config::Config;
use super::llama;
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, Bias, Rotary};
use crate::block::{BlockConfig, Place};
use crate::feed_forward::{FeedForwardConfig, Inner};

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bias = c.flag_or("attention_bias", false)?;
    Ok(llama::with_blocks(llama::config(c)?, |_, block| BlockConfig {
        attention: AttentionConfig {
            bias: Bias::heads(bias),
            rotary: block.attention.rotary.map(|rotary| Rotary { interleaved: true, ..rotary }),
            ..block.attention
        },
        attention_place: Place::both("input_layernorm", "post_self_attn_layernorm"),
        feed_forward: FeedForwardConfig {
            inner: Inner::Joined { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
            ..block.feed_forward
        },
        feed_forward_place: Place::both("post_attention_layernorm", "post_mlp_layernorm"),
        ..*block
    }))
}
