//! Vision Transformer (Dosovitskiy et al., 2021, arXiv 2010.11929) as a classifier of images.

use std::path::Path;

use wgrad::Tensor;
use wgrad::nn::{Build, Init, Module, Visitor};

use super::config::Config;
use super::files;
use crate::attention::{AttentionConfig, Bias, Pass, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::front::patches::{Patches, PatchesConfig, PatchesNames};
use crate::norm::{Norm, NormConfig};
use crate::stack::{Stack, StackConfig};
use crate::weights::{Form, Linear};
use crate::{Result, heads};

const PROJECT: Project = Project::Apart {
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
};
const NAMES: PatchesNames = PatchesNames {
    project: "embeddings.patch_embeddings.projection",
    bias: true,
    class: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    flat: false,
};

/// Patches, blocks and the norm after them.
pub(super) struct Trunk {
    pub patches: Patches,
    pub stack: Stack,
    pub norm: Norm,
}

impl Trunk {
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let width = c.size("hidden_size")?;
        let config = PatchesConfig {
            image: c.size("image_size")?,
            size: c.size("patch_size")?,
            channels: c.size_or("num_channels", 3)?,
            width,
        };
        let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?);
        let stack = stack(c, "", "encoder.layer")?;
        Ok(Trunk {
            patches: Patches::new(config, NAMES, build)?,
            stack: Stack::new(&stack, width, build)?,
            norm: Norm::new(norm, width, build)?,
        })
    }
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.patches);
        v.module("", &self.stack);
        v.module("layernorm", &self.norm);
    }
}

/// Blocks as the fields that begin with `side` describe them.
pub(super) fn stack(c: &Config, side: &str, name: &'static str) -> Result<StackConfig> {
    let size = |field: &str| c.size(&format!("{side}{field}"));
    let (hidden, heads) = (size("hidden_size")?, size("num_attention_heads")?);
    let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-12)?);
    let block = BlockConfig {
        hidden,
        norm,
        attention: AttentionConfig {
            bias: Bias { output: true, ..Bias::heads(c.flag_or("qkv_bias", true)?) },
            dropout: c.number_or("attention_probs_dropout_prob", 0.0)?,
            ..AttentionConfig::new(heads, c.head_dim(hidden, heads)?, PROJECT, "attention.output.dense")
        },
        attention_place: Place::pre("layernorm_before"),
        cross: None,
        feed_forward: super::bert::feed_forward(size("intermediate_size")?, c.activation("hidden_act", "gelu")?),
        feed_forward_place: Place::pre("layernorm_after"),
        wiring: Wiring::Sequential,
        dropout: c.number_or("hidden_dropout_prob", 0.0)?,
    };
    let layers = c.layers(&format!("{side}num_hidden_layers"))?;
    Ok(StackConfig { name, blocks: vec![block; layers], norm: None })
}

/// A classifier of images.
pub struct Vit {
    config: Config,
    prefix: String,
    classes: usize,
    trunk: Trunk,
    classifier: Linear,
}

impl Vit {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        Self::build(c, "vit".into(), build)
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, c.layers("num_hidden_layers")?)?;
        let model = Self::build(c, files::prefix(&weights, "vit"), &build.clone().blank()?)?;
        files::fill(&model, &weights, &["pooler."])?;
        Ok(model)
    }

    fn build(c: &Config, prefix: String, build: &Build) -> Result<Self> {
        let std = c.number_or("initializer_range", 0.02)?;
        let build = build.clone().with_init(Init::TruncatedNormal { mean: 0.0, std });
        let labels = c.json().get("id2label").and_then(|labels| labels.as_object().map(serde_json::Map::len));
        let classes = c.size_or("num_labels", labels.unwrap_or(2))?;
        Ok(Vit {
            config: c.clone(),
            prefix,
            classes,
            trunk: Trunk::new(c, &build)?,
            classifier: Linear::new(c.size("hidden_size")?, classes, true, Form::Rows, &build)?,
        })
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Names of the classes in their order: `id2label` of the configuration, `LABEL_n` where it has none.
    pub fn labels(&self) -> Vec<String> {
        let json = self.config.json();
        let named = |n: usize| Some(json.get("id2label")?.get(n.to_string())?.as_str()?.to_string());
        (0..self.classes).map(|n| named(n).unwrap_or_else(|| format!("LABEL_{n}"))).collect()
    }

    /// Logits `[batch, classes]` of images `[batch, channels, size, size]`. What goes into the blocks and comes out of each is put into
    /// `states` if it is wanted.
    ///
    /// # Errors
    /// If the images are of another size.
    pub fn logits(&self, images: &Tensor, states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let Trunk { patches, stack, norm } = &self.trunk;
        let x = patches.with_class(&patches.of_patches(images)?)?;
        let x = stack.forward(x, &Pass::default(), None, None, states)?;
        self.classifier.forward(&norm.forward(&x.narrow(1, 0, 1)?)?.squeeze(1)?)
    }

    /// Mean cross-entropy of logits against classes `[batch]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss(&self, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
        heads::cross_entropy(logits, classes)
    }
}

impl Module for Vit {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(&self.prefix, &self.trunk);
        v.module("classifier", &self.classifier);
    }
}
