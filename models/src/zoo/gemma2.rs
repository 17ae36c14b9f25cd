//! Gemma 2 (Gemma team, 2024, arXiv 2408.00118): Llama with norms before and after each part, gains stored less one, bounded scores and logits,
//! and a window in every other layer.

use super::config::Config;
use super::llama;
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, Window};
use crate::block::{BlockConfig, Place};
use crate::front::embeddings::EmbeddingsConfig;
use crate::heads::HeadConfig;
use crate::norm::{NormConfig, NormKind};
use crate::stack::StackConfig;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let llama = llama::config(c)?;
    let norm = NormConfig { kind: NormKind::Rms { shift: 1.0 }, eps: c.eps("rms_norm_eps", 1e-6)? };
    let activation = c.activation("hidden_activation|hidden_act", "gelu_pytorch_tanh")?;
    let kinds = c.texts("layer_types")?;
    let window = c.size_or("sliding_window", 4096)?;
    let window = Window { left: window.saturating_sub(1), right: 0 };
    let scale = c.positive_if("query_pre_attn_scalar")?.unwrap_or(256.0);
    let softcap = c.positive_if("attn_logit_softcapping")?;
    let embeddings = EmbeddingsConfig { scale: (llama.hidden as f64).sqrt(), ..llama.embeddings };
    let head = HeadConfig {
        tied: c.flag_or("tie_word_embeddings", true)?,
        softcap: c.positive_if("final_logit_softcapping")?,
        ..llama.head
    };
    let gemma = llama::with_blocks(llama, |layer, block| {
        let near = kinds.get(layer).map_or(layer % 2 == 0, |kind| kind == "sliding_attention");
        BlockConfig {
            norm,
            attention: AttentionConfig {
                scale: Some(1.0 / scale.sqrt()),
                softcap,
                window: near.then_some(window),
                ..block.attention
            },
            attention_place: Place::both("input_layernorm", "post_attention_layernorm"),
            feed_forward: crate::feed_forward::FeedForwardConfig { activation, ..block.feed_forward },
            feed_forward_place: Place::both("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            ..*block
        }
    });
    let stack = StackConfig { norm: Some(("norm", norm)), ..gemma.stack };
    Ok(TextConfig { embeddings, head, stack, ..gemma })
}
