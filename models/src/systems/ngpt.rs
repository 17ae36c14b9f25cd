//! nGPT (Loshchilov et al., 2024, arXiv 2410.01131): words, states and the vectors of all matrices have length one, and each part moves the state
//! on the sphere by learned steps.

use wgrad::{Device, no_grad};

use super::depth_lab::{Rows, shape};
use super::lab::train_then;
use super::{Report, System, Wanted, ensure};
use crate::lm::Lm;
use crate::placement::Placement;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "ngpt",
    title: "nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
    paper: "2410.01131",
    shows: "all vectors stay on the sphere, and it reaches a transformer's loss in fewer steps",
    check,
};

const LAYERS: usize = 4;
const STEPS: u64 = 400;
/// Steps whose losses are averaged.
const WINDOW: usize = 20;

/// The share of the steps after which the loss is what Pre-LN has in the end.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (sphere, lm) = losses(Placement::Sphere, 1e-2, device, seed)?;
    let (pre, _) = losses(Placement::Pre, 3e-3, device, seed)?;
    let off = match lm.unit_vectors() {
        Some(unit) => unit.deviation()?,
        None => return Err(Error::config("nGPT's vectors are not held on the sphere")),
    };
    let (ids, _) = Rows::new([8, 64], seed, device)?.batch(2, 0)?;
    let (_, states) = no_grad(|| lm.trace(&ids))?;
    let mut most = off;
    for state in &states {
        let lengths = state.norm(2.0, &[-1], false)?;
        most = most.max(lengths.add_scalar(-1.0)?.abs()?.max(&[], false)?.item()?);
    }
    ensure(most < 1e-5, || format!("after training a length is {most:.1e} from one"))?;
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let goal = mean(&pre[pre.len() - WINDOW..]);
    let reached = sphere.windows(WINDOW).position(|window| mean(window) <= goal).map_or(usize::MAX, |at| at + WINDOW);
    Ok(Report {
        property: format!(
            "share of the steps after which it has Pre-LN's last loss (ends at {:.3}, Pre-LN at {goal:.3} nats; lengths are within {most:.0e})",
            mean(&sphere[sphere.len() - WINDOW..])
        ),
        measured: reached as f64 / STEPS as f64,
        wanted: Wanted::AtMost,
        threshold: 0.8,
    })
}

/// The losses of a training run, and the model.
fn losses(placement: Placement, peak: f64, device: &Device, seed: u64) -> Result<(Vec<f64>, Lm)> {
    device.set_seed(seed);
    let rows = Rows::new([8, 64], seed, device)?;
    let lm = Lm::new(&shape(LAYERS, 64).decoder(placement), device)?;
    let unit = lm.unit_vectors();
    let mut losses = Vec::new();
    let loss = |step| {
        let (ids, labels) = rows.batch(1, step)?;
        lm.loss(&ids, &labels)
    };
    train_then(&lm, STEPS, peak, loss, |loss, _| {
        losses.push(loss.item()?);
        unit.as_ref().map_or(Ok(()), |unit| unit.apply())
    })?;
    Ok((losses, lm))
}
