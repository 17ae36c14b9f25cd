//! DeBERTa v2 and v3 (He et al., 2021, arXiv 2006.03654 and 2111.09543): BERT with disentangled attention.

use super::bert;
use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, DisentangledConfig, DistanceConfig, Project, Scores};
use crate::block::BlockConfig;
use crate::front::embeddings::EmbeddingsConfig;
use crate::heads::{HeadConfig, TransformConfig};
use crate::norm::NormConfig;
use crate::stack::StackConfig;

const PROJECT: Project = Project::Apart {
    query: "attention.self.query_proj",
    key: "attention.self.key_proj",
    value: "attention.self.value_proj",
};

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bert = bert::encoder(c, task(c, Task::MaskedLm)?)?;
    if c.size_or("conv_kernel_size", 0)? > 0 || c.size_if("embedding_size")?.is_some_and(|n| n != bert.hidden) {
        return Err(c.error("a convolution, or embeddings of another width, are not supported"));
    }
    let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-7)?);
    let kinds = c.texts("pos_att_type")?;
    let has = |kind: &str| kinds.iter().any(|k| k == kind);
    let apart = ["attention.self.pos_query_proj", "attention.self.pos_key_proj"];
    let scores = DisentangledConfig {
        content_to_position: has("c2p"),
        position_to_content: has("p2c"),
        apart: (!c.flag_or("share_att_key", false)?).then_some(apart),
    };
    let relative = c.flag_or("relative_attention", false)?;
    let block = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig {
            project: PROJECT,
            scores: if relative { Scores::Disentangled(scores) } else { Scores::Plain },
            ..block.attention
        },
        ..*block
    };
    // -1 and absent mean the same.
    let bounded = |name: &str, default| match c.number_or(name, -1.0)? {
        n if n < 1.0 => Ok(default),
        _ => c.size(name).map(Some),
    };
    let longest = c.size("max_position_embeddings")?;
    let far = bounded("max_relative_positions", None)?.unwrap_or(longest);
    let buckets = bounded("position_buckets", None)?;
    let normed = c.texts("norm_rel_ebd")?.iter().any(|kind| kind == "layer_norm");
    let distance = DistanceConfig::Vectors {
        name: "encoder.rel_embeddings",
        norm: normed.then_some(("encoder.LayerNorm", norm)),
        span: buckets.unwrap_or(far),
        width: bert.hidden,
        log: buckets.map(|_| far),
    };
    let biased = c.flag_or("position_biased_input", true)?;
    let positions = bert.embeddings.positions.filter(|_| biased);
    let embeddings = EmbeddingsConfig { positions, norm: Some(("embeddings.LayerNorm", norm)), ..bert.embeddings };
    let head = if c.flag_or("legacy", true)? { bert.head } else { apart_head(&bert.head) };
    Ok(TextConfig {
        prefix: "deberta",
        embeddings,
        stack: StackConfig { blocks: bert.stack.blocks.iter().map(block).collect(), ..bert.stack },
        distance: if relative { distance } else { DistanceConfig::None },
        head,
        unused: &["pooler.", "mask_predictions.", "lm_predictions."],
        ..bert
    })
}

/// The head under the names of the authors' files.
fn apart_head(bert: &HeadConfig) -> HeadConfig {
    let transform = bert.transform.map(|transform| TransformConfig {
        dense: "lm_predictions.lm_head.dense",
        norm: transform.norm.map(|(_, norm)| ("lm_predictions.lm_head.LayerNorm", norm)),
        ..transform
    });
    HeadConfig { transform, weight: "lm_predictions.lm_head.weight", bias: &["lm_predictions.lm_head.bias"], ..*bert }
}
