//! Checkpoints of a whole training run.
//!
//! A checkpoint is one folder: `model.safetensors` under the module's names (with the `files` of the caller it is a Hugging Face
//! folder), `optimizer.safetensors`, and `state.json`. It is written under a temporary name, made durable, renamed, and only then
//! does the pointer file `latest` name it and are older ones removed. So whenever the process is killed, the last whole
//! checkpoint is found.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Weights;
use super::fs::{entries, sync_folder, temporary_suffix, write_atomic, write_new};
use super::write::write_to;
use crate::device::RngState;
use crate::nn::Module;
use crate::optim::Optimizer;
use crate::{Error, Result, Tensor};

const POINTER: &str = "latest";
const PREFIX: &str = "step-";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const MODEL: &str = "model.safetensors";

/// All that a run needs to go on exactly where it stood.
pub struct Snapshot<'a> {
    /// Steps done.
    pub step: u64,
    /// The model.
    pub module: &'a dyn Module,
    /// Its optimizer.
    pub optimizer: &'a Optimizer,
    /// The caller's own state: data position, schedule, loss scale, ...
    pub extra: Value,
    /// Further files of the folder by name, for instance `config.json`.
    pub files: &'a [(&'a str, &'a [u8])],
}

impl Snapshot<'_> {
    /// Writes a checkpoint into `dir`, which is made if need be, and then removes older ones but the newest `keep` (at least
    /// this one stays). Returns the checkpoint's folder. Waits for the device.
    ///
    /// # Errors
    /// If the disk is full or a file cannot be written; the checkpoints before stay as they were.
    pub fn save(&self, dir: impl AsRef<Path>, keep: usize) -> Result<PathBuf> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        tidy(dir)?;
        let temporary = dir.join(format!(".{}", temporary_suffix()));
        let shown = dir.join(format!("{PREFIX}{:08}", self.step));
        let made = self.write(&temporary, &shown).and_then(|()| {
            let folder = dir.join(free_name(dir, self.step)?);
            fs::rename(&temporary, &folder).map_err(|e| Error::file(&folder, e))?;
            sync_folder(dir)?;
            Ok(folder)
        });
        if made.is_err() {
            // Only tidying: the error of the write is the one to report.
            let _ = fs::remove_dir_all(&temporary);
        }
        let folder = made?;
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        write_atomic(dir.join(POINTER), format!("{name}\n").as_bytes())?;
        for (_, old) in checkpoints(dir)?.iter().rev().filter(|(_, path)| *path != folder).skip(keep.max(1) - 1) {
            remove(old)?;
        }
        Ok(folder)
    }

    /// Writes the files into a new `folder`; errors name them as in the folder that it is to become.
    fn write(&self, folder: &Path, shown: &Path) -> Result<()> {
        fs::create_dir(folder).map_err(|e| Error::file(shown, e))?;
        let tensors = |name: &str, tensors: &[(String, Tensor)]| {
            let shown = shown.join(name);
            write_new(&folder.join(name), &shown, |file| write_to(&shown, file, tensors))
        };
        let bytes = |name: &str, bytes: &[u8]| {
            let shown = shown.join(name);
            write_new(&folder.join(name), &shown, |file| file.write_all(bytes).map_err(|e| Error::file(&shown, e)))
        };
        tensors(MODEL, &self.module.named_tensors())?;
        tensors(OPTIMIZER, &self.optimizer.state_tensors())?;
        let rng = self.optimizer.device().rng_state();
        let state = json!({
            "format": 1,
            "step": self.step,
            "rng": { "seed": rng.seed, "draws": rng.draws },
            "optimizer": self.optimizer.state_numbers()?,
            "extra": self.extra,
        });
        bytes(STATE, format!("{state:#}\n").as_bytes())?;
        for (name, content) in self.files {
            bytes(name, content)?;
        }
        sync_folder(folder)
    }
}

/// A checkpoint on disk.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    state: Value,
}

