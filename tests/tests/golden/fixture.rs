//! Reading the fixtures: `ops.json` or `case.json`, and the safetensors beside it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use wgrad::{Device, Tensor};
use wgrad_tests::Tolerance;

/// What went wrong with one case, in words.
pub type Fallible<T> = Result<T, Box<dyn Error>>;

/// `WGRAD_GOLDEN`, or the fixtures of the repository.
pub fn folder() -> PathBuf {
    match std::env::var_os("WGRAD_GOLDEN") {
        Some(folder) => folder.into(),
        None => own_folder(),
    }
}

/// The fixtures of the repository.
pub fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// `ops.json`.
#[derive(Deserialize)]
pub struct Ops {
    pub format: u32,
    pub cases: Vec<Case>,
}

/// One case of one operation.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub op: String,
    pub attrs: serde_json::Value,
    pub inputs: BTreeMap<String, Entry>,
    pub outputs: BTreeMap<String, Entry>,
    pub grads: BTreeMap<String, Entry>,
}

/// `case.json` of a model.
#[derive(Deserialize)]
pub struct ModelCase {
    pub class: String,
    pub inputs: BTreeMap<String, Entry>,
    pub outputs: BTreeMap<String, Entry>,
    pub grads: BTreeMap<String, Entry>,
}

/// A stored tensor, and how close a result must come to it.
#[derive(Deserialize)]
pub struct Entry {
    pub key: String,
    pub shape: Vec<usize>,
    #[serde(default)]
    pub atol: f64,
    #[serde(default)]
    pub rtol: f64,
    /// Steps from the stored tensor to the operand.
    #[serde(default)]
    pub view: Vec<Step>,
    /// The gradient to seed this output with.
    pub cot: Option<String>,
    /// The mask of the positions that count.
    pub rows: Option<String>,
}

impl Entry {
    pub fn tolerance(&self) -> Tolerance {
        Tolerance { atol: self.atol, rtol: self.rtol }
    }
}

/// One step of a view.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::enum_variant_names, reason = "the names of the file format")]
pub enum Step {
    Permute(Vec<isize>),
    Narrow(isize, usize, usize),
    Step(isize, usize, usize, usize),
    Expand(Vec<usize>),
    Reshape(Vec<isize>),
}

impl Step {
    pub fn of(&self, x: &Tensor) -> wgrad::Result<Tensor> {
        match self {
            Step::Permute(axes) => x.permute(axes),
            Step::Narrow(dim, start, length) => x.narrow(*dim, *start, *length),
            Step::Step(dim, start, stop, step) => x.slice(*dim, *start, *stop, *step),
            Step::Expand(shape) => x.expand(shape),
            Step::Reshape(shape) => x.reshape(shape),
        }
    }
}

/// A safetensors file in memory.
pub struct Store {
    bytes: Vec<u8>,
}

impl Store {
    pub fn open(path: &Path) -> Fallible<Self> {
        Ok(Store { bytes: fs::read(path).map_err(|e| format!("{}: {e}", path.display()))? })
    }

    pub fn parse(&self) -> Fallible<Tensors<'_>> {
        Ok(Tensors(SafeTensors::deserialize(&self.bytes)?))
    }
}

/// The tensors of a file.
pub struct Tensors<'a>(SafeTensors<'a>);

impl Tensors<'_> {
    /// On a device: floats as f32, integers as i32, truth values as bool.
    pub fn tensor(&self, key: &str, device: &Device) -> Fallible<Tensor> {
        let view = self.0.tensor(key)?;
        let (data, shape) = (view.data(), view.shape());
        let tensor = match view.dtype() {
            Dtype::F32 => Tensor::from_vec(words(data, f32::from_le_bytes), shape, device),
            Dtype::I64 => {
                let narrow = |v| i32::try_from(v).map_err(|_| format!("{key}: {v} does not fit i32"));
                let values: Result<Vec<i32>, _> = words(data, i64::from_le_bytes).into_iter().map(narrow).collect();
                Tensor::from_vec(values?, shape, device)
            }
            Dtype::BOOL => Tensor::from_vec(data.iter().map(|&b| b != 0).collect(), shape, device),
            other => return Err(format!("{key}: dtype {other:?} does not occur in this format").into()),
        };
        Ok(tensor?)
    }

    /// As f64 on the host.
    pub fn values(&self, key: &str) -> Fallible<Vec<f64>> {
        Ok(self.tensor(key, &Device::cpu())?.to_f64_vec()?)
    }
}

fn words<const N: usize, T>(data: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|word| from(*word)).collect()
}
