//! OPT (Zhang et al., 2022, arXiv 2205.01068): GPT with ReLU, and positions that count real tokens from 2 on.

use super::config::Config;
use super::model::{Task, task};
use super::text::TextConfig;
use crate::Result;
use crate::attention::{AttentionConfig, Bias, DistanceConfig, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{EmbeddingsConfig, PositionRule, PositionsConfig, ProjectConfig};
use crate::heads::{HeadConfig, TransformConfig};
use crate::norm::{NormConfig, NormKind};
use crate::stack::StackConfig;
use crate::weights::Form;

const PROJECT: Project =
    Project::Apart { query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj" };

pub(super) fn config(c: &Config) -> Result<TextConfig> {
    let (hidden, vocab) = (c.size("hidden_size")?, c.size("vocab_size")?);
    let heads = c.size("num_attention_heads")?;
    let affine = c.flag_or("layer_norm_elementwise_affine", true)?;
    let norm = NormConfig { kind: NormKind::Layer { gain: affine, bias: affine }, eps: 1e-5 };
    let bias = c.flag_or("enable_bias", true)?;
    let before = c.flag_or("do_layer_norm_before", true)?;
    let place = if before { Place::pre } else { Place::post };
    let block = BlockConfig {
        hidden,
        norm,
        attention: AttentionConfig {
            bias: Bias::all(bias),
            dropout: c.number_or("attention_dropout", 0.0)?,
            ..AttentionConfig::new(heads, c.head_dim(hidden, heads)?, PROJECT, "self_attn.out_proj")
        },
        attention_place: place("self_attn_layer_norm"),
        cross: None,
        feed_forward: FeedForwardConfig {
            width: c.size("ffn_dim")?,
            activation: c.activation("activation_function", "relu")?,
            inner: Inner::Plain { up: "fc1", down: "fc2" },
            bias: [bias; 2],
            form: Form::Rows,
            between: Between::default(),
            dropout: 0.0,
        },
        feed_forward_place: place("final_layer_norm"),
        wiring: Wiring::Sequential,
        dropout: c.number_or("dropout", 0.1)?,
    };
    let count = c.size("max_position_embeddings")? + 2;
    let width = c.size_or("word_embed_proj_dim", hidden)?;
    let project = ProjectConfig { name: "project_in", bias: false, width: hidden, first: true };
    let embeddings = EmbeddingsConfig {
        padding: c.size_if("pad_token_id")?,
        positions: Some(PositionsConfig { name: "embed_positions", count, rule: PositionRule::Real }),
        project: (width != hidden).then_some(project),
        ..EmbeddingsConfig::new("embed_tokens", vocab, width)
    };
    // The layer back to the width of the words stands among the decoder's names, wherever those begin.
    let out = TransformConfig { dense: "model.decoder.project_out", bias: false, activation: None, norm: None, width };
    let head = HeadConfig {
        transform: (width != hidden).then_some(out),
        ..HeadConfig::new("lm_head.weight", vocab, c.flag_or("tie_word_embeddings", true)?)
    };
    let final_norm = before && !c.flag_or("_remove_final_layer_norm", false)?;
    Ok(TextConfig {
        prefix: "model.decoder",
        task: task(c, Task::CausalLm)?,
        hidden,
        embeddings,
        stack: StackConfig {
            name: "layers",
            blocks: vec![block; c.layers("num_hidden_layers")?],
            norm: final_norm.then_some(("final_layer_norm", norm)),
        },
        distance: DistanceConfig::None,
        causal: true,
        head,
        pooler: "",
        std: c.number_or("init_std", 0.02)?,
        unused: &[],
    })
}
