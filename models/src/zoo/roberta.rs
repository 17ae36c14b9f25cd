//! RoBERTa (Liu et al., 2019, arXiv 1907.11692): BERT with positions counted from the padding id on, and a head of other names.

use super::bert;
use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::front::embeddings::{EmbeddingsConfig, PositionRule, PositionsConfig};
use crate::heads::{HeadConfig, TransformConfig};

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bert = bert::encoder(c, task(c, Task::MaskedLm)?)?;
    Ok(TextConfig { prefix: "roberta", embeddings: counted(c, &bert)?, head: head(&bert), ..bert })
}

/// Positions from the padding id on.
pub(super) fn counted(c: &Config, bert: &TextConfig) -> Result<EmbeddingsConfig> {
    let rule = PositionRule::AfterPadding(c.size_or("pad_token_id", 1)?);
    let positions = bert.embeddings.positions.map(|positions| PositionsConfig { rule, ..positions });
    Ok(EmbeddingsConfig { positions, ..bert.embeddings })
}

pub(super) fn head(bert: &TextConfig) -> HeadConfig {
    let transform = bert.head.transform.map(|transform| TransformConfig {
        dense: "lm_head.dense",
        norm: transform.norm.map(|(_, norm)| ("lm_head.layer_norm", norm)),
        ..transform
    });
    HeadConfig {
        transform,
        weight: "lm_head.decoder.weight",
        bias: &["lm_head.bias", "lm_head.decoder.bias"],
        ..bert.head
    }
}
