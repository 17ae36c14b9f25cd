//! Placements of norms side by side: decoders of the same sizes learn the same text, and show what happens along their depth.

mod picture;
mod run;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wgrad::Device;

use crate::placement::{Placement, Shape};
use crate::train::write_json;
use crate::{Error, Result, fsx};
use picture::Figures;
pub(crate) use text::{Bytes, Part};

/// Files of a comparison in its folder.
const SETTINGS: &str = "compare.json";
const TEXT: &str = "text.json";
const PICTURE: &str = "norms.svg";
const FIGURES: &str = "norms.json";

/// Everything that decides the course of a comparison, as it stands in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Names of the placements.
    pub placements: Vec<String>,
    /// Files or folders of the text; none for the project's own.
    pub text: Vec<PathBuf>,
    /// Blocks of each model.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Bytes in a row.
    pub length: usize,
    /// Rows in a batch.
    pub rows: usize,
    /// Steps of training.
    pub steps: u64,
    /// Highest learning rate.
    pub lr: f64,
    /// Seed of weights and batches.
    pub seed: u64,
}

impl Settings {
    /// Whether a folder holds a comparison.
    pub fn are_in(folder: &Path) -> bool {
        folder.join(SETTINGS).exists()
    }

    /// Reads the settings of a comparison.
    ///
    /// # Errors
    /// If there is none in the folder, or the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SETTINGS);
        let text = fsx::read_text(&path)?;
        serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("not the settings of a comparison: {e}")))
    }

    fn shape(&self) -> Shape {
        let &Settings { hidden, heads, layers, length, .. } = self;
        Shape { vocab: 256, hidden, heads, layers, length }
    }
}

/// What was seen at one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Steps done before.
    pub step: u64,
    /// Norm of the gradient of each block's matrices.
    pub gradients: Vec<f64>,
    /// Mean square of the residual stream before the first block and after each.
    pub squares: Vec<f64>,
    /// Norm of the step of each block's matrices over their own.
    pub updates: Vec<f64>,
}

/// How the training of one placement went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Name of the placement.
    pub placement: String,
    /// Loss of each step, in nats for each byte.
    pub losses: Vec<f64>,
    /// What was seen along the way, the first time before any step.
    pub probes: Vec<Probe>,
    /// Loss on held-out text, once the training is over.
    pub held_out: Option<f64>,
}

impl Course {
    /// The mean of what the probes of the last quarter saw.
    pub fn late(&self, of: impl Fn(&Probe) -> &[f64]) -> Vec<f64> {
        let late = &self.probes[self.probes.len() - self.probes.len().div_ceil(4)..];
        let width = late.first().map_or(0, |probe| of(probe).len());
        (0..width).map(|at| late.iter().map(|probe| of(probe)[at]).sum::<f64>() / late.len() as f64).collect()
    }
}

/// Trains the placements that are not yet trained, one after the other, and draws them all. Returns a table for people.
///
/// # Errors
/// If text, settings or files are unusable, or the device fails. What was saved before stays.
pub fn compare(settings: &Settings, folder: &Path, device: &Device) -> Result<String> {
    let placements = settings.placements.iter().map(|name| name.parse()).collect::<Result<Vec<Placement>>>()?;
    if placements.is_empty() {
        return Err(Error::argument("--placements", "there is nothing to compare"));
    }
    fsx::create_folder(folder)?;
    let path = folder.join(TEXT);
    let text = match Settings::are_in(folder) {
        true => Bytes::load(&path)?,
        false => Bytes::read(&settings.text, settings.length)?,
    };
    write_json(&path, &text)?;
    write_json(&folder.join(SETTINGS), settings)?;
    let courses = run::all(settings, &placements, &text, folder, device)?;
    let picture = folder.join(PICTURE);
    picture::draw(settings, &courses)?.save(&picture)?;
    let figures: Vec<Figures> = courses.iter().map(Figures::of).collect();
    write_json(&folder.join(FIGURES), &figures)?;
    Ok(picture::table(&figures) + &format!("\npicture: {}\n", picture.display()))
}
