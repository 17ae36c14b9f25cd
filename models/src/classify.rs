//! What is in a picture: by a classifier of images, or by a model of texts and images that is given labels in words.

use std::path::Path;

use serde::Serialize;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::front::codec::Codec;
use crate::front::embeddings::TextInput;
use crate::front::picture::{COLOURS, Picture};
use crate::front::preprocess::Preprocess;
use crate::zoo::{self, Clip, Model, unit};
use crate::{Error, Result};

/// A label and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Labelled {
    /// The label as the model or the user names it.
    pub label: String,
    /// Its probability among all labels.
    pub probability: f64,
}

/// A model with its preprocessing and its labels.
pub struct ImageClassifier {
    model: Model,
    preprocess: Preprocess,
    labels: Vec<String>,
    /// Vectors of the labels, of length 1, `[labels, width]`, where the model is told them in words.
    texts: Option<Tensor>,
    device: Device,
}

impl ImageClassifier {
    /// Loads a Hugging Face folder: `config.json`, `model.safetensors`, `preprocessor_config.json`. A ViT brings its labels; a CLIP
    /// is given `labels` in words, and its folder holds `tokenizer.json` too.
    ///
    /// # Errors
    /// If a file is missing or damaged, the model is neither, labels are missing or given to a model that has its own, or one is too long.
    pub fn load(folder: &Path, labels: &[String], device: &Device) -> Result<Self> {
        let preprocess = Preprocess::read(folder)?;
        let model = zoo::load(folder, DType::F32, device)?;
        let (labels, texts) = match &model {
            Model::Vit(_) if !labels.is_empty() => {
                return Err(model.config().error("the model has labels of its own and cannot be given others"));
            }
            Model::Vit(vit) => (vit.labels(), None),
            Model::Clip(_) if labels.is_empty() => {
                return Err(model.config().error("the model has no labels of its own: name some in words"));
            }
            Model::Clip(clip) => (labels.to_vec(), Some(vectors(clip, &Codec::open(folder)?, labels, device)?)),
            other => return Err(other.config().error("the model classifies no images")),
        };
        Ok(ImageClassifier { model, preprocess, labels, texts, device: device.clone() })
    }

    /// The `top` likeliest labels of a picture, the likeliest first.
    ///
    /// # Errors
    /// If the preprocessing does not give the size or the colours that the model wants, or memory is exhausted.
    pub fn classify(&self, picture: &Picture, top: usize) -> Result<Vec<Labelled>> {
        let seen = self.preprocess.seen(picture)?;
        let logits = no_grad(|| {
            let images = self.preprocess.images(&[seen], &self.device)?;
            expect_colours(&self.model)?;
            match (&self.model, &self.texts) {
                (Model::Clip(clip), Some(texts)) => {
                    let image = unit(&clip.embed_images(&images, None)?.vectors)?;
                    Ok(clip.similarities(texts, &image)?.transpose(0, 1)?)
                }
                (Model::Vit(vit), _) => vit.logits(&images, None),
                (other, _) => Err(other.config().error("the model classifies no images")),
            }
        })?;
        let probabilities = logits.squeeze(0)?.softmax(0)?.to_f64_vec()?;
        let mut all: Vec<(&String, f64)> = self.labels.iter().zip(probabilities).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        let labelled = |(label, probability): (&String, f64)| Labelled { label: label.clone(), probability };
        Ok(all.into_iter().take(top).map(labelled).collect())
    }
}

/// Errs unless the model is one of pictures of three colours.
pub(crate) fn expect_colours(model: &Model) -> Result<()> {
    let config = model.config();
    let own = config.inner("vision_config")?;
    match own.as_ref().unwrap_or(config).size_or("num_channels", COLOURS)? {
        COLOURS => Ok(()),
        other => Err(config.error(format!("num_channels is {other}, but pictures have {COLOURS} colours"))),
    }
}

/// Vectors of texts, of length 1. Each is run by itself, so that none is padded.
fn vectors(clip: &Clip, codec: &Codec, texts: &[String], device: &Device) -> Result<Tensor> {
    let vector = |text: &String| {
        let ids = codec.encode(text, true)?;
        if ids.is_empty() {
            return Err(Error::text(format!("the label {text:?} has no tokens")));
        }
        let ids = Tensor::from_slice(&ids, &[1, ids.len()], device)?;
        Ok::<_, Error>(unit(&clip.embed_texts(&TextInput::new(&ids), None)?.vectors)?.squeeze(0)?)
    };
    let vectors = no_grad(|| texts.iter().map(vector).collect::<Result<Vec<_>>>())?;
    Ok(Tensor::stack(&vectors.iter().collect::<Vec<_>>(), 0)?)
}
