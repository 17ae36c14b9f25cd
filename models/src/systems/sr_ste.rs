//! SR-STE (Zhou et al., 2021, arXiv 2102.04010): N:M sparse models trained from scratch. Which weights stay is chosen anew in each step; gradients go
//! straight to all of them, and those that are left out decay.

use wgrad::{Device, Tensor, no_grad};

use super::lab::usual;
use super::sparse_lab::SparseLab;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;
use crate::sparsify::{OneShot, one_shot};
use crate::weights::{Matrix, Pattern, SrSte, View, Views};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "sr-ste",
    title: "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch",
    paper: "2102.04010",
    shows: "trained 2:4 sparse from scratch a model loses little, and with the decay of unseen weights masks change less",
    check,
};

const HIDDEN: usize = 96;
const LAYERS: usize = 2;
const STEPS: u64 = 500;
/// The decay of the paper's code.
const DECAY: f64 = 2e-4;

/// What a sparse training costs over what pruning the dense model costs.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let lab = SparseLab::new(&["rs"], seed, device)?;
    let schedule = usual(STEPS, 3e-3);
    let lm = lab.decoder(HIDDEN, LAYERS)?;
    lab.train(&lm, &schedule, |_| Ok(None))?;
    let dense = lab.measure(&lm)?;
    one_shot(&lm, &Matrix::of_blocks(&lm), OneShot::Magnitude, Pattern::TWO_OF_FOUR.into(), &mut || Ok(()))?;
    let pruned = lab.measure(&lm)?;
    let (plain, plain_moved) = sparse(&lab, 0.0)?;
    let (refined, moved) = sparse(&lab, DECAY)?;
    ensure(moved < plain_moved, || {
        format!(
            "{:.1} % of the mask changed in the second half, {:.1} % without decay",
            100.0 * moved,
            100.0 * plain_moved
        )
    })?;
    Ok(Report {
        property: format!(
            "rise of the loss by training 2:4 over that by pruning the dense model (dense {dense:.3}, pruned {pruned:.3}, from scratch {refined:.3}, without decay {plain:.3} nats; of the mask {:.1} % changed in the second half, {:.1} % without decay)",
            100.0 * moved,
            100.0 * plain_moved
        ),
        measured: (refined - dense) / (pruned - dense),
        wanted: Wanted::AtMost,
        // Most of what pruning costs.
        threshold: 0.5,
    })
}

/// The loss of a model trained sparse, and the share of weights that were taken in or left out in the second half of the training.
fn sparse(lab: &SparseLab, decay: f64) -> Result<(f64, f64)> {
    let lm = lab.decoder(HIDDEN, LAYERS)?;
    let view = SrSte { pattern: Pattern::TWO_OF_FOUR, decay };
    let views = Views::new(Matrix::of_blocks(&lm), |_, _| Ok(Some(Box::new(view) as Box<dyn View>)))?;
    let mut half = Vec::new();
    lab.train(&lm, &usual(STEPS, 3e-3), |step| {
        if step == STEPS / 2 {
            half = masks(&lm)?;
        }
        views.show()?;
        views.penalty()
    })?;
    let end = masks(&lm)?;
    let (mut changed, mut all) = (0.0, 0);
    for (before, after) in half.iter().zip(&end) {
        changed += before.sub(after)?.abs()?.sum_all()?.item()?;
        all += after.elements();
    }
    views.merge()?;
    Ok((lab.measure(&lm)?, changed / all.max(1) as f64))
}

fn masks(lm: &Lm) -> Result<Vec<Tensor>> {
    let mask = |(_, matrix): &(String, Matrix)| Pattern::TWO_OF_FOUR.mask(&matrix.rows()?.detach().abs()?);
    no_grad(|| Matrix::of_blocks(lm).iter().map(mask).collect())
}
