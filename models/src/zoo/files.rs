//! Weights in the files of Hugging Face folders: which name stands for which parameter.

use std::path::Path;

use serde_json::Value;
use wgrad::io::{self, Weights};
use wgrad::nn::Module;
use wgrad::{DType, Tensor};

use crate::{Error, Result, fsx};

/// Parts of the names of tensors that no model has parameters for: buffers that older files hold.
const BUFFERS: [&str; 7] = [
    "num_batches_tracked",
    "position_ids",
    "rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
];

/// Opens the weights of a folder, norms' older names `gamma` and `beta` replaced.
pub(super) fn open(folder: &Path, layers: usize) -> Result<Weights> {
    let weights = Weights::open(folder)?.renamed(|name| {
        let (stem, last) = name.rsplit_once('.').unwrap_or(("", name));
        Some(match last {
            "gamma" => format!("{stem}.weight"),
            "beta" => format!("{stem}.bias"),
            _ => name.to_string(),
        })
    })?;
    let tensors = weights.names().count();
    if layers > tensors {
        return Err(Error::file(weights.path(), format!("has {tensors} tensors, too few for {layers} layers")));
    }
    Ok(weights)
}

/// What stands before the names in a file: `full`, or the end of it that files of a model without a head have, or nothing.
pub(super) fn prefix(weights: &Weights, full: &str) -> String {
    let stands = |prefix: &str| {
        let start = format!("{prefix}.");
        weights.names().any(|name| name.starts_with(&start))
    };
    let mut rest = full;
    while !rest.is_empty() && !stands(rest) {
        rest = rest.split_once('.').map_or("", |(_, rest)| rest);
    }
    rest.to_string()
}

/// Names joined by dots, empty ones left out.
pub(super) fn joined(prefix: &str, name: &str, last: &str) -> String {
    [prefix, name, last].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

/// Sets every parameter, and leaves the model ready to infer. Tensors with one of `unused` in their names are passed over, unless
/// a parameter bears the name.
pub(super) fn fill(model: &dyn Module, weights: &Weights, unused: &[&str]) -> Result<()> {
    let mut report = model.load_partial(weights)?;
    report.surplus.retain(|name| !BUFFERS.iter().chain(unused).any(|part| name.contains(part)));
    report.complete(weights)?;
    model.train(false);
    Ok(())
}

/// As [`save`], floats in another dtype, which the configuration then names.
///
/// # Errors
/// If a file cannot be written, or memory is exhausted.
pub fn save_as(model: &dyn Module, config: &Value, folder: &Path, dtype: DType) -> Result<()> {
    let mut config = config.clone();
    let name = match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    // Older configurations say `torch_dtype`.
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get_mut(key) {
            *value = name.into();
        }
    }
    let cast = |(name, tensor): (String, Tensor)| {
        let tensor = if tensor.dtype().is_float() { tensor.cast(dtype)? } else { tensor };
        Ok((name, tensor))
    };
    write(&model.named_tensors().into_iter().map(cast).collect::<Result<Vec<_>>>()?, &config, folder)
}

/// Writes `config.json` and `model.safetensors`, under the names that the model was read with.
///
/// # Errors
/// If a file cannot be written.
pub fn save(model: &dyn Module, config: &Value, folder: &Path) -> Result<()> {
    write(&model.named_tensors(), config, folder)
}

fn write(tensors: &[(String, Tensor)], config: &Value, folder: &Path) -> Result<()> {
    fsx::create_folder(folder)?;
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::file(&path, e))?;
    fsx::write(&path, format!("{text}\n").as_bytes())?;
    Ok(io::save(folder.join("model.safetensors"), tensors)?)
}
