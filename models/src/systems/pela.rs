//! PELA (Guo et al., 2023, arXiv 2310.10700): matrices are replaced by their best products of low rank, which then learn from the whole model's
//! features before they are tuned.

use wgrad::nn::Module;
use wgrad::{DType, Device, Tensor, no_grad};

use super::lab::train;
use super::tuning_lab::{LR, Tuning};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::block::BlockConfig;
use crate::lm::{Lm, LmConfig};
use crate::svd::Svd;
use crate::weights::Form;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "pela",
    title: "PELA: Learning Parameter-Efficient Models with Low-Rank Approximation",
    paper: "2310.10700",
    shows: "low-rank factors of half the size that first learn the whole model's features are tuned to nearly the same loss",
    check,
};

/// Ranks of attention's matrices `[64, 64]` and of the feed-forward part's `[256, 64]`: half as many numbers.
const RANKS: [usize; 2] = [16, 24];
/// Steps of distillation.
const STEPS: u64 = 200;
/// Standard deviation of what is added to the factors while they learn, over their own.
const NOISE: f64 = 0.02;

/// The model with factors in the place of matrices.
fn factored(whole: &Lm) -> Result<Lm> {
    let low = |mut block: BlockConfig| {
        (block.attention.form, block.feed_forward.form) = (Form::LowRank(RANKS[0]), Form::LowRank(RANKS[1]));
        block
    };
    let old = whole.config();
    let config = LmConfig { blocks: old.blocks.iter().map(|block| low(*block)).collect(), ..old.clone() };
    let params = whole.named_parameters();
    let device = params.first().map_or_else(Device::cpu, |(_, param)| param.device().clone());
    let lm = Lm::new(&config, &device)?;
    let mut new = lm.named_parameters();
    for (name, from) in params {
        let value = from.leaf().detach();
        let inner = name.strip_suffix("weight").map(|layer| format!("{layer}inner"));
        let inner =
            inner.and_then(|inner| new.iter().find(|(other, _)| *other == inner).map(|(_, param)| param.clone()));
        let Some((_, to)) = new.iter_mut().find(|(other, _)| *other == name) else { continue };
        match inner {
            Some(inner) => {
                let [left, right] = Svd::of(&value)?.factors(inner.shape()[0], &device)?;
                to.set(&left)?;
                inner.set(&right)?;
            }
            None => to.set(&value.copy()?)?,
        }
    }
    Ok(lm)
}

/// Mean squared distance of the states after each block of a model.
fn distance(lm: &Lm, ids: &Tensor, wanted: &[Tensor]) -> Result<Tensor> {
    let mut sum = Tensor::scalar(0.0, DType::F32, ids.device())?;
    for (x, wanted) in lm.trace(ids)?.1.iter().zip(wanted).skip(1) {
        sum = sum.add(&x.sub(wanted)?.square()?.mean_all()?)?;
    }
    Ok(sum)
}

/// Shows the model its parameters with a little noise, or without.
fn shaken(lm: &Lm, noise: f64) -> Result<()> {
    for (_, param) in lm.named_parameters() {
        if noise == 0.0 {
            param.show(None)?;
            continue;
        }
        let value = param.leaf();
        let size = no_grad(|| value.square()?.mean_all()?.sqrt())?.mul_scalar(noise)?;
        let added = Tensor::normal(0.0, 1.0, value.shape(), DType::F32, value.device())?.mul(&size)?;
        param.show(Some(value.add(&added)?))?;
    }
    Ok(())
}

/// The share of the whole model's gain that the factored one reaches.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::new(device, seed)?;
    let all = tuning.all()?;
    let whole = tuning.model()?;
    let plain = factored(&whole)?;
    let cut = tuning.old.measure(&plain)?;
    let plain_loss = tuning.tune(&plain, &plain, LR, || Ok(()))?;
    let lm = factored(&whole)?;
    let share = lm.parameter_count() as f64 / whole.parameter_count() as f64;
    ensure(share < 2.0 / 3.0, || format!("{share:.2} of the parameters are left"))?;
    train(&lm, STEPS, 2e-3, |step| {
        let (ids, _) = tuning.old.batch(5, step)?;
        let wanted = no_grad(|| whole.trace(&ids))?.1;
        shaken(&lm, 0.0)?;
        let loss = distance(&lm, &ids, &wanted)?;
        shaken(&lm, NOISE)?;
        Ok(loss.add(&distance(&lm, &ids, &wanted)?)?)
    })?;
    shaken(&lm, 0.0)?;
    let known = tuning.old.measure(&lm)?;
    ensure(known < cut, || format!("distillation took the loss from {cut:.3} to {known:.3}"))?;
    let loss = tuning.tune(&lm, &lm, LR, || Ok(()))?;
    Ok(Report {
        property: format!(
            "share of the whole model's gain ({:.3} -> {all:.3}) with {share:.2} of its parameters ({loss:.3}; without distillation \
             {plain_loss:.3}; on the old language cut {cut:.3}, distilled {known:.3}, whole {:.3})",
            tuning.before,
            tuning.old.measure(&whole)?
        ),
        measured: tuning.share(loss, all),
        wanted: Wanted::AtLeast,
        threshold: 0.95,
    })
}
