//! Models of images, and of texts and images.

use std::path::Path;

use wgrad::nn::Build;
use wgrad::{DType, Device, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{Clip, Config, Lxmert, Scene, SceneLabels, Vit, VitMae, unit};

use crate::fixture::Fallible;
use crate::models::{Answer, Inputs};

fn input<'a>(inputs: &'a Inputs, name: &str) -> Fallible<&'a Tensor> {
    inputs.get(name).ok_or_else(|| format!("there is no input {name}").into())
}

fn real(inputs: &Inputs, name: &str) -> Fallible<Tensor> {
    Ok(input(inputs, name)?.cast(DType::Bool)?)
}

pub fn vit(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = Vit::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let mut states = Vec::new();
    let logits = model.logits(input(inputs, "pixel_values")?, Some(&mut states))?;
    let loss = model.loss(&logits, input(inputs, "labels")?)?;
    let mut answer = Answer::new(&model);
    answer.states("hidden_states", states);
    answer.outputs.extend([("logits".into(), logits), ("loss".into(), loss)]);
    Ok(answer)
}

pub fn vit_mae(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = VitMae::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let images = input(inputs, "pixel_values")?;
    let mut states = Vec::new();
    let rebuilt = model.rebuild(images, input(inputs, "noise")?, Some(&mut states))?;
    let loss = model.loss(images, &rebuilt)?;
    let mut answer = Answer::new(&model);
    answer.states("hidden_states", states);
    answer.outputs.extend([
        ("logits".into(), rebuilt.pixels),
        ("mask".into(), rebuilt.hidden),
        ("ids_restore".into(), rebuilt.restore),
        ("loss".into(), loss),
    ]);
    Ok(answer)
}

pub fn clip(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = Clip::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let real = real(inputs, "attention_mask")?;
    let text = TextInput { real: Some(&real), ..TextInput::new(input(inputs, "input_ids")?) };
    let mut answer = Answer::new(&model);
    let mut states = Vec::new();
    let texts = model.embed_texts(&text, Some(&mut states))?;
    answer.states("text_model_output.hidden_states", states);
    let mut states = Vec::new();
    let images = model.embed_images(input(inputs, "pixel_values")?, Some(&mut states))?;
    answer.states("vision_model_output.hidden_states", states);
    let (text_embeds, image_embeds) = (unit(&texts.vectors)?, unit(&images.vectors)?);
    let similarities = model.similarities(&text_embeds, &image_embeds)?;
    let loss = model.loss(&similarities)?;
    answer.outputs.extend([
        ("text_model_output.last_hidden_state".into(), texts.states),
        ("text_model_output.pooler_output".into(), texts.vectors),
        ("vision_model_output.last_hidden_state".into(), images.states),
        ("vision_model_output.pooler_output".into(), images.vectors),
        ("text_embeds".into(), text_embeds),
        ("image_embeds".into(), image_embeds),
        ("logits_per_image".into(), similarities.transpose(0, 1)?),
        ("logits_per_text".into(), similarities),
        ("loss".into(), loss),
    ]);
    Ok(answer)
}

pub fn lxmert(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = Lxmert::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let of_words = real(inputs, "attention_mask")?;
    let of_regions = real(inputs, "visual_attention_mask")?;
    let text = TextInput {
        real: Some(&of_words),
        types: inputs.get("token_type_ids"),
        ..TextInput::new(input(inputs, "input_ids")?)
    };
    let seen = model.forward(&Scene {
        text,
        features: input(inputs, "visual_feats")?,
        boxes: input(inputs, "visual_pos")?,
        real: Some(&of_regions),
    })?;
    let of_kind = |kind: &str| {
        let part = |part: &str| input(inputs, &format!("obj_labels.{kind}.{part}"));
        Ok::<_, Box<dyn std::error::Error>>((part("label")?, part("conf")?))
    };
    let labels = SceneLabels {
        words: input(inputs, "labels")?,
        matched: input(inputs, "matched_label")?,
        answer: input(inputs, "ans")?,
        regions: [of_kind("obj")?, of_kind("attr")?, of_kind("feat")?],
    };
    let loss = model.loss(&seen, &labels)?;
    let mut answer = Answer::new(&model);
    answer.states("language_hidden_states", seen.words);
    answer.states("vision_hidden_states", seen.regions);
    answer.outputs.extend([
        ("prediction_logits".into(), seen.prediction),
        ("cross_relationship_score".into(), seen.matching),
        ("question_answering_score".into(), seen.answer),
        ("loss".into(), loss),
    ]);
    Ok(answer)
}
