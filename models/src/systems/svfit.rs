//! SVFit (Sun et al., 2024, arXiv 2409.05926): matrices keep their singular vectors, and their largest singular values alone are tuned.

use wgrad::Device;
use wgrad::nn::Module;

use super::tuning_lab::{Tuning, freeze};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::weights::{LowRankConfig, Matrix, SingularValues, Targets};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "svfit",
    title: "SVFit: Parameter-Efficient Fine-Tuning of Large Pre-Trained Models Using Singular Values",
    paper: "2409.05926",
    shows: "singular values alone learn more than products of rank 1 with as many parameters, and nearly as much as those of all matrices",
    check,
};

/// Singular values that are tuned in each matrix: all of them, which are those of a width of 64.
const RANK: usize = 64;
/// Highest learning rate: the values are around 1.
const LR: f64 = 1e-1;
/// Where products of rank 1 take as many parameters as singular values of all matrices do, or nearly (attention's three, or one of the
/// feed-forward part's), and the learning rate that was best there.
const PLACES: [(&str, f64); 3] = [("query,key,value", 2e-2), ("up", 5e-2), ("down", 5e-2)];

/// The gain of singular values over that of the best of LoRA's places.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::new(device, seed)?;
    let all = tuning.all()?;
    let lm = tuning.model()?;
    let views = SingularValues::over(Matrix::of_blocks(&lm), RANK)?;
    let count = views.parameter_count();
    freeze(&lm);
    let loss = tuning.tune_views(&lm, &views, LR)?;
    views.merge()?;
    let merged = tuning.new.measure(&lm)?;
    ensure((merged - loss).abs() < 1e-4, || format!("merging took the loss from {loss} to {merged}"))?;
    let low_rank = |places: &str, lr| -> Result<(usize, f64)> {
        let lm = tuning.model()?;
        let targets = Targets::parse(places).map_err(|message| crate::Error::argument("targets", message))?;
        let views = targets.adapt(&lm, &LowRankConfig::new(1))?;
        Ok((views.parameter_count(), tuning.tune_views(&lm, &views, lr)?))
    };
    let (mut best, mut shown) = (f64::INFINITY, Vec::new());
    for (places, lr) in PLACES {
        let (theirs, loss) = low_rank(places, lr)?;
        ensure(theirs <= count, || format!("{theirs} parameters of LoRA, {count} singular values"))?;
        best = best.min(loss);
        shown.push(format!("{theirs} of {places} {:.3}", tuning.share(loss, all)));
    }
    let (everywhere, everywhere_loss) = low_rank("all", 2e-2)?;
    Ok(Report {
        property: format!(
            "gain of {count} singular values over that of LoRA with no more parameters (share of what all parameters gain {:.3}; LoRA of rank 1: {}, \
             {everywhere} of all matrices {:.3})",
            tuning.share(loss, all),
            shown.join(", "),
            tuning.share(everywhere_loss, all)
        ),
        measured: (tuning.before - loss) / (tuning.before - best),
        wanted: Wanted::AtLeast,
        threshold: 1.1,
    })
}