impl Checkpoint {
    /// The newest whole checkpoint of a run; None if there is none.
    ///
    /// # Errors
    /// If `dir` cannot be read, or there are checkpoints but every one is damaged.
    pub fn latest(dir: impl AsRef<Path>) -> Result<Option<Self>> {
        let dir = dir.as_ref();
        let pointed = fs::read_to_string(dir.join(POINTER)).ok().map(|name| name.trim().to_string());
        if let Some(name) = pointed.filter(|name| order(name).is_some())
            && let Ok(found) = Self::open(dir.join(name))
        {
            return Ok(Some(found));
        }
        // Killed between the renaming of the folder and that of the pointer, or somebody moved things by hand.
        let mut damage = None;
        for (_, folder) in checkpoints(dir)?.into_iter().rev() {
            match Self::open(folder) {
                Ok(found) => return Ok(Some(found)),
                Err(error) => damage = Some(error),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// A checkpoint's folder.
    ///
    /// # Errors
    /// If a file is missing or damaged: names it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let path = folder.join(STATE);
        let text = fs::read(&path).map_err(|e| Error::file(&path, e))?;
        let state: Value = serde_json::from_slice(&text).map_err(|e| Error::file(&path, e))?;
        let found = Checkpoint { folder, state };
        if found.state["format"] != 1 {
            return Err(Error::file(path, format!("has format {}, expected 1", found.state["format"])));
        }
        found.number("step")?;
        Weights::open(found.folder.join(MODEL))?;
        Weights::open(found.folder.join(OPTIMIZER))?;
        Ok(found)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Steps done.
    ///
    /// # Errors
    /// Never for a checkpoint that was opened.
    pub fn step(&self) -> Result<u64> {
        self.number("step")
    }

    /// What the caller saved as [`Snapshot::extra`].
    pub fn extra(&self) -> &Value {
        &self.state["extra"]
    }

    /// Puts parameters, optimizer and the device's random numbers back to where they stood.
    ///
    /// # Errors
    /// If the checkpoint is of another model or optimizer: names what does not fit.
    pub fn restore(&self, module: &dyn Module, optimizer: &mut Optimizer) -> Result<()> {
        module.load(&Weights::open(self.folder.join(MODEL))?)?;
        let tensors = Weights::open(self.folder.join(OPTIMIZER))?;
        optimizer.load_state(&tensors, &self.state["optimizer"])?;
        let (seed, draws) = (self.number("/rng/seed")?, self.number("/rng/draws")?);
        optimizer.device().set_rng_state(RngState { seed, draws });
        Ok(())
    }

    fn number(&self, name: &str) -> Result<u64> {
        let value = if name.starts_with('/') { self.state.pointer(name) } else { self.state.get(name) };
        value
            .and_then(Value::as_u64)
            .ok_or_else(|| Error::file(self.folder.join(STATE), format!("has no whole number `{name}`")))
    }
}

/// `step-00000012`, or `step-00000012.1` where a run saves a step again.
fn order(name: &str) -> Option<(u64, u64)> {
    let (step, again) = name.strip_prefix(PREFIX).map(|rest| rest.split_once('.').unwrap_or((rest, "0")))?;
    Some((step.parse().ok()?, again.parse().ok()?))
}

fn free_name(dir: &Path, step: u64) -> Result<String> {
    let last = checkpoints(dir)?.iter().filter(|((s, _), _)| *s == step).map(|((_, again), _)| *again).max();
    Ok(match last {
        None => format!("{PREFIX}{step:08}"),
        Some(again) => format!("{PREFIX}{step:08}.{}", again + 1),
    })
}

/// Checkpoint folders of a run, the newest last.
fn checkpoints(dir: &Path) -> Result<Vec<((u64, u64), PathBuf)>> {
    let mut found: Vec<_> = entries(dir)?.into_iter().filter_map(|(name, path)| Some((order(&name)?, path))).collect();
    found.sort();
    Ok(found)
}

/// Takes a checkpoint out of sight before its files go, so that no half of one is ever found.
fn remove(folder: &Path) -> Result<()> {
    let gone = folder.with_file_name(format!(".{}", temporary_suffix()));
    fs::rename(folder, &gone).and_then(|()| fs::remove_dir_all(&gone)).map_err(|e| Error::file(folder, e))
}

/// Removes what killed runs left behind.
fn tidy(dir: &Path) -> Result<()> {
    for (name, path) in entries(dir)? {
        if name.starts_with(".tmp-") && path.is_dir() {
            fs::remove_dir_all(&path).map_err(|e| Error::file(&path, e))?;
        }
    }
    Ok(())
}
