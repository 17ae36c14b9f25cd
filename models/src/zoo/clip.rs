//! CLIP (Radford et al., 2021, arXiv 2103.00020): a causal model of text and one of images, that give a text and its image like vectors.

use std::path::Path;

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{DType, Mask, Tensor};

use super::config::Config;
use super::files;
use crate::attention::{AttentionConfig, Pass, Project};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::embeddings::{Embeddings, EmbeddingsConfig, PositionRule, PositionsConfig, TextInput};
use crate::front::patches::{Patches, PatchesConfig, PatchesNames};
use crate::norm::{Norm, NormConfig};
use crate::stack::{Stack, StackConfig};
use crate::weights::{Form, Linear};
use crate::{Result, heads};

const PROJECT: Project =
    Project::Apart { query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj" };
const NAMES: PatchesNames = PatchesNames {
    project: "embeddings.patch_embedding",
    bias: false,
    class: "embeddings.class_embedding",
    positions: "embeddings.position_embedding.weight",
    flat: true,
};

struct TextSide {
    embeddings: Embeddings,
    stack: Stack,
    norm: Norm,
    /// Id of the token that ends a text; None where it is the largest.
    end: Option<usize>,
}

struct ImageSide {
    patches: Patches,
    before: Norm,
    stack: Stack,
    after: Norm,
}

impl Module for TextSide {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.embeddings);
        v.module("encoder", &self.stack);
        v.module("final_layer_norm", &self.norm);
    }
}

impl Module for ImageSide {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.patches);
        v.module("pre_layrnorm", &self.before);
        v.module("encoder", &self.stack);
        v.module("post_layernorm", &self.after);
    }
}

/// A model of texts and images.
pub struct Clip {
    config: Config,
    text: TextSide,
    image: ImageSide,
    text_projection: Linear,
    image_projection: Linear,
    /// Logarithm of the factor of similarities.
    scale: Param,
}

/// What one side makes of a batch.
pub struct Embedded {
    /// Last states `[batch, length, width]`: of texts after the last norm, of images before.
    pub states: Tensor,
    /// `[batch, projection]`.
    pub vectors: Tensor,
}

/// The configurations of text and images.
fn sides(c: &Config) -> Result<[Config; 2]> {
    let side = |name: &str| c.inner(name)?.ok_or_else(|| c.error(format!("field {name:?} is missing")));
    Ok([side("text_config")?, side("vision_config")?])
}

fn stack(c: &Config) -> Result<StackConfig> {
    let (hidden, heads) = (c.size("hidden_size")?, c.size("num_attention_heads")?);
    let attention = AttentionConfig {
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(heads, c.head_dim(hidden, heads)?, PROJECT, "self_attn.out_proj")
    };
    let block = BlockConfig {
        hidden,
        norm: NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?),
        attention,
        attention_place: Place::pre("layer_norm1"),
        cross: None,
        feed_forward: FeedForwardConfig {
            width: c.size("intermediate_size")?,
            activation: c.activation("hidden_act", "quick_gelu")?,
            inner: Inner::Plain { up: "mlp.fc1", down: "mlp.fc2" },
            bias: [true; 2],
            form: Form::Rows,
            between: Between::default(),
            dropout: 0.0,
        },
        feed_forward_place: Place::pre("layer_norm2"),
        wiring: Wiring::Sequential,
        dropout: 0.0,
    };
    Ok(StackConfig { name: "layers", blocks: vec![block; c.layers("num_hidden_layers")?], norm: None })
}

