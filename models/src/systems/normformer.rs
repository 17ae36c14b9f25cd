//! NormFormer (Shleifer et al., 2021, arXiv 2110.09456): Pre-LN with a norm behind attention, a norm inside the feed-forward part, and a learned
//! factor for each head.

use wgrad::Device;

use super::mix_ln::trained;
use super::{Report, System, Wanted};
use crate::Result;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "normformer",
    title: "NormFormer: Improved Transformer Pretraining with Extra Normalization",
    paper: "2110.09456",
    shows: "after some training gradients are more even over depth than with Pre-LN alone",
    check,
};

/// The unevenness of gradients over that of Pre-LN.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (own, own_loss) = trained(Placement::NormFormer, device, seed)?;
    let (pre, pre_loss) = trained(Placement::Pre, device, seed)?;
    Ok(Report {
        property: format!(
            "variation of gradients over blocks, over that of Pre-LN ({own:.2} and {pre:.2}; losses {own_loss:.3} and {pre_loss:.3})"
        ),
        measured: own / pre,
        wanted: Wanted::AtMost,
        threshold: 0.9,
    })
}
