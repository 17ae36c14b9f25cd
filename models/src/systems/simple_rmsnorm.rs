//! SimpleRMSNorm of TransNormerLLM (Qin et al., 2023, arXiv 2307.14995, section 3.4): an RMS norm without a gain.

use wgrad::Device;

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted};
use crate::Result;
use crate::lm::Lm;
use crate::norm::NormConfig;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "simple-rmsnorm",
    title: "TransNormerLLM: A Faster and Better Large Language Model with Improved TransNormer",
    paper: "2307.14995",
    shows: "a norm without any parameter learns as much as layer norms with two",
    check,
};

/// Loss over that with layer norms.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let learned = |norm| {
        device.set_seed(seed);
        let rows = Rows::new([16, 64], seed, device)?;
        let lm = Lm::new(&shape(4, 64).decoder_with(Placement::Pre, norm), device)?;
        rows.train(&lm, &usual(300, 3e-3))?;
        rows.measure(&lm)
    };
    let simple = learned(NormConfig::simple_rms(1e-6))?;
    let layer = learned(NormConfig::layer(1e-5))?;
    Ok(Report {
        property: format!("loss over that with layer norms ({simple:.3} and {layer:.3} nats)"),
        measured: simple / layer,
        wanted: Wanted::AtMost,
        threshold: 1.02,
    })
}
