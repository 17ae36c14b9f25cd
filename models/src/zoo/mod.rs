//! Architectures with public checkpoints. Each is a file that says what it is made of; [`load`] reads any of them.

pub mod bert;
mod clip;
pub mod config;
mod deberta;
mod doge;
mod electra;
mod falcon;
mod files;
mod funnel;
mod gemma2;
mod glm4;
mod gpt2;
mod gpt_neox;
mod llama;
mod lxmert;
mod model;
mod modernbert;
mod mosaicbert;
mod mpnet;
mod olmo2;
mod opt;
pub mod pre_ln;
mod roberta;
mod rt_detr;
mod t5;
mod text;
mod vit;
mod vit_mae;
mod wav2vec2;
mod xlnet;

use std::path::Path;

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device};

pub use clip::{Clip, Embedded, unit};
pub use config::Config;
pub use files::{save, save_as};
pub use funnel::Funnel;
pub use lxmert::{Lxmert, Scene, SceneLabels, Understood};
pub use model::{About, Cache, Task, TextModel};
pub use rt_detr::{Detected, Detections, RtDetr};
pub use t5::T5;
pub use text::{TextConfig, Transformer};
pub use vit::Vit;
pub use vit_mae::{Rebuilt, VitMae};
pub use wav2vec2::{Sound, Speech};
pub use xlnet::{Targets, XlNet};

use crate::Result;

/// A model of any architecture.
#[allow(clippy::large_enum_variant, reason = "a process holds few models, and they are not moved about")]
pub enum Model {
    /// An encoder or decoder of text.
    Transformer(Transformer),
    /// A T5.
    T5(T5),
    /// An XLNet.
    XlNet(XlNet),
    /// A Funnel Transformer.
    Funnel(Funnel),
    /// A classifier of images.
    Vit(Vit),
    /// A masked autoencoder of images.
    VitMae(VitMae),
    /// A model of texts and images.
    Clip(Clip),
    /// A model of words and regions.
    Lxmert(Lxmert),
    /// A detector of objects in images.
    RtDetr(RtDetr),
    /// A writer of what it hears.
    Speech(Speech),
}

impl Model {
    /// Its parameters.
    pub fn module(&self) -> &dyn Module {
        match self {
            Model::Transformer(model) => model,
            Model::T5(model) => model,
            Model::XlNet(model) => model,
            Model::Funnel(model) => model,
            Model::Vit(model) => model,
            Model::VitMae(model) => model,
            Model::Clip(model) => model,
            Model::Lxmert(model) => model,
            Model::RtDetr(model) => model,
            Model::Speech(model) => model,
        }
    }

    /// The model as one of text.
    ///
    /// # Errors
    /// If it is one of images, of sounds, or of texts and images.
    pub fn text(&self) -> Result<&dyn TextModel> {
        match self {
            Model::Transformer(model) => Ok(model),
            Model::T5(model) => Ok(model),
            Model::XlNet(model) => Ok(model),
            Model::Funnel(model) => Ok(model),
            _ => Err(self.config().error("the model is not one of text alone")),
        }
    }

    /// Its configuration as it was read.
    pub fn config(&self) -> &Config {
        match self {
            Model::Transformer(model) => &model.about().config,
            Model::T5(model) => &model.about().config,
            Model::XlNet(model) => &model.about().config,
            Model::Funnel(model) => &model.about().config,
            Model::Vit(model) => model.config(),
            Model::VitMae(model) => model.config(),
            Model::Clip(model) => model.config(),
            Model::Lxmert(model) => model.config(),
            Model::RtDetr(model) => model.config(),
            Model::Speech(model) => model.config(),
        }
    }

    /// Writes `config.json` and `model.safetensors`, under the names that the model was read with.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        save(self.module(), &self.config().json(), folder)
    }

    /// As [`save`](Self::save), floats in another dtype.
    ///
    /// # Errors
    /// If a file cannot be written, or memory is exhausted.
    pub fn save_as(&self, folder: &Path, dtype: DType) -> Result<()> {
        save_as(self.module(), &self.config().json(), folder, dtype)
    }
}

