//! Dynamic Masking Rate Schedules for MLM Pretraining (Ankner et al., 2023, arXiv 2305.15096): the share of masked
//! tokens falls linearly from 30 % to 15 % over the run.

use wgrad::Device;

use super::markov_lab::MarkovLab;
use super::{Report, System, Wanted};
use crate::Result;
use crate::corrupt::mlm::Mlm;
use crate::corrupt::schedule::Rate;

/// Steps of the check.
const STEPS: u64 = 1000;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "dyn-mask-rate",
    title: "Dynamic Masking Rate Schedules for MLM Pretraining",
    paper: "2305.15096",
    shows: "with a rate that falls from 30 % to 15 %, a masked LM comes within 5 % of the Bayes-optimal loss",
    check,
};

/// Trains on SYN-MARKOV under the schedule and compares the loss with the exact optimum.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let lab = MarkovLab::new(seed, device)?;
    let policy = Mlm { rate: Rate::Linear { from: 0.30, to: 0.15, steps: STEPS }, ..MarkovLab::policy() };
    let rates = lab.train(&policy, STEPS)?;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let (first, last) = (mean(&rates[..rates.len() / 10]), mean(&rates[rates.len() * 9 / 10..]));
    Ok(Report {
        property: format!(
            "cross-entropy over the Bayes optimum at 15 % masked (masked in training: {:.1} % at first, {:.1} % at last)",
            100.0 * first,
            100.0 * last
        ),
        measured: lab.excess(0.15)?,
        wanted: Wanted::AtMost,
        threshold: 1.05,
    })
}
