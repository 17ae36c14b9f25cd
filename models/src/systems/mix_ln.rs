//! Mix-LN (Li et al., 2024, arXiv 2412.13795): Post-LN in the first quarter of the blocks, Pre-LN in the others.

use wgrad::Device;

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted};
use crate::Result;
use crate::depth::{Probe, variation};
use crate::lm::Lm;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "mix-ln",
    title: "Mix-LN: Unleashing the Power of Deeper Layers by Combining Pre-LN and Post-LN",
    paper: "2412.13795",
    shows: "after some training gradients are more even over depth than with Pre-LN alone",
    check,
};

const LAYERS: usize = 12;
const STEPS: u64 = 300;

/// The unevenness of gradients over that of Pre-LN.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (mix, mix_loss) = trained(Placement::Mix, device, seed)?;
    let (pre, pre_loss) = trained(Placement::Pre, device, seed)?;
    Ok(Report {
        property: format!(
            "variation of gradients over blocks, over that of Pre-LN ({mix:.2} and {pre:.2}; losses {mix_loss:.3} and {pre_loss:.3})"
        ),
        measured: mix / pre,
        wanted: Wanted::AtMost,
        threshold: 0.9,
    })
}

/// The variation of the gradients of a trained model's blocks, mean over some batches, and its loss.
fn trained(placement: Placement, device: &Device, seed: u64) -> Result<(f64, f64)> {
    device.set_seed(seed);
    let rows = Rows::new([8, 64], seed, device)?;
    let lm = Lm::new(&shape(LAYERS, 64).decoder(placement), device)?;
    rows.train(&lm, &usual(STEPS, 3e-3))?;
    let mut norms = vec![0.0; LAYERS];
    for number in 0..8 {
        let (ids, labels) = rows.batch(3, number)?;
        let probe = Probe::new(&lm, &ids, &labels)?;
        norms.iter_mut().zip(&probe.blocks).for_each(|(sum, norm)| *sum += norm);
    }
    Ok((variation(&norms), rows.measure(&lm)?))
}
