//! Online Normalization (Chiley et al., 2019, arXiv 1905.05894): each sample is normalised by those before it, and the gradient is kept at right
//! angles to what it must not change, so that no batch is needed.

use wgrad::Device;
use wgrad::nn::{Build, Module};
use wgrad::optim::{Group, Optimizer, Rule, Sgd};

use super::lab::usual;
use super::mlp_lab::{Blobs, Mlp};
use super::watch::Training;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::norm::{NormConfig, NormKind, OnlineNormConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "online-norm",
    title: "Online Normalization for Training Neural Networks",
    paper: "1905.05894",
    shows: "sample by sample a network learns as much as with batch norms from batches, which those cannot do without",
    check,
};

const LAYERS: usize = 3;
const SAMPLES: u64 = 12_800;
const BATCH: usize = 32;

/// The share of right answers less that with batch norms.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let blobs = Blobs::new(1.0, seed, device);
    let new = |norm| {
        device.set_seed(seed);
        Mlp::new(LAYERS, norm, None, &Build::new(device))
    };
    let learned = |norm, rows: usize, rate: f64| {
        let mlp = new(norm)?;
        let schedule = usual(SAMPLES / rows as u64, rate);
        let groups = vec![Group::new(mlp.named_parameters())];
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), rate, groups)?;
        let mut training = Training::new(schedule.total);
        for step in 0..schedule.total {
            let loss = mlp.loss(&blobs.batch(rows, [1, step])?)?;
            optimizer.set_learning_rate(schedule.at(step))?;
            optimizer.step(&loss.backward()?)?;
            training.step(step + 1, &loss)?;
        }
        blobs.measure(&mlp, [256, 8], 2, Ok)
    };
    let batch_norm = Some(NormConfig::batch(1e-5));
    let alone = new(batch_norm)?.loss(&blobs.batch(1, [1, 0])?);
    ensure(alone.is_err(), || "batch norm took a batch of one".into())?;
    let online = NormConfig { kind: NormKind::Online(OnlineNormConfig::default()), eps: 1e-5 };
    let (own, none) = (learned(Some(online), 1, 1e-2)?, learned(None, 1, 1e-2)?);
    let batch = learned(batch_norm, BATCH, 0.2)?;
    Ok(Report {
        property: format!(
            "right answers from batches of one, less those with batch norms from batches of {BATCH} ({own:.3} and {batch:.3}; from batches of one without norms {none:.3})"
        ),
        measured: own - batch,
        wanted: Wanted::AtLeast,
        threshold: -0.02,
    })
}
