//! Encoders and decoders of text.

use std::path::Path;

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{self, Config, T5, Targets, Task, TextModel, XlNet};

use crate::fixture::Fallible;
use crate::models::{Answer, Inputs};

pub fn language_model(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let loaded = zoo::load(folder, DType::F32, device)?;
    let model = loaded.text()?;
    let input = |name: &str| inputs.get(name).ok_or_else(|| format!("there is no input {name}"));
    let real = inputs.get("attention_mask").map(|mask| mask.cast(DType::Bool)).transpose()?;
    let text =
        TextInput { real: real.as_ref(), types: inputs.get("token_type_ids"), ..TextInput::new(input("input_ids")?) };
    let mut states = Vec::new();
    let hidden = model.run(&text, None, Some(&mut states))?;
    let mut logits = model.logits(&hidden)?;
    let loss = model.loss(&logits, input("labels")?, real.as_ref())?;
    if model.about().task == Task::Detection {
        logits = logits.squeeze(-1)?;
    }
    let mut answer = Answer::new(loaded.module());
    answer.states("hidden_states", states);
    answer.outputs.extend([("logits".into(), logits), ("loss".into(), loss)]);
    Ok(answer)
}

pub fn seq2seq(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = T5::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let input = |name: &str| inputs.get(name).ok_or_else(|| format!("there is no input {name}"));
    let real = |name: &str| inputs.get(name).map(|mask| mask.cast(DType::Bool)).transpose();
    let (real, decoder_real) = (real("attention_mask")?, real("decoder_attention_mask")?);
    let text = TextInput { real: real.as_ref(), ..TextInput::new(input("input_ids")?) };
    let mut answer = Answer::new(&model);
    let mut states = Vec::new();
    let encoded = model.encoded(&text, Some(&mut states))?;
    answer.states("encoder_hidden_states", states);
    answer.outputs.insert("encoder_last_hidden_state".into(), encoded.states.clone());
    let ids = model.shifted(input("labels")?)?;
    let text = TextInput { real: decoder_real.as_ref(), ..TextInput::new(&ids) };
    let mut states = Vec::new();
    let hidden = model.decode(&text, &encoded, None, Some(&mut states))?;
    answer.states("decoder_hidden_states", states);
    let logits = model.logits(&hidden)?;
    let loss = model.loss(&logits, input("labels")?, None)?;
    answer.outputs.extend([("logits".into(), logits), ("loss".into(), loss)]);
    Ok(answer)
}

/// XLNet with one stream, or with two where positions to predict are given.
pub fn xlnet(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let Some(mapping) = inputs.get("target_mapping") else { return language_model(folder, inputs, device) };
    let model = XlNet::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let input = |name: &str| inputs.get(name).ok_or_else(|| format!("there is no input {name}"));
    // One where a position is hidden.
    let hidden = input("perm_mask")?;
    let seen = hidden.eq(&hidden.zeros_like()?)?;
    let targets = Targets { seen: &seen, positions: &mapping.argmax(-1, false)? };
    let mut states = Vec::new();
    let hidden = model.predict(&TextInput::new(input("input_ids")?), targets, Some(&mut states))?;
    let logits = model.logits(&hidden)?;
    let loss = model.loss(&logits, input("labels")?, None)?;
    let mut answer = Answer::new(&model);
    answer.states("hidden_states", states);
    answer.outputs.extend([("logits".into(), logits), ("loss".into(), loss)]);
    Ok(answer)
}

impl Answer {
    /// No outputs yet.
    pub fn new(model: &dyn Module) -> Self {
        let named = model.named_parameters().into_iter().map(|(name, param)| (name, param.tensor()));
        Answer { outputs: Default::default(), parameters: named.collect() }
    }

    /// Adds numbered outputs.
    pub fn states(&mut self, name: &str, states: Vec<Tensor>) {
        let named = |(i, state)| (format!("{name}.{i}"), state);
        self.outputs.extend(states.into_iter().enumerate().map(named));
    }
}
