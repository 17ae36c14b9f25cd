//! nGPT (Loshchilov et al., 2024, arXiv 2410.01131): words, states and the vectors of all matrices have length one, and each part moves the state
//! on the sphere by learned steps.

use wgrad::{Device, no_grad};

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::lm::Lm;
use crate::placement::Placement;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "ngpt",
    title: "nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
    paper: "2410.01131",
    shows: "all vectors stay on the sphere while it learns what a transformer with norms and warm-up learns",
    check,
};

const LAYERS: usize = 4;
const STEPS: u64 = 200;

/// How far lengths are from one after training.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let rows = Rows::new([8, 64], seed, device)?;
    let learned = |placement, peak| {
        device.set_seed(seed);
        let lm = Lm::new(&shape(LAYERS, 64).decoder(placement), device)?;
        rows.train(&lm, &usual(STEPS, peak))?;
        let loss = rows.measure(&lm)?;
        Ok::<_, Error>((lm, loss))
    };
    let ((lm, sphere), (_, pre)) = (learned(Placement::Sphere, 1e-2)?, learned(Placement::Pre, 3e-3)?);
    ensure(sphere < 1.03 * pre, || format!("its loss is {sphere:.3}, that of Pre-LN {pre:.3} nats"))?;
    let off = match lm.unit_vectors() {
        Some(unit) => unit.deviation()?,
        None => return Err(Error::config("nGPT's vectors are not held on the sphere")),
    };
    let (_, states) = no_grad(|| lm.trace(&rows.batch(2, 0)?.0))?;
    let mut most = off;
    for state in &states {
        let lengths = state.norm(2.0, &[-1], false)?;
        most = most.max(lengths.add_scalar(-1.0)?.abs()?.max(&[], false)?.item()?);
    }
    Ok(Report {
        property: format!(
            "largest distance of a length from one after {STEPS} steps (loss {sphere:.3}, Pre-LN {pre:.3} nats)"
        ),
        measured: most,
        wanted: Wanted::AtMost,
        threshold: 1e-5,
    })
}
