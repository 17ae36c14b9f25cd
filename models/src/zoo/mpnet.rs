//! MPNet (Song et al., 2020, arXiv 2004.09297): BERT with RoBERTa's positions and head, no types, and T5's bias by distance.

use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use super::{bert, roberta};
use crate::Result;
use crate::attention::{AttentionConfig, DistanceConfig, Project};
use crate::block::{BlockConfig, Place};
use crate::front::embeddings::EmbeddingsConfig;
use crate::stack::StackConfig;

const PROJECT: Project =
    Project::Apart { query: "attention.attn.q", key: "attention.attn.k", value: "attention.attn.v" };

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bert = bert::encoder(c, task(c, Task::MaskedLm)?)?;
    let block = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig { project: PROJECT, output: "attention.attn.o", ..block.attention },
        attention_place: Place::post("attention.LayerNorm"),
        ..*block
    };
    let distance = DistanceConfig::Buckets {
        name: "encoder.relative_attention_bias",
        buckets: c.size_or("relative_attention_num_buckets", 32)?,
        heads: c.size("num_attention_heads")?,
        far: 128,
        bidirectional: true,
    };
    Ok(TextConfig {
        prefix: "mpnet",
        embeddings: EmbeddingsConfig { types: None, ..roberta::counted(c, &bert)? },
        stack: StackConfig { blocks: bert.stack.blocks.iter().map(block).collect(), ..bert.stack },
        distance,
        head: roberta::head(&bert),
        ..bert
    })
}
