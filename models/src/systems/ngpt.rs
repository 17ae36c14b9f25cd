//! nGPT (Loshchilov et al., 2024, arXiv 2410.01131): words, states and the vectors of all matrices have length one, and each part moves the state
//! on the sphere by learned steps.

use wgrad::optim::{Adam, Decay, Schedule};
use wgrad::{Device, no_grad};

use super::depth_lab::{Rows, shape};
use super::lab::{train_by, usual};
use super::{Report, System, Wanted, ensure};
use crate::lm::Lm;
use crate::placement::Placement;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "ngpt",
    title: "nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
    paper: "2410.01131",
    shows: "after every step all vectors of matrices have length one; so trained without warm-up and weight decay it learns what Pre-LN learns with both",
    check,
};

const LAYERS: usize = 4;
const STEPS: u64 = 200;
/// How the paper trains it: no weight decay, and a cosine to zero without warm-up.
const PAPER: Adam = Adam { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0 };
const SCHEDULE: Schedule = Schedule { peak: 1e-2, warmup: 0, total: STEPS, floor: 0.0, decay: Decay::Cosine };

/// How far lengths are from one after any step. A vector of 64 numbers of f32 that was divided by its length is off by the rounding of that
/// length, of each quotient, and of the sum of squares it is measured by: each a few parts in 2^24, which is 6e-8, so that 1e-6 is about
/// the least that can be asked for.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let rows = Rows::new([8, 64], seed, device)?;
    let new = |placement| {
        device.set_seed(seed);
        Lm::new(&shape(LAYERS, 64).decoder(placement), device)
    };
    let lm = new(Placement::Sphere)?;
    let unit = lm.unit_vectors().ok_or_else(|| Error::config("nGPT's vectors are not held on the sphere"))?;
    let mut most = unit.deviation()?;
    let loss = |step| {
        let (ids, labels) = rows.batch(1, step)?;
        lm.loss(&ids, &labels)
    };
    let after = || {
        unit.apply()?;
        most = most.max(unit.deviation()?);
        Ok(())
    };
    train_by(&lm, PAPER, &SCHEDULE, loss, after)?;
    let sphere = rows.measure(&lm)?;
    let plain = new(Placement::Pre)?;
    rows.train(&plain, &usual(STEPS, 3e-3))?;
    let pre = rows.measure(&plain)?;
    ensure(sphere < 1.03 * pre, || format!("its loss is {sphere:.3}, that of Pre-LN {pre:.3} nats"))?;
    let (_, states) = no_grad(|| lm.trace(&rows.batch(2, 0)?.0))?;
    let mut off = 0.0f64;
    for state in &states {
        let lengths = state.norm(2.0, &[-1], false)?;
        off = off.max(lengths.add_scalar(-1.0)?.abs()?.max(&[], false)?.item()?);
    }
    ensure(off < 1e-5, || format!("the length of a state is {off:.1e} from one"))?;
    Ok(Report {
        property: format!(
            "largest distance of a vector's length from one after any of {STEPS} steps without warm-up and weight decay (states {off:.0e}; loss {sphere:.3}, Pre-LN with both {pre:.3} nats)"
        ),
        measured: most,
        wanted: Wanted::AtMost,
        threshold: 1e-6,
    })
}
