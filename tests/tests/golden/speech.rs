//! Models of speech.

use std::path::Path;

use wgrad::nn::Build;
use wgrad::{DType, Device};
use wgrad_models::zoo::{Config, Sound, Speech};

use crate::fixture::Fallible;
use crate::models::{Answer, Inputs};

pub fn ctc(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = Speech::load(&Config::read(folder)?, folder, &Build::new(device))?;
    let values = inputs.get("input_values").or(inputs.get("input_features")).ok_or("there is no sound")?;
    let lengths = match inputs.get("attention_mask") {
        Some(mask) => Some(mask.cast(DType::F32)?.sum(&[-1], false)?.to_f64_vec()?),
        None => None,
    };
    let lengths: Option<Vec<usize>> = lengths.map(|lengths| lengths.into_iter().map(|n| n as usize).collect());
    let mut states = Vec::new();
    let hidden = model.encode(&Sound { values, lengths: lengths.as_deref(), masked: None }, Some(&mut states))?;
    let logits = model.logits(&hidden)?;
    let labels = inputs.get("labels").ok_or("there are no labels")?;
    let loss = model.loss(&logits, labels, lengths.as_deref())?;
    let mut answer = Answer::new(&model);
    answer.states("hidden_states", states);
    answer.outputs.extend([("logits".into(), logits), ("loss".into(), loss)]);
    Ok(answer)
}
