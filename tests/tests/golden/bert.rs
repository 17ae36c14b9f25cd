//! `BertForMaskedLM`.

use std::path::Path;

use wgrad::nn::Module;
use wgrad::{DType, Device, Tensor};
use wgrad_models::zoo::bert::{BertForMaskedLm, BertInput};

use crate::fixture::Fallible;
use crate::models::{Answer, Inputs};

pub fn masked_lm(folder: &Path, inputs: &Inputs, device: &Device) -> Fallible<Answer> {
    let model = BertForMaskedLm::load(folder, DType::F32, device)?;
    let input = |name: &str| inputs.get(name).ok_or_else(|| format!("there is no input {name}"));
    let real = inputs.get("attention_mask").map(|mask| mask.cast(DType::Bool)).transpose()?;
    let states = model.hidden_states(BertInput {
        ids: input("input_ids")?,
        real: real.as_ref(),
        types: inputs.get("token_type_ids"),
    })?;
    let logits = model.logits(states.last().ok_or("no hidden states")?)?;
    let loss = BertForMaskedLm::loss(&logits, input("labels")?)?;
    let named = |(i, state): (usize, Tensor)| (format!("hidden_states.{i}"), state);
    let mut outputs: std::collections::BTreeMap<_, _> = states.into_iter().enumerate().map(named).collect();
    outputs.insert("logits".into(), logits);
    outputs.insert("loss".into(), loss);
    let parameters = model.named_parameters().into_iter().map(|(name, param)| (name, param.tensor())).collect();
    Ok(Answer { outputs, parameters })
}
