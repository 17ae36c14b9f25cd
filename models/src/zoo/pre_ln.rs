//! Pre-LN checkpoints as the same function without means and without gains (Jiang et al., Pre-RMSNorm and Pre-CRMSNorm Transformers, 2023, arXiv
//! 2305.14858, section 3): [`crate::surgery`] for the models of Hugging Face folders. What comes out is such a folder too, whose
//! configuration has one field more, `"pre_ln_as": "rms"` or `"crms"`.

use std::collections::BTreeMap;

use serde_json::Value;
use wgrad::nn::{Build, Module, Param};
use wgrad::{DType, Tensor, no_grad};

use super::model::{Task, TextModel};
use super::text::{TextConfig, Transformer};
use super::{Config, Model};
use crate::attention::{Project, Scores};
use crate::block::{BlockConfig, Place, Wiring};
use crate::feed_forward::{FeedForwardConfig, Inner};
use crate::norm::{NormConfig, NormKind};
use crate::surgery::{Without, centred, folded};
use crate::weights::Form;
use crate::{Error, Result};

/// The field of a configuration.
const FIELD: &str = "pre_ln_as";

/// What a configuration says of its norms, applied to what its architecture is made of.
pub(super) fn applied(config: &Config, text: TextConfig) -> Result<TextConfig> {
    match config.text_or(FIELD, "layer")?.as_str() {
        "layer" => Ok(text),
        name => without(config, text, name.parse().map_err(|error: Error| config.error(error.to_string()))?),
    }
}

/// Converts a model; `Err` tells what it lacks.
///
/// # Errors
/// If the model is not a Pre-LN transformer with biases in all layers that follow norms, or memory is exhausted.
pub fn convert(model: &Model, way: Without) -> Result<Model> {
    let Model::Transformer(model) = model else { return Err(model.config().error(WANTED)) };
    let config = &model.about().config;
    let old = super::text(config)?;
    let mut json = config.json();
    if let Value::Object(fields) = &mut json {
        fields.insert(FIELD.into(), way.name().into());
        fields.insert("tie_word_embeddings".into(), false.into());
    }
    let new_config = Config::new(json)?;
    let new = without(config, old.clone(), way)?;
    // Packed ones are expanded.
    let dense = |(name, param): (String, Param)| (relative(&name, model.prefix()), param.tensor().detach());
    let tensors = model.named_parameters().into_iter().map(dense).collect();
    let parts = Parts { tensors, cut: old.hidden - new.hidden, text: old };
    let word = parts.get(&format!("{}.weight", parts.text.embeddings.word))?;
    let built = Transformer::new(&new_config, &new, &Build::new(word.device()).with_dtype(word.dtype()))?;
    built.train(false);
    no_grad(|| {
        for (name, param) in built.named_parameters() {
            let value = parts.converted(&relative(&name, built.prefix()))?;
            param.set(&value.cast(param.dtype())?.contiguous()?)?;
        }
        Ok(Model::Transformer(built))
    })
}

const WANTED: &str = "norms can be converted in a transformer with the same layer norm, with gain and bias, before each part of each block and \
                      after the last, with biases in all layers that follow norms, and with words that go into the first block as they are";

/// The name of a parameter without what stands before those of embeddings and blocks.
fn relative(name: &str, prefix: &str) -> String {
    let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    rest.unwrap_or(name).to_string()
}

/// What a Pre-LN model is made of afterwards.
fn without(config: &Config, mut text: TextConfig, way: Without) -> Result<TextConfig> {
    let refuse = || config.error(WANTED);
    let Some((_, NormConfig { kind: NormKind::Layer { gain: true, bias: true }, eps })) = text.stack.norm else {
        return Err(refuse());
    };
    let of_stack = text.stack.norm.map(|(_, norm)| norm);
    let pre = |place: Place| place.before.is_some_and(|name| place == Place::pre(name));
    let plain = |form: Form| matches!(form, Form::Rows | Form::Columns);
    let fits = |block: &BlockConfig| {
        let BlockConfig { attention, feed_forward, .. } = block;
        let bias = attention.bias;
        Some(block.norm) == of_stack
            && pre(block.attention_place)
            && (pre(block.feed_forward_place) || block.wiring == Wiring::Shared)
            && block.cross.is_none()
            && attention.scores == Scores::Plain
            && !attention.turns_input
            && [attention.form, attention.output_form, feed_forward.form].into_iter().all(plain)
            && bias.query
            && bias.key
            && bias.value
            && feed_forward.bias[0]
    };
    let embeddings = &text.embeddings;
    let straight = embeddings.norm.is_none() && embeddings.project.is_none() && text.head.transform.is_none();
    if !straight || text.hidden <= way.cut() || !text.stack.blocks.iter().all(fits) || text.task == Task::Encoder {
        return Err(refuse());
    }
    let norm = NormConfig { kind: NormKind::Plain(way.kind()), eps };
    text.hidden -= way.cut();
    text.embeddings.width = text.hidden;
    for block in &mut text.stack.blocks {
        (block.hidden, block.norm) = (text.hidden, norm);
    }
    text.stack.norm = text.stack.norm.map(|(name, _)| (name, norm));
    text.head.tied = false;
    if text.head.bias.is_empty() {
        text.head.bias = match text.head.weight {
            "embed_out.weight" => &["embed_out.bias"],
            _ => &["lm_head.bias"],
        };
    }
    Ok(text)
}

