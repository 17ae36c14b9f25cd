//! Models of images, and of texts and images.

use std::path::Path;

use wgrad::nn::Build;
use wgrad::{DType, Device, Tensor};
use wgrad_models::boxes::{DetectionLoss, Objects};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{Clip, Config, Detected, Lxmert, RtDetr, Scene, SceneLabels, Vit, VitMae, unit};

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

pub fn rt_detr(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = RtDetr::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let seen = model.detect(input(inputs, "pixel_values")?)?;
    let mut objects = Vec::new();
    while let Some(classes) = inputs.get(&format!("labels.{}.class_labels", objects.len())) {
        let boxes = input(inputs, &format!("labels.{}.boxes", objects.len()))?.to_vec::<f32>()?;
        let classes = classes.to_f64_vec()?.into_iter().map(|class| class as usize).collect();
        objects.push(Objects { classes, boxes: boxes.as_chunks::<4>().0.to_vec() });
    }
    let losses = model.losses(&seen, &objects)?;
    let mut answer = Answer::new(&model);
    let mut loss: Option<Tensor> = None;
    for (number, part) in losses.iter().enumerate() {
        let sum = part.sum()?;
        loss = Some(match loss {
            Some(loss) => loss.add(&sum)?,
            None => sum,
        });
        let suffix = number.checked_sub(1).map_or(String::new(), |number| format!("_aux_{number}"));
        let DetectionLoss { class, distance, overlap } = part.clone();
        for (name, value) in [("vfl", class), ("bbox", distance), ("giou", overlap)] {
            answer.outputs.insert(format!("loss_dict.loss_{name}{suffix}"), value);
        }
    }
    let (last, before) = seen.layers.split_last().ok_or("there are no layers")?;
    for (number, Detected { logits, boxes }) in before.iter().chain([&seen.chosen]).cloned().enumerate() {
        answer.outputs.insert(format!("auxiliary_outputs.{number}.logits"), logits);
        answer.outputs.insert(format!("auxiliary_outputs.{number}.pred_boxes"), boxes);
    }
    let stacked = |all: Vec<&Tensor>| Tensor::stack(&all, 1);
    let last_state = seen.states.last().ok_or("there are no states")?;
    answer.outputs.extend([
        ("loss".into(), loss.ok_or("there is no loss")?),
        ("logits".into(), last.logits.clone()),
        ("pred_boxes".into(), last.boxes.clone()),
        ("last_hidden_state".into(), last_state.clone()),
        ("intermediate_hidden_states".into(), stacked(seen.states[1..].iter().collect())?),
        ("intermediate_logits".into(), stacked(seen.layers.iter().map(|layer| &layer.logits).collect())?),
        ("intermediate_reference_points".into(), stacked(seen.layers.iter().map(|layer| &layer.boxes).collect())?),
        ("init_reference_points".into(), seen.start),
        ("enc_topk_logits".into(), seen.chosen.logits),
        ("enc_topk_bboxes".into(), seen.chosen.boxes),
        ("enc_outputs_class".into(), seen.places.logits),
        ("enc_outputs_coord_logits".into(), seen.places.boxes),
    ]);
    answer.states("decoder_hidden_states", seen.states);
    answer.states("encoder_last_hidden_state", seen.maps);
    answer.states("encoder_hidden_states", seen.attended);
    Ok(answer)
}
