//! Essential sparsity (Jaiswal et al., 2023, arXiv 2306.03805): of a trained model's weights a good part can be left out at one look, the smallest
//! first and without training, at next to no cost; beyond a knee the cost explodes.

use wgrad::{Device, Tensor};

use super::lab::usual;
use super::sparse_lab::{Saved, SparseLab, masked};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::sparsify::{OneShot, Scope, one_shot, smallest};
use crate::weights::{Matrix, Pattern};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "essential-sparsity",
    title: "The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter",
    paper: "2306.03805",
    shows: "the smallest weights of all matrices can be left out without training up to a knee, beyond which accuracy falls ever faster",
    check,
};

const HIDDEN: usize = 96;
const LAYERS: usize = 3;
const STEPS: u64 = 500;
/// Shares of the weights that are left out are multiples of this.
const GRID: f64 = 0.05;
/// Loss of accuracy that counts as none.
const SLIGHT: f64 = 0.01;

/// The share of the weights at the knee.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let lab = SparseLab::new(&["rs"], seed, device)?;
    let lm = lab.decoder(HIDDEN, LAYERS)?;
    lab.train(&lm, &usual(STEPS, 3e-3), |_| Ok(None))?;
    let matrices = Matrix::of_blocks(&lm);
    let dense = lab.accuracy(&lm)?;
    let cost = |scores: &[Tensor], share| -> Result<f64> {
        let views = masked(&matrices, &smallest(scores, share, Scope::Model)?)?;
        views.show()?;
        Ok(dense - lab.accuracy(&lm)?)
    };
    let sizes = matrices.iter().map(|(_, matrix)| Ok(matrix.rows()?.detach().abs()?)).collect::<Result<Vec<_>>>()?;
    // The costs of 0, 5, 10 % and so on to 95 %.
    let costs = (0..20).map(|n| cost(&sizes, GRID * f64::from(n))).collect::<Result<Vec<_>>>()?;
    let knee = costs.iter().take_while(|cost| **cost <= SLIGHT).count() - 1;
    device.set_seed(seed);
    let chance = |size: &Tensor| Tensor::uniform(0.0, 1.0, size.shape(), size.dtype(), device);
    let chance = sizes.iter().map(chance).collect::<wgrad::Result<Vec<_>>>()?;
    let random = cost(&chance, GRID * knee as f64)?;
    ensure(random > 5.0 * SLIGHT, || {
        format!("{} % of the weights by chance cost {:.1} % of accuracy alone", 5 * knee, 100.0 * random)
    })?;
    let beyond = costs[(2 * knee).min(19)];
    ensure(beyond > 5.0 * SLIGHT, || format!("{} % cost {:.1} % alone", 10 * knee, 100.0 * beyond))?;
    let by_groups = [(1, 2), (2, 4), (4, 8)].map(|(keep, of)| {
        let (saved, pattern) = (Saved::of(&lm), Pattern::new(keep, of)?);
        one_shot(&lm, &matrices, OneShot::Magnitude, pattern.into(), &mut || Ok(()))?;
        let cost = dense - lab.accuracy(&lm)?;
        saved.restore()?;
        Ok(format!("{pattern} {:.1} %", 100.0 * cost))
    });
    let by_groups = by_groups.into_iter().collect::<Result<Vec<String>>>()?.join(", ");
    let course: Vec<String> = costs.iter().map(|cost| format!("{:.1}", 100.0 * cost)).collect();
    Ok(Report {
        property: format!(
            "share of weights that cost less than 1 of {:.1} % accuracy (by steps of 5 %: {}; as many by chance {:.1} %; half of them by groups {by_groups})",
            100.0 * dense,
            course.join(" "),
            100.0 * random
        ),
        measured: GRID * knee as f64,
        wanted: Wanted::AtLeast,
        threshold: 0.3,
    })
}