/// The tensors of the old model.
struct Parts {
    tensors: BTreeMap<String, Tensor>,
    text: TextConfig,
    /// How much shorter the new residual stream is.
    cut: usize,
}

impl Parts {
    fn get(&self, name: &str) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.detach()),
            None => Err(Error::config(format!("a conversion of layer norms found no parameter {name}"))),
        }
    }

    fn hidden(&self) -> usize {
        self.text.hidden - self.cut
    }

    /// A parameter of the new model, in f32.
    fn converted(&self, name: &str) -> Result<Tensor> {
        let TextConfig { head, embeddings, stack, .. } = &self.text;
        let wide = |name: &str| Ok::<_, Error>(self.get(name)?.cast(DType::F32)?);
        let norm = stack.norm.map_or("", |(name, _)| name);
        let word = format!("{}.weight", embeddings.word);
        let of_head = if head.tied { &word } else { head.weight };
        if name == head.weight {
            return folded(&wide(of_head)?, &wide(&format!("{norm}.weight"))?, self.hidden());
        }
        let Some(layer) = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias")) else {
            return wide(name);
        };
        let is_bias = name.ends_with(".bias");
        let table =
            [Some(embeddings.word), embeddings.positions.map(|p| p.name), embeddings.types.map(|(name, _)| name)];
        if table.contains(&Some(layer)) {
            return centred(&wide(name)?, 1, self.hidden());
        }
        let is_head = is_bias && head.weight.strip_suffix(".weight") == Some(layer) || head.bias.contains(&name);
        if is_head {
            let shift = wide(&format!("{norm}.bias"))?.mul_scalar(head.scale)?;
            let old = head.bias.first().map(|name| wide(name)).transpose()?;
            return shifted(&wide(of_head)?, &shift, old.as_ref());
        }
        let Some((block, part, before)) = self.place(layer) else { return wide(name) };
        let form = match part {
            Part::Reads(form) | Part::Writes(form) => form,
        };
        let turned = |x: &Tensor| if form == Form::Columns { x.transpose(0, 1) } else { Ok(x.clone()) };
        let matrix = || Ok::<_, Error>(turned(&wide(&format!("{layer}.weight"))?)?);
        match (part, is_bias) {
            (Part::Writes(_), true) => centred(&wide(name)?, 0, self.hidden()),
            (Part::Writes(_), false) => Ok(turned(&centred(&matrix()?, 0, self.hidden())?)?),
            (Part::Reads(_), true) => {
                shifted(&matrix()?, &wide(&format!("{block}.{before}.bias"))?, Some(&wide(name)?))
            }
            (Part::Reads(_), false) => {
                let gain = wide(&format!("{block}.{before}.weight"))?;
                Ok(turned(&folded(&matrix()?, &gain, self.hidden())?)?)
            }
        }
    }

    /// The block of a layer, what the layer does to the residual stream, and the norm before it.
    fn place(&self, layer: &str) -> Option<(String, Part, &'static str)> {
        let rest = layer.strip_prefix(self.text.stack.name)?.strip_prefix('.')?;
        let (number, own) = rest.split_once('.')?;
        let BlockConfig { attention, feed_forward, attention_place, feed_forward_place, wiring, .. } =
            self.text.stack.blocks.get(number.parse::<usize>().ok()?)?;
        let projects = match attention.project {
            Project::Apart { query, key, value } => vec![query, key, value],
            Project::Thirds(one) | Project::Groups(one) => vec![one],
        };
        let (ups, down) = layers(feed_forward);
        let of_feed = if *wiring == Wiring::Shared { attention_place } else { feed_forward_place };
        let (part, place) = match own {
            own if projects.contains(&own) => (Part::Reads(attention.form), attention_place),
            own if own == attention.output => (Part::Writes(attention.output_form), attention_place),
            own if ups.contains(&own) => (Part::Reads(feed_forward.form), of_feed),
            own if own == down => (Part::Writes(feed_forward.form), of_feed),
            _ => return None,
        };
        Some((format!("{}.{number}", self.text.stack.name), part, place.before?))
    }
}

/// What a layer does to the residual stream.
#[derive(Clone, Copy)]
enum Part {
    Reads(Form),
    Writes(Form),
}

/// The layers up and the layer down.
fn layers(config: &FeedForwardConfig) -> (Vec<&'static str>, &'static str) {
    match config.inner {
        Inner::Plain { up, down } => (vec![up], down),
        Inner::Gated { gate, up, down } => (vec![gate, up], down),
        Inner::Bilinear { left, right, down } => (vec![left, right], down),
        Inner::Joined { gate_up, down } => (vec![gate_up], down),
    }
}

/// A bias to which `W shift` is added.
fn shifted(weight: &Tensor, shift: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(shift.unsqueeze(0)?.linear(weight, bias)?.squeeze(0)?)
}