/// Loads the model of a Hugging Face folder: `config.json`, and `model.safetensors` or its shards. It is ready to infer.
///
/// # Errors
/// If a file is missing or damaged, the architecture is none of those here, or a tensor is missing, unknown, or of another shape.
pub fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Model> {
    let config = Config::read(folder)?;
    let build = Build::new(device).with_dtype(dtype);
    Ok(match config.text_or("model_type", "bert")?.as_str() {
        "t5" | "mt5" => Model::T5(T5::load(&config, folder, &build)?),
        "xlnet" => Model::XlNet(XlNet::load(&config, folder, &build)?),
        "funnel" => Model::Funnel(Funnel::load(&config, folder, &build)?),
        "vit" => Model::Vit(Vit::load(&config, folder, &build)?),
        "vit_mae" => Model::VitMae(VitMae::load(&config, folder, &build)?),
        "clip" => Model::Clip(Clip::load(&config, folder, &build)?),
        "lxmert" => Model::Lxmert(Lxmert::load(&config, folder, &build)?),
        "rt_detr_v2" => Model::RtDetr(RtDetr::load(&config, folder, &build)?),
        "wav2vec2-conformer" | "wav2vec2-bert" => Model::Speech(Speech::load(&config, folder, &build)?),
        _ => Model::Transformer(Transformer::load(&config, &text(&config)?, folder, &build)?),
    })
}

/// A model of an architecture with new weights, ready to train.
///
/// # Errors
/// If the configuration is incomplete or contradicts itself, or memory is exhausted.
pub fn new(config: &Config, dtype: DType, device: &Device) -> Result<Model> {
    let build = Build::new(device).with_dtype(dtype);
    Ok(match config.text_or("model_type", "bert")?.as_str() {
        "t5" | "mt5" => Model::T5(T5::new(config, &build)?),
        "xlnet" => Model::XlNet(XlNet::new(config, &build)?),
        "funnel" => Model::Funnel(Funnel::new(config, &build)?),
        "vit" => Model::Vit(Vit::new(config, &build)?),
        "vit_mae" => Model::VitMae(VitMae::new(config, &build)?),
        "clip" => Model::Clip(Clip::new(config, &build)?),
        "lxmert" => Model::Lxmert(Lxmert::new(config, &build)?),
        "rt_detr_v2" => Model::RtDetr(RtDetr::new(config, &build)?),
        "wav2vec2-conformer" | "wav2vec2-bert" => Model::Speech(Speech::new(config, &build)?),
        _ => Model::Transformer(Transformer::new(config, &text(config)?, &build)?),
    })
}

/// What the encoder or decoder that a configuration names is made of.
///
/// # Errors
/// If the architecture is none of those here, or the configuration is incomplete or contradicts itself.
pub fn text(config: &Config) -> Result<TextConfig> {
    pre_ln::applied(config, architecture(config)?)
}

fn architecture(config: &Config) -> Result<TextConfig> {
    let kind = config.text_or("model_type", "bert")?;
    match kind.as_str() {
        // MosaicBERT's files call themselves BERT.
        "bert" if config.size_if("alibi_starting_size")?.is_some() => mosaicbert::config(config),
        "bert" => bert::config(config),
        "deberta-v2" => deberta::config(config),
        "doge" => doge::config(config),
        "electra" => electra::config(config),
        "falcon" | "RefinedWeb" | "RefinedWebModel" => falcon::config(config),
        "gemma2" => gemma2::config(config),
        "glm4" => glm4::config(config),
        "gpt2" => gpt2::config(config),
        "gpt_neox" => gpt_neox::config(config),
        "llama" => llama::config(config),
        "modernbert" => modernbert::config(config),
        "mpnet" => mpnet::config(config),
        "olmo2" => olmo2::config(config),
        "opt" => opt::config(config),
        "roberta" | "xlm-roberta" | "camembert" => roberta::config(config),
        _ => Err(config.error(format!("model_type {kind:?} is not supported"))),
    }
}
