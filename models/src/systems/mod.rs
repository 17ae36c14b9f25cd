//! The model systems of the literature: one file each, that names options of the shared modules and checks the property that its paper is known for.

mod adamp;
mod alpha_bn;
mod budget_longformer;
mod causal_mask_removal;
mod colora;
mod dac;
mod deberta_attention;
mod deepscalelm;
pub mod depth_lab;
mod dsee;
mod dyn_mask_rate;
mod dynamic_mask_attention;
mod edge_conformer;
mod essential_sparsity;
mod falcon;
mod flexigpt;
mod funnel;
mod glm;
mod glm_130b;
mod graphcodebert;
mod hull;
mod hybridnorm;
mod intrinsic_dimension;
mod kronecker_attention;
pub mod lab;
mod latent_attention;
mod layernorm_expressivity;
mod layernorm_scaling;
mod lora;
mod lt_sft;
mod majority;
mod markov_lab;
mod masked_lab;
mod masked_structural_growth;
mod maskllm;
mod mix_ln;
mod mlp_lab;
mod mlra;
mod mosaicbert;
mod native_sparse;
mod next_token_recognition;
mod nf_resnet;
mod ngpt;
mod norm_tweaking;
mod normformer;
mod online_norm;
mod optimal_input_gain;
mod pela;
mod peri_ln;
mod power_norm;
mod pre_crmsnorm;
mod pre_post_ln;
mod prepacking;
mod qknorm;
mod r_amt;
mod ragged;
mod sea;
mod simple_rmsnorm;
mod sparse_lab;
mod sparse_pretraining_schedules;
mod spdf;
mod sr_ste;
mod svfit;
mod textual_mask_prediction;
mod transfusion;
mod transnormer_llm;
pub mod tuning_lab;
mod unified_norm;
pub mod watch;
mod wavelet_gpt;
mod weight_norm;

use std::fmt;

use serde::{Deserialize, Serialize};
use wgrad::Device;

use crate::{Error, Result};

/// Every system, one line each, in the order of their names.
pub const SYSTEMS: &[System] = &[
    adamp::SYSTEM,
    alpha_bn::SYSTEM,
    budget_longformer::SYSTEM,
    causal_mask_removal::SYSTEM,
    colora::SYSTEM,
    dac::SYSTEM,
    deepscalelm::SYSTEM,
    deberta_attention::SYSTEM,
    dsee::SYSTEM,
    dyn_mask_rate::SYSTEM,
    dynamic_mask_attention::SYSTEM,
    edge_conformer::SYSTEM,
    essential_sparsity::SYSTEM,
    falcon::SYSTEM,
    flexigpt::SYSTEM,
    funnel::SYSTEM,
    glm::SYSTEM,
    glm_130b::SYSTEM,
    graphcodebert::SYSTEM,
    hybridnorm::SYSTEM,
    intrinsic_dimension::SYSTEM,
    kronecker_attention::SYSTEM,
    latent_attention::SYSTEM,
    layernorm_expressivity::SYSTEM,
    layernorm_scaling::SYSTEM,
    lora::SYSTEM,
    lt_sft::SYSTEM,
    masked_structural_growth::SYSTEM,
    maskllm::SYSTEM,
    mix_ln::SYSTEM,
    mlra::SYSTEM,
    mosaicbert::SYSTEM,
    native_sparse::SYSTEM,
    next_token_recognition::SYSTEM,
    nf_resnet::SYSTEM,
    ngpt::SYSTEM,
    norm_tweaking::SYSTEM,
    normformer::SYSTEM,
    online_norm::SYSTEM,
    optimal_input_gain::SYSTEM,
    pela::SYSTEM,
    peri_ln::SYSTEM,
    power_norm::SYSTEM,
    pre_crmsnorm::SYSTEM,
    pre_post_ln::SYSTEM,
    prepacking::SYSTEM,
    qknorm::SYSTEM,
    r_amt::SYSTEM,
    sea::SYSTEM,
    simple_rmsnorm::SYSTEM,
    sparse_pretraining_schedules::SYSTEM,
    spdf::SYSTEM,
    sr_ste::SYSTEM,
    textual_mask_prediction::SYSTEM,
    svfit::SYSTEM,
    transfusion::SYSTEM,
    transnormer_llm::SYSTEM,
    unified_norm::SYSTEM,
    wavelet_gpt::SYSTEM,
    weight_norm::SYSTEM,
];

