//! The cases of `models/`: a whole model from its Hugging Face folder, outputs and the gradient of every parameter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use wgrad::{Device, Tensor};
use wgrad_tests::compare;

use crate::args::Unsupported;
use crate::fixture::{Entry, Fallible, ModelCase, Store, Tensors, folder};
use crate::ops::same;
use crate::report::{Report, selected};
use crate::{images, speech, text};

/// What a model gave.
pub struct Answer {
    /// By the names of `case.json`; `loss` is differentiated.
    pub outputs: BTreeMap<String, Tensor>,
    /// By the names of `model.safetensors`.
    pub parameters: BTreeMap<String, Tensor>,
}

/// The inputs of a model by name.
pub type Inputs = BTreeMap<String, Tensor>;

/// Loads the model in a folder to a device and runs it.
type Model = fn(&Path, &Inputs, &Device) -> Fallible<Answer>;

fn find(class: &str) -> Option<Model> {
    let model: Model = match class {
        "BertForMaskedLM"
        | "DebertaV2ForMaskedLM"
        | "DogeForCausalLM"
        | "ElectraForMaskedLM"
        | "ElectraForPreTraining"
        | "FalconForCausalLM"
        | "GPT2LMHeadModel"
        | "GPTNeoXForCausalLM"
        | "Gemma2ForCausalLM"
        | "Glm4ForCausalLM"
        | "LlamaForCausalLM"
        | "MPNetForMaskedLM"
        | "ModernBertForMaskedLM"
        | "OPTForCausalLM"
        | "Olmo2ForCausalLM"
        | "RobertaForMaskedLM"
        | "FunnelForMaskedLM" => text::language_model,
        "CLIPModel" => images::clip,
        "LxmertForPreTraining" => images::lxmert,
        "ViTForImageClassification" => images::vit,
        "ViTMAEForPreTraining" => images::vit_mae,
        "RTDetrV2ForObjectDetection" => images::rt_detr,
        "T5ForConditionalGeneration" => text::seq2seq,
        "Wav2Vec2BertForCTC" | "Wav2Vec2ConformerForCTC" => speech::ctc,
        "XLNetLMHeadModel" => text::xlnet,
        _ => return None,
    };
    Some(model)
}

/// Whether the model of a folder can be loaded.
pub fn is_known(path: &Path) -> bool {
    let case = fs::read_to_string(path.join("case.json")).unwrap_or_default();
    let case: Option<ModelCase> = serde_json::from_str(&case).ok();
    case.is_some_and(|case| find(&case.class).is_some())
}

/// Runs every model on a device.
pub fn run(device: &Device, name: &str) {
    let mut report = Report::new(format!("golden models on {name}"));
    for path in folders().unwrap_or_else(|e| panic!("{}: {e}", folder().display())) {
        let case = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if selected(&case) {
            report.add(&case, check(&path, device));
        }
    }
    report.check_guards(device);
    report.finish();
}

/// The folders of models, which a folder of fixtures need not have.
fn folders() -> Fallible<Vec<PathBuf>> {
    let models = folder().join("models");
    if !models.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = fs::read_dir(models)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    folders.sort();
    Ok(folders)
}

fn check(path: &Path, device: &Device) -> Fallible<()> {
    let case: ModelCase = serde_json::from_reader(BufReader::new(File::open(path.join("case.json"))?))?;
    let model = find(&case.class).ok_or_else(|| Unsupported(format!("no architecture {}", case.class)))?;
    let store = Store::open(&path.join("case.safetensors"))?;
    let tensors = store.parse()?;
    let inputs: Inputs = case
        .inputs
        .iter()
        .map(|(name, entry)| Ok((name.clone(), tensors.tensor(&entry.key, device)?)))
        .collect::<Fallible<_>>()?;
    let Answer { outputs, parameters } = model(path, &inputs, device)?;
    for (name, entry) in &case.outputs {
        let got = outputs.get(name).ok_or_else(|| format!("there is no output {name}"))?;
        match &entry.rows {
            None => same(name, got, entry, &tensors)?,
            Some(mask) => same_rows(name, got, entry, mask, &tensors)?,
        }
    }
    let loss = outputs.get("loss").ok_or("there is no output loss")?;
    let gradients = loss.backward()?;
    for (name, entry) in &case.grads {
        let parameter = parameters.get(name).ok_or_else(|| format!("there is no parameter {name}"))?;
        let gradient = gradients.get(parameter).ok_or_else(|| format!("{name} has no gradient"))?;
        same(&format!("gradient of {name}"), gradient, entry, &tensors)?;
    }
    Ok(())
}

/// Compares the rows where the mask is 1: the others are padding.
fn same_rows(name: &str, got: &Tensor, entry: &Entry, mask: &str, tensors: &Tensors) -> Fallible<()> {
    if got.shape() != entry.shape {
        return Err(format!("{name} has shape {:?}, expected {:?}", got.shape(), entry.shape).into());
    }
    let mask = tensors.values(mask)?;
    let got = got.to_f64_vec()?;
    let want = tensors.values(&entry.key)?;
    let width = want.len() / mask.len();
    let rows = |values: &[f64]| -> Vec<f64> {
        let kept = values.chunks(width).zip(&mask).filter(|(_, m)| **m != 0.0);
        kept.flat_map(|(row, _)| row.iter().copied()).collect()
    };
    compare(&rows(&got), &rows(&want), entry.tolerance()).map_err(|e| format!("{name}: {e}").into())
}
