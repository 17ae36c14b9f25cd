//! ELECTRA (Clark et al., 2020, arXiv 2003.10555): a generator that fills masks and a discriminator that detects replaced tokens, both BERTs
//! with embeddings of a width of their own.

use super::bert;
use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::activation::Activation;
use crate::front::embeddings::{EmbeddingsConfig, ProjectConfig};
use crate::heads::{HeadConfig, TransformConfig};
use crate::norm::NormConfig;

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let bert = bert::encoder(c, task(c, Task::Detection)?)?;
    let width = c.size_or("embedding_size", 128)?;
    let project = ProjectConfig { name: "embeddings_project", bias: true, width: bert.hidden, first: false };
    let project = (width != bert.hidden).then_some(project);
    let head = match bert.task {
        Task::Detection => {
            let activation = Some(c.activation("hidden_act", "gelu")?);
            let dense = "discriminator_predictions.dense";
            HeadConfig {
                transform: Some(TransformConfig { dense, bias: true, activation, norm: None, width: bert.hidden }),
                bias: &["discriminator_predictions.dense_prediction.bias"],
                ..HeadConfig::new("discriminator_predictions.dense_prediction.weight", 1, false)
            }
        }
        _ => {
            let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?);
            let transform = TransformConfig {
                dense: "generator_predictions.dense",
                bias: true,
                activation: Some(Activation::Gelu),
                norm: Some(("generator_predictions.LayerNorm", norm)),
                width,
            };
            HeadConfig {
                transform: Some(transform),
                weight: "generator_lm_head.weight",
                bias: &["generator_lm_head.bias"],
                ..bert.head
            }
        }
    };
    let embeddings = EmbeddingsConfig { width, project, ..bert.embeddings };
    let unused: &[&str] = &["discriminator_predictions.", "generator_predictions.", "generator_lm_head."];
    Ok(TextConfig { prefix: "electra", embeddings, head, unused, ..bert })
}