/// One system: what it is, and a small run that shows what it is good for.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct System {
    /// Name in kebab case, as the command line takes it.
    pub name: &'static str,
    /// Title of the paper.
    pub title: &'static str,
    /// Number of the paper on arXiv, such as `2003.10555`, or another short citation.
    pub paper: &'static str,
    /// The property that the check shows, in one phrase.
    pub shows: &'static str,
    /// Builds the system on the device, runs it on real or synthetic data, and measures. The same seed gives the same report.
    #[serde(skip)]
    pub check: fn(&Device, u64) -> Result<Report>,
}

/// Which side of the threshold a figure has to be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// The figure must be the threshold or more.
    AtLeast,
    /// The figure must be the threshold or less.
    AtMost,
}

/// What a check measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was measured, with its unit, such as "masked accuracy above unigram".
    pub property: String,
    /// The figure.
    pub measured: f64,
    /// Which side of the threshold it has to be on.
    pub wanted: Wanted,
    /// The threshold.
    pub threshold: f64,
}

impl Report {
    /// Whether the figure is on the right side of the threshold; one that is not a number never is.
    pub fn passed(&self) -> bool {
        match self.wanted {
            Wanted::AtLeast => self.measured >= self.threshold,
            Wanted::AtMost => self.measured <= self.threshold,
        }
    }

    /// The figure as it is shown.
    pub fn figure(&self) -> String {
        shown(self.measured)
    }

    /// What it has to be.
    pub fn bound(&self) -> String {
        let wanted = if self.wanted == Wanted::AtLeast { "at least" } else { "at most" };
        format!("{wanted} {}", shown(self.threshold))
    }
}

/// Four decimals; of small figures the first digits, as they would all be 0.0000.
fn shown(figure: f64) -> String {
    match figure.abs() {
        size if size > 0.0 && size < 1e-3 => format!("{figure:.1e}"),
        _ => format!("{figure:.4}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verdict = if self.passed() { "passed" } else { "failed" };
        write!(f, "{verdict}: {} {}, wanted {}", self.property, self.figure(), self.bound())
    }
}

/// Errs with what was found if a check's premise does not hold.
fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Check { message: message() }) }
}

/// The system called `name`; the error suggests names that resemble it.
pub fn find<'a>(systems: &'a [System], name: &str) -> Result<&'a System> {
    systems.iter().find(|system| system.name == name).ok_or_else(|| {
        let near: Vec<&str> = systems
            .iter()
            .map(|system| system.name)
            .filter(|known| known.contains(name) || name.contains(known))
            .collect();
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
        Error::argument(
            "system",
            format!("{name:?} is none of the {} that `wgrad systems list` prints{hint}", systems.len()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(measured: f64, wanted: Wanted) -> Report {
        Report { property: "gap".into(), measured, wanted, threshold: 0.5 }
    }

    #[test]
    fn verdicts_follow_the_threshold() {
        assert!(report(0.5, Wanted::AtLeast).passed() && !report(0.4, Wanted::AtLeast).passed());
        assert!(report(0.5, Wanted::AtMost).passed() && !report(0.6, Wanted::AtMost).passed());
        assert!(!report(f64::NAN, Wanted::AtLeast).passed() && !report(f64::NAN, Wanted::AtMost).passed());
        assert_eq!(report(0.25, Wanted::AtLeast).to_string(), "failed: gap 0.2500, wanted at least 0.5000");
        assert_eq!(report(2.4e-6, Wanted::AtMost).to_string(), "passed: gap 2.4e-6, wanted at most 0.5000");
    }

    #[test]
    fn names_are_found_unique_sorted_and_in_kebab_case() {
        let system =
            |name| System { name, title: "t", paper: "p", shows: "s", check: |_, _| Ok(report(1.0, Wanted::AtLeast)) };
        let known = [system("electra"), system("sea")];
        assert_eq!(find(&known, "sea").unwrap().name, "sea");
        let sentence = find(&known, "electra-2").unwrap_err().to_string();
        assert!(sentence.contains("did you mean electra?"), "{sentence}");
        assert!(SYSTEMS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let kebab = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(SYSTEMS.iter().all(|system| kebab(system.name)));
    }
}