impl Clip {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let build = &build.clone().with_init(Init::Normal { mean: 0.0, std: 0.02 });
        let [t, v] = sides(c)?;
        let (text_width, image_width) = (t.size("hidden_size")?, v.size("hidden_size")?);
        let norm = |c: &Config, width| Norm::new(NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?), width, build);
        let positions = PositionsConfig {
            name: "embeddings.position_embedding",
            count: t.size("max_position_embeddings")?,
            rule: PositionRule::Count,
        };
        let words = EmbeddingsConfig {
            positions: Some(positions),
            ..EmbeddingsConfig::new("embeddings.token_embedding", t.size("vocab_size")?, text_width)
        };
        let patches = PatchesConfig {
            image: v.size("image_size")?,
            size: v.size("patch_size")?,
            channels: v.size_or("num_channels", 3)?,
            width: image_width,
        };
        let joint = c.size_or("projection_dim", 512)?;
        let linear = |inputs| Linear::new(inputs, joint, false, Form::Rows, build);
        Ok(Clip {
            config: c.clone(),
            text: TextSide {
                embeddings: Embeddings::new(words, build)?,
                stack: Stack::new(&stack(&t)?, text_width, build)?,
                norm: norm(&t, text_width)?,
                // Older files say 2, whatever the tokenizer does.
                end: t.size_if("eos_token_id")?.filter(|&id| id != 2),
            },
            image: ImageSide {
                patches: Patches::new(patches, NAMES, build)?,
                before: norm(&v, image_width)?,
                stack: Stack::new(&stack(&v)?, image_width, build)?,
                after: norm(&v, image_width)?,
            },
            text_projection: linear(text_width)?,
            image_projection: linear(image_width)?,
            scale: build.param(&[], Init::Constant(c.number_or("logit_scale_init_value", 2.6592)?))?,
        })
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let [t, v] = sides(c)?;
        let weights = files::open(folder, t.layers("num_hidden_layers")? + v.layers("num_hidden_layers")?)?;
        let model = Self::new(c, &build.clone().blank()?)?;
        files::fill(&model, &weights, &[])?;
        Ok(model)
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Embeds texts. What goes into the blocks and comes out of each is put into `states` if it is wanted.
    ///
    /// # Errors
    /// If shapes do not fit, a text is too long, or an id is outside the vocabulary.
    pub fn embed_texts(&self, input: &TextInput, states: Option<&mut Vec<Tensor>>) -> Result<Embedded> {
        let TextSide { embeddings, stack, norm, end } = &self.text;
        let pass = stack.pass(&input.mask()?.and(Mask::causal(0)), 0);
        let x = stack.forward(embeddings.forward(input, 0)?, &pass, None, None, states)?;
        let x = norm.forward(&x)?;
        let ends = match end {
            None => input.ids.argmax(1, true)?,
            Some(id) => {
                let id = Tensor::scalar(*id as f64, input.ids.dtype(), input.ids.device())?;
                input.ids.eq(&id)?.cast(DType::I32)?.argmax(1, true)?
            }
        };
        let index = ends.unsqueeze(-1)?.expand(&[x.size(0)?, 1, x.size(2)?])?;
        let vectors = self.text_projection.forward(&x.gather(1, &index)?.squeeze(1)?)?;
        Ok(Embedded { states: x, vectors })
    }

    /// Embeds images `[batch, channels, size, size]`, likewise.
    ///
    /// # Errors
    /// If the images are of another size.
    pub fn embed_images(&self, images: &Tensor, states: Option<&mut Vec<Tensor>>) -> Result<Embedded> {
        let ImageSide { patches, before, stack, after } = &self.image;
        let x = before.forward(&patches.with_class(&patches.of_patches(images)?)?)?;
        let x = stack.forward(x, &Pass::default(), None, None, states)?;
        let whole = after.forward(&x.narrow(1, 0, 1)?)?.squeeze(1)?;
        Ok(Embedded { vectors: self.image_projection.forward(&whole)?, states: x })
    }

    /// Logits `[texts, images]` of vectors of length 1.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn similarities(&self, texts: &Tensor, images: &Tensor) -> Result<Tensor> {
        Ok(texts.matmul(&images.transpose(0, 1)?)?.mul(&self.scale.tensor().exp()?)?)
    }

    /// Mean of the cross-entropies of texts among images and of images among texts, where the i-th of both belong together.
    ///
    /// # Errors
    /// If there are not as many texts as images.
    pub fn loss(&self, similarities: &Tensor) -> Result<Tensor> {
        let own = Tensor::arange(0, similarities.size(0)? as i64, DType::I32, similarities.device())?;
        let of_texts = heads::cross_entropy(similarities, &own)?;
        let of_images = heads::cross_entropy(&similarities.transpose(0, 1)?, &own)?;
        Ok(of_texts.add(&of_images)?.mul_scalar(0.5)?)
    }
}

/// Vectors `[batch, width]` of length 1.
///
/// # Errors
/// If memory is exhausted.
pub fn unit(vectors: &Tensor) -> Result<Tensor> {
    Ok(vectors.div(&vectors.square()?.sum(&[-1], true)?.sqrt()?)?)
}

impl Module for Clip {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("text_model", &self.text);
        v.module("vision_model", &self.image);
        v.module("text_projection", &self.text_projection);
        v.module("visual_projection", &self.image_projection);
        v.param("logit_scale", &self.scale);
    }
}
