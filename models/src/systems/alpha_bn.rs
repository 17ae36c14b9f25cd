//! Test-time Batch Statistics Calibration for Covariate Shift (You, Li, Zhao, 2021, arXiv 2110.04065): batch norms of a trained network use a
//! mixture of the statistics of training and those of the batch at hand.

use wgrad::Device;
use wgrad::nn::{Build, Module};

use super::lab::train;
use super::mlp_lab::{Blobs, Mlp};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::norm::{NormConfig, NormKind};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "alpha-bn",
    title: "Test-time Batch Statistics Calibration for Covariate Shift",
    paper: "2110.04065",
    shows: "on shifted data a mixture of the statistics of training and of a small batch is better than either alone",
    check,
};

const LAYERS: usize = 2;
const STEPS: u64 = 400;
/// Vectors that come together in the test, too few for statistics of their own.
const ROWS: usize = 8;
const BATCHES: usize = 400;
/// What becomes of every element of a vector in the test: so many times as large, and so much is added.
const SHIFT: [f64; 2] = [1.5, 2.0];
/// Shares of the statistics of training.
const ALPHAS: [f64; 7] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0];

/// What the best mixture, chosen on other vectors of the shifted law, gains over both ends.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let blobs = Blobs::new(1.0, seed, device);
    let trained = Mlp::new(LAYERS, Some(NormConfig::batch(1e-5)), None, &Build::new(device))?;
    train(&trained, STEPS, 1e-2, |step| trained.loss(&blobs.batch(64, [1, step])?))?;
    let at = |alpha: f64, stream: u64| {
        let norm = NormConfig { kind: NormKind::AlphaBatch { alpha }, eps: 1e-5 };
        let mlp = Mlp::new(LAYERS, Some(norm), None, &Build::new(device))?;
        for ((_, from), (_, to)) in trained.named_parameters().into_iter().zip(mlp.named_parameters()) {
            to.set(&from.tensor().detach())?;
        }
        blobs.measure(&mlp, [ROWS, BATCHES], stream, |x| x.affine(SHIFT[0], SHIFT[1]))
    };
    let before = blobs.measure(&trained, [ROWS, BATCHES], 2, Ok)?;
    let chosen = ALPHAS.iter().map(|&alpha| Ok((alpha, at(alpha, 3)?))).collect::<Result<Vec<_>>>()?;
    let (alpha, _) = chosen.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let (mixed, batch, source) = (at(alpha, 4)?, at(0.0, 4)?, at(1.0, 4)?);
    ensure(source < before - 0.05, || format!("the shift costs {before:.3} - {source:.3} right answers only"))?;
    Ok(Report {
        property: format!(
            "right answers with a share of {alpha} of the training's statistics, less the better of the ends ({mixed:.3}; training alone {source:.3}, batch alone {batch:.3}; before the shift {before:.3})"
        ),
        measured: mixed - batch.max(source),
        wanted: Wanted::AtLeast,
        threshold: 0.01,
    })
}
