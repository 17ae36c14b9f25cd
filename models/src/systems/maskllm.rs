//! MaskLLM (Fang et al., 2024, arXiv 2409.17481): which two of four weights stay is learned from the loss, while the weights stay as they are.

use wgrad::{Device, Tensor};

use super::lab::usual;
use super::sparse_lab::{Saved, SparseLab};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::sparsify::{Learner, MaskLlm, OneShot, one_shot};
use crate::weights::{Matrix, Pattern};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "maskllm",
    title: "MaskLLM: Learnable Semi-Structured Sparsity for Large Language Models",
    paper: "2409.17481",
    shows: "2:4 masks learned over frozen weights cost a fraction of what those of magnitude, Wanda and SparseGPT do",
    check,
};

const HIDDEN: usize = 96;
const LAYERS: usize = 3;
/// Steps that the dense model is trained for, the gates, and those of another domain.
const STEPS: u64 = 500;
const MASK_STEPS: u64 = 300;
const DOMAIN_STEPS: u64 = 80;
/// Batches that methods without training look at.
const LOOKED_AT: u64 = 8;

/// What learned masks cost over what the best of the others costs.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let lab = SparseLab::new(&["rs"], seed, device)?;
    let lm = lab.decoder(HIDDEN, LAYERS)?;
    lab.train(&lm, &usual(STEPS, 3e-3), |_| Ok(None))?;
    let dense = lab.measure(&lm)?;
    let (matrices, saved) = (Matrix::of_blocks(&lm), Saved::of(&lm));
    let mut look = || (0..LOOKED_AT).try_for_each(|number| lab.loss(&lm, number).map(drop));
    let (mut losses, mut prior) = (Vec::new(), None);
    for method in [OneShot::Magnitude, OneShot::Wanda, OneShot::SparseGpt] {
        let masks = one_shot(&lm, &matrices, method, Pattern::TWO_OF_FOUR.into(), &mut look)?;
        losses.push((method.name(), lab.measure(&lm)?));
        saved.restore()?;
        // The last of them, SparseGPT, is the prior.
        prior = Some(masks);
    }
    let learn = |lab: &SparseLab, steps, prior: Option<&[Tensor]>| {
        saved.restore()?;
        let mut learner = Learner::new(MaskLlm::new(steps), &lm, &matrices, prior)?;
        (0..steps).try_for_each(|step| learner.step(step, || lab.loss(&lm, STEPS + step)).map(drop))?;
        learner.finish()
    };
    let masks = learn(&lab, MASK_STEPS, prior.as_deref())?;
    let learned = lab.measure(&lm)?;
    // Another domain: the shaders. The general masks serve as prior of its own, or none does.
    let other = SparseLab::new(&["wgsl"], seed, device)?;
    let general = other.measure(&lm)?;
    learn(&other, DOMAIN_STEPS, Some(&masks))?;
    let own = other.measure(&lm)?;
    learn(&other, DOMAIN_STEPS, None)?;
    let alone = other.measure(&lm)?;
    ensure(own < general.min(alone), || {
        format!("masks of a domain give {own:.3} nats there, general ones {general:.3}, those without prior {alone:.3}")
    })?;
    for ((name, _), mask) in matrices.iter().zip(&masks) {
        let exact = Pattern::TWO_OF_FOUR.is_exact(mask)?;
        ensure(exact, || format!("the mask of {name} is not 2:4"))?;
    }
    let best = losses.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    let shown: Vec<String> = losses.iter().map(|(name, loss)| format!("{name} {:.3}", loss.exp())).collect();
    Ok(Report {
        property: format!(
            "rise of the loss by learned 2:4 masks over that by the best of the others (perplexity a byte: dense {:.3}, {}, maskllm {:.3}; on shaders general masks {:.3}, their own {:.3}, without prior {:.3})",
            dense.exp(),
            shown.join(", "),
            learned.exp(),
            general.exp(),
            own.exp(),
            alone.exp()
        ),
        measured: (learned - dense) / (best - dense),
        wanted: Wanted::AtMost,
        // The paper's own figures, ln(6.72 / 5.12) over ln(10.42 / 5.12), are 0.38.
        threshold: 0.5,
    })
}
