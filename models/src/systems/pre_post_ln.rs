//! On Layer Normalization in the Transformer Architecture (Xiong et al., 2020, arXiv 2002.04745): where the norm stands decides how large
//! the gradients near the output are at the start, and with that whether the learning rate has to rise slowly.

use wgrad::Device;

use super::depth_lab::by_depth;
use super::{Report, System, Wanted};
use crate::Result;
use crate::depth::exponent;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "pre-post-ln",
    title: "On Layer Normalization in the Transformer Architecture",
    paper: "2002.04745",
    shows: "at the start the last layer's gradient falls with the root of the depth in Pre-LN, and does not in Post-LN",
    check,
};

/// The exponents of the last layer's gradient over the depth: theory says 0 for Post-LN and -1/2 for Pre-LN.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let slope = |placement| {
        let law = by_depth(placement, &[6, 12, 24, 48], device, seed, |probe| probe.last)?;
        Ok::<_, crate::Error>(exponent(&law))
    };
    let (post, pre) = (slope(Placement::Post)?, slope(Placement::Pre)?);
    Ok(Report {
        property: format!(
            "farther of the exponents of the last gradient over depth from 0 (Post-LN {post:.2}) and -1/2 (Pre-LN {pre:.2})"
        ),
        measured: post.abs().max((pre + 0.5).abs()),
        wanted: Wanted::AtMost,
        threshold: 0.15,
    })
}
