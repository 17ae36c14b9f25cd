//! The Curse of Depth in Large Language Models (Sun et al., 2025, arXiv 2502.05795): what block `l` reads is divided by the root of `l`, so
//! that the residual stream does not drown what deep blocks add.

use wgrad::Device;

use super::depth_lab::by_depth;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::depth::exponent;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "layernorm-scaling",
    title: "The Curse of Depth in Large Language Models",
    paper: "2502.05795",
    shows: "the residual stream grows with the logarithm of the depth, where that of Pre-LN grows in proportion to it",
    check,
};

/// How the mean square of the stream grows with depth at the start.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let growth = |placement| {
        by_depth(placement, &[8, 16, 32, 64], device, seed, |probe| {
            probe.squares.last().map_or(0.0, |end| end - probe.squares[0])
        })
    };
    let (pre, scaled) = (growth(Placement::Pre)?, growth(Placement::LayerNormScaling)?);
    let pre = exponent(&pre);
    ensure(pre > 0.85, || {
        format!("the stream of Pre-LN grows with the power {pre:.2} of the depth, not in proportion to it")
    })?;
    let end = |points: &[(f64, f64)]| points.last().map_or(0.0, |point| point.1);
    Ok(Report {
        property: format!(
            "exponent of the stream's growth over depth (Pre-LN {pre:.2}; at 64 blocks it has grown by {:.2})",
            end(&scaled)
        ),
        measured: exponent(&scaled),
        wanted: Wanted::AtMost,
        threshold: 0.4,
    })
}
