//! LoRA (Hu et al., 2021, arXiv 2106.09685): frozen matrices with a trained product of two thin ones added.

use wgrad::Device;
use wgrad::nn::Module;

use super::tuning_lab::Tuning;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::weights::{LowRankConfig, Targets};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "lora",
    title: "LoRA: Low-Rank Adaptation of Large Language Models",
    paper: "2106.09685",
    shows: "products of rank 2 beside frozen matrices, under 5 % of the parameters, learn nearly what all parameters learn, and merge",
    check,
};

/// Highest learning rate: few parameters take larger steps.
const LR: f64 = 2e-2;

/// The share of full fine-tuning's gain.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::new(device, seed)?;
    let all = tuning.all()?;
    let lm = tuning.model()?;
    let views = Targets::All.adapt(&lm, &LowRankConfig::new(2))?;
    let trained = views.parameter_count() as f64 / lm.parameter_count() as f64;
    ensure(trained < 0.05, || format!("{:.1} % of the parameters are trained", 100.0 * trained))?;
    let loss = tuning.tune_views(&lm, &views, LR)?;
    views.merge()?;
    let merged = tuning.new.measure(&lm)?;
    ensure((merged - loss).abs() < 1e-5, || format!("merging took the loss from {loss} to {merged}"))?;
    Ok(Report {
        property: format!(
            "share of the gain of all parameters ({:.3} -> {all:.3}) that {:.1} % of them reach ({loss:.3})",
            tuning.before,
            100.0 * trained
        ),
        measured: tuning.share(loss, all),
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}
