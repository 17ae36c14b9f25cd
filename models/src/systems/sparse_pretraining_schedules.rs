//! Sparse pre-training by schedules (Jin et al., The Journey Matters, 2025, arXiv 2501.12486): the smallest weights are left out bit by bit between a
//! quarter and three quarters of the training. What the model learns is told by how many weights it had on average.

use wgrad::{Device, Tensor};

use super::lab::usual;
use super::sparse_lab::{SparseLab, masked};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;
use crate::sparsify::{Scope, smallest};
use crate::weights::{Matrix, Views};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "sparse-pretraining-schedules",
    title: "The Journey Matters: Average Parameter Count over Pre-training Unifies Sparse and Dense Scaling Laws",
    paper: "2501.12486",
    shows: "pruned between 25 % and 75 % of the compute, a model learns as much as a dense one of its average size",
    check,
};

const LAYERS: usize = 4;
const STEPS: u64 = 600;
/// Steps between prunings.
const EVERY: u64 = 10;
const PEAK: f64 = 3e-3;
/// Widths of the model that is pruned, of one of its average size, and of one of its size in the end.
const WIDTHS: [usize; 3] = [64, 48, 40];
/// Share of the weights that the pruned model lacks in the end.
const SPARSITY: f64 = 0.65;

/// The share of the weights that is there at each step, so that all of `window` of the compute passes while they fall. Compute is what the
/// weights at a step are used for, so that the steps get cheaper.
fn densities(steps: u64, [from, to]: [f64; 2], sparsity: f64) -> Vec<f64> {
    let density = |done: f64| 1.0 - sparsity * ((done - from) / (to - from)).clamp(0.0, 1.0);
    // Steps for a unit of compute are the integral of 1 / density.
    let unit = from + (to - from) * (1.0 - sparsity).recip().ln() / sparsity + (1.0 - to) / (1.0 - sparsity);
    let each = unit / steps as f64;
    let mut done = 0.0;
    let of_step = |_| {
        let now = density(done);
        done += each * now;
        now
    };
    (0..steps).map(of_step).collect()
}

/// How far the pruned model is from a dense one of its average size, on the way to one of its size in the end.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let lab = SparseLab::new(&["rs"], seed, device)?;
    let dense = |width| {
        let lm = lab.decoder(width, LAYERS)?;
        lab.train(&lm, &usual(STEPS, PEAK), |_| Ok(None))?;
        Ok::<_, crate::Error>((weights(&lm), lab.measure(&lm)?))
    };
    let lm = lab.decoder(WIDTHS[0], LAYERS)?;
    let shares = densities(STEPS, [0.25, 0.75], SPARSITY);
    let pruned = prune_along(&lab, &lm, &shares)?;
    let average = shares.iter().sum::<f64>() / STEPS as f64;
    let [whole, middle, small] = [dense(WIDTHS[0])?, dense(WIDTHS[1])?, dense(WIDTHS[2])?];
    let sizes = [middle.0 as f64 / whole.0 as f64, small.0 as f64 / whole.0 as f64];
    ensure(small.1 > middle.1, || "smaller models are as good: there is nothing to tell".to_string())?;
    Ok(Report {
        property: format!(
            "distance of a model with {average:.2} of its weights on average and {:.2} in the end ({pruned:.3} nats) from a dense one of {:.2} ({:.3}), where one of {:.2} has 1 ({:.3}; whole {:.3})",
            1.0 - SPARSITY,
            sizes[0],
            middle.1,
            sizes[1],
            small.1,
            whole.1
        ),
        measured: (pruned - middle.1) / (small.1 - middle.1),
        wanted: Wanted::AtMost,
        threshold: 0.5,
    })
}

/// Weights of the blocks.
fn weights(lm: &Lm) -> usize {
    Matrix::of_blocks(lm).iter().map(|(_, matrix)| matrix.param.elements()).sum()
}

/// Trains a model of whose weights a share is kept at each step, each matrix by its sizes, and returns its loss. What is left out does not come
/// back.
fn prune_along(lab: &SparseLab, lm: &Lm, shares: &[f64]) -> Result<f64> {
    let matrices = Matrix::of_blocks(lm);
    let mut views = Views::default();
    let mut kept = 1.0;
    lab.train(lm, &usual(shares.len() as u64, PEAK), |step| {
        let share = shares.get(step as usize).copied().unwrap_or(kept);
        if share < kept && step % EVERY == 0 {
            // As they are seen, so that what was left out before has a size of zero.
            views.show()?;
            let sizes = matrices.iter().map(|(_, matrix)| Ok(matrix.shown()?.detach().abs()?));
            let sizes = sizes.collect::<Result<Vec<Tensor>>>()?;
            views = masked(&matrices, &smallest(&sizes, 1.0 - share, Scope::Matrix)?)?;
            kept = share;
        }
        views.show()?;
        Ok(None)
    })?;
    views.merge()?;
    let zeros = matrices.iter().map(|(_, matrix)| {
        let weight = matrix.rows()?.detach();
        Ok(weight.eq(&weight.zeros_like()?)?.cast(wgrad::DType::F32)?.sum_all()?.item()?)
    });
    let zeros: f64 = zeros.sum::<Result<f64>>()?;
    let lacks = zeros / weights(lm) as f64;
    ensure((lacks - SPARSITY).abs() < 0.01, || format!("{lacks:.3} of the weights are 0, not {SPARSITY}"))?;
    lab.measure(lm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_in_the_window_of_the_compute() {
        let shares = densities(4000, [0.25, 0.75], 0.5);
        let total: f64 = shares.iter().sum();
        let mut done = 0.0;
        for share in shares {
            match done / total {
                early if early < 0.249 => assert_eq!(share, 1.0),
                late if late > 0.751 => assert!((share - 0.5).abs() < 1e-3, "{share}"),
                within if (0.252..0.748).contains(&within) => {
                    assert!((share - (1.0 - (within - 0.25))).abs() < 2e-3, "{share} at {within}");
                }
                _ => {}
            }
            done += share;
        }
        // 1 / (1/4 + 2 ln 2 / 2 + 1/2)
        assert!((total / 4000.0 - 1.0 / (0.25 + 2.0f64.ln() + 0.5)).abs() < 1e-3, "{}", total / 4000.0);
    }
}
