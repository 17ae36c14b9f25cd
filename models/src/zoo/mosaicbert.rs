//! MosaicBERT (Portes et al., 2023, arXiv 2312.17482): BERT with ALiBi in place of positions, one projection to heads, and gated units.

use super::bert;
use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, DistanceConfig, Project};
use crate::block::{BlockConfig, Place};
use crate::feed_forward::{FeedForwardConfig, Inner};
use crate::front::embeddings::EmbeddingsConfig;
use crate::stack::StackConfig;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bert = bert::encoder(c, task(c, Task::MaskedLm)?)?;
    let block = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig { project: Project::Thirds("attention.self.Wqkv"), ..block.attention },
        feed_forward: FeedForwardConfig {
            inner: Inner::Joined { gate_up: "mlp.gated_layers", down: "mlp.wo" },
            bias: [false, true],
            dropout: block.dropout,
            ..block.feed_forward
        },
        feed_forward_place: Place::post("mlp.layernorm"),
        ..*block
    };
    Ok(TextConfig {
        embeddings: EmbeddingsConfig { positions: None, ..bert.embeddings },
        stack: StackConfig { blocks: bert.stack.blocks.iter().map(block).collect(), ..bert.stack },
        distance: DistanceConfig::Alibi { heads: c.size("num_attention_heads")?, scale: 1.0 },
        ..bert
    })
}
