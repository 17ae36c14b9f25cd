//! SPDF (Thangarasa et al., 2023, arXiv 2303.10464): sparse pre-training under a random mask that stays, then dense fine-tuning, in which the weights
//! that were left out start from zero.

use wgrad::optim::Optimizer;
use wgrad::{Device, Gradients, Tensor};

use super::lab::usual;
use super::sparse_lab::{Saved, SparseLab, masked};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::sparsify::{Scope, smallest};
use crate::weights::Matrix;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "spdf",
    title: "SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models",
    paper: "2303.10464",
    shows: "pre-trained with a quarter of the weights, a model makes good what it lacks when all are fine-tuned",
    check,
};

const HIDDEN: usize = 96;
const LAYERS: usize = 2;
/// Share of the weights that pre-training leaves out.
const SPARSITY: f64 = 0.75;
const STEPS: u64 = 400;
const TUNING: u64 = 250;

/// What is left, after dense fine-tuning, of the gap that fine-tuning the sparse model leaves.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (general, target) = (SparseLab::new(&["rs"], seed, device)?, SparseLab::new(&["wgsl"], seed, device)?);
    let (schedule, tuning) = (usual(STEPS, 3e-3), usual(TUNING, 1e-3));
    let lm = general.decoder(HIDDEN, LAYERS)?;
    general.train(&lm, &schedule, |_| Ok(None))?;
    target.train(&lm, &tuning, |_| Ok(None))?;
    let dense = target.measure(&lm)?;

    let lm = general.decoder(HIDDEN, LAYERS)?;
    let matrices = Matrix::of_blocks(&lm);
    let any = |(_, matrix): &(String, Matrix)| {
        let weight = matrix.rows()?;
        Ok(Tensor::uniform(0.0, 1.0, weight.shape(), weight.dtype(), device)?)
    };
    let any = matrices.iter().map(any).collect::<Result<Vec<_>>>()?;
    let masks = smallest(&any, SPARSITY, Scope::Matrix)?;
    // Weights that are left out start at zero, and no gradient ever comes to them.
    masked(&matrices, &masks)?.merge()?;
    let views = masked(&matrices, &masks)?;
    let optimizer = general.train_under(&lm, &schedule, &views)?;
    views.show()?;
    still(&optimizer, &general.loss(&lm, STEPS)?.backward()?, &matrices, &masks)?;
    let shown = general.measure(&lm)?;
    drop(views);
    ensure(general.measure(&lm)? == shown, || "the model changed when its mask was taken off".into())?;

    let saved = Saved::of(&lm);
    target.train(&lm, &tuning, |_| Ok(None))?;
    let freed = target.measure(&lm)?;
    saved.restore()?;
    let views = masked(&matrices, &masks)?;
    target.train_under(&lm, &tuning, &views)?;
    let sparse = target.measure(&lm)?;
    let weights: usize = matrices.iter().map(|(_, matrix)| matrix.param.elements()).sum();
    // The readout stays dense; looking words up takes no products.
    let others = 256 * HIDDEN;
    let share = (weights as f64 * (1.0 - SPARSITY) + others as f64) / (weights + others) as f64;
    Ok(Report {
        property: format!(
            "what dense fine-tuning leaves of the gap between a sparse model and a dense one (fine-tuned loss: dense {dense:.3}, sparse {sparse:.3}, sparse and then dense {freed:.3} nats; pre-training took {share:.2} of the products)"
        ),
        measured: (freed - dense) / (sparse - dense),
        wanted: Wanted::AtMost,
        threshold: 0.5,
    })
}

/// Errs unless weights that are left out, their gradients and their moments are exactly zero.
fn still(optimizer: &Optimizer, gradients: &Gradients, matrices: &[(String, Matrix)], masks: &[Tensor]) -> Result<()> {
    let states = optimizer.state_tensors();
    for ((name, matrix), mask) in matrices.iter().zip(masks) {
        let out = mask.affine(-1.0, 1.0)?;
        let own = states.iter().filter(|(state, _)| state.starts_with(name.as_str())).map(|(_, value)| value.clone());
        let gradient = matrix.param.gradient(gradients).cloned();
        let all: Vec<Tensor> = own.chain(gradient).chain([matrix.param.leaf().detach()]).collect();
        ensure(all.len() == 4, || {
            format!("{name} has {} values, expected two moments, gradient and weight", all.len())
        })?;
        for values in all {
            let most = values.mul(&out)?.abs()?.max(&[], false)?.item()?;
            ensure(most == 0.0, || format!("{name} has {most:e} where it is masked"))?;
        }
    }
    Ok(())
}
