//! HybridNorm (Zhuo et al., 2025, arXiv 2503.04598): queries, keys and values are normalised instead of what attention reads, and the
//! feed-forward part has a norm from which the residual goes on.

use wgrad::Device;
use wgrad::nn::Module;

use super::depth_lab::{Rows, by_depth, shape};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::depth::{Probe, exponent};
use crate::initial::Role;
use crate::lm::Lm;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "hybridnorm",
    title: "HybridNorm: Towards Stable and Efficient Transformer Training via Hybrid Normalization",
    paper: "2503.04598",
    shows: "no head's output depends on the size of its projections, and gradients do not fall with depth as those of Pre-LN do",
    check,
};

const LAYERS: usize = 6;

/// The largest cosine between a head's slice of a projection and its gradient: a function that does not depend on a size has none along it.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let slope = |placement| {
        Ok::<_, crate::Error>(exponent(&by_depth(placement, &[6, 12, 24, 48], device, seed, |probe| probe.last)?))
    };
    let (hybrid, pre) = (slope(Placement::Hybrid)?, slope(Placement::Pre)?);
    ensure(hybrid - pre > 0.35, || {
        format!(
            "exponents of the last gradient over depth: {hybrid:.2}, and {pre:.2} of Pre-LN; theory says 0 and -1/2"
        )
    })?;
    Ok(Report {
        property: format!(
            "largest cosine of a head's projection with its gradient (exponents of the last gradient over depth: {hybrid:.2}, Pre-LN {pre:.2})"
        ),
        measured: along(Placement::Hybrid, device, seed)?.max(along(Placement::HybridStar, device, seed)?),
        wanted: Wanted::AtMost,
        threshold: 1e-5,
    })
}

fn along(placement: Placement, device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let config = shape(LAYERS, 32).decoder(placement);
    let lm = Lm::new(&config, device)?;
    let (ids, labels) = Rows::new([4, 32], seed, device)?.batch(0, 0)?;
    let probe = Probe::new(&lm, &ids, &labels)?;
    let mut most = 0.0f64;
    for (name, param) in lm.named_parameters() {
        let projects = matches!(Role::of(&name), Some((Role::Match | Role::Value, _)));
        if let (true, Some(gradient)) = (projects, param.gradient(&probe.gradients)) {
            let heads = |x: &wgrad::Tensor| x.reshape(&[config.blocks[0].attention.heads as isize, -1]);
            let (weight, gradient) = (heads(&param.tensor().detach())?, heads(gradient)?);
            let dot = |a: &wgrad::Tensor, b: &wgrad::Tensor| a.mul(b)?.sum(&[1], false);
            let lengths = dot(&weight, &weight)?.mul(&dot(&gradient, &gradient)?)?.sqrt()?;
            let cosines = dot(&weight, &gradient)?.abs()?.div(&lengths)?;
            most = most.max(cosines.max(&[], false)?.item()?);
        }
    }
    Ok(most)
}
