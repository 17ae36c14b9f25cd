//! The main job: a language model learns a text, an encoder masked tokens or a decoder the next one.

mod evaluate;
mod history;
mod report;
mod run;
mod settings;
mod text;

pub use evaluate::{Score, Targets, score};
pub use history::{History, Point};
pub use report::{Quality, Summary};
pub use run::{Finished, run};
pub use settings::Settings;
pub(crate) use settings::{small_positions, small_range, write_json};
pub use text::Text;

use std::path::Path;

use wgrad::Device;

use crate::{Result, fsx};

/// Trains as the settings say, writes everything into `folder`, and returns the summary and a text for people. One step late in
/// the run is profiled if a file for its trace is given.
///
/// # Errors
/// If text, settings or files are unusable, or the device fails. What was saved before stays.
pub fn train(settings: &Settings, folder: &Path, device: &Device, profile: Option<&Path>) -> Result<(Summary, String)> {
    fsx::create_folder(folder)?;
    let text = if Settings::are_in(folder) { Text::load(settings, folder)? } else { Text::make(settings, folder)? };
    // From here on there is a run to go on with. What fails before leaves none behind.
    settings.write(folder)?;
    let finished = run(settings, text, folder, device, profile)?;
    let summary = Summary::new(&finished, device);
    report::write(&finished, &summary, folder)?;
    let text = report::describe(finished, &summary, folder, settings, device)?;
    Ok((summary, text))
}
