//! Lottery-ticket sparse fine-tuning (Ansell et al., Composable Sparse Fine-Tuning for Cross-Lingual Transfer, 2021, arXiv 2110.07560): the weights
//! that fine-tuning moves most are trained again from the start, alone. What was learned apart is added up.

use wgrad::nn::Build;
use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::depth_lab::{Rows, SYMBOLS, shape};
use super::lab::train;
use super::tuning_lab::{BATCH, LAYERS, LR, copy_of, freeze};
use super::{Report, System, Wanted, ensure};
use crate::lm::{Lm, LmConfig};
use crate::placement::{Placement, Shape};
use crate::weights::{Matrix, SparseDifference, View, Views};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "lt-sft",
    title: "Composable Sparse Fine-Tuning for Cross-Lingual Transfer",
    paper: "2110.07560",
    shows: "the 5 % of weights that fine-tuning moves most learn nearly all of it, more than as many others, and differences add up",
    check,
};

/// Weights for each that is trained.
const SHARE: usize = 20;
/// Steps of each tuning.
const STEPS: u64 = 200;
/// Highest learning rate of few weights.
const SPARSE_LR: f64 = 1e-2;

/// A language over one half of the vocabulary.
struct Language {
    rows: Rows,
    first: usize,
}

impl Language {
    fn new(half: usize, seed: u64, device: &Device) -> Result<Self> {
        Ok(Language { rows: Rows::new(BATCH, seed, device)?, first: half * SYMBOLS })
    }

    fn loss(&self, lm: &Lm, stream: u64, number: u64) -> Result<Tensor> {
        let (ids, labels) = self.rows.batch(stream, number)?;
        let shift = |x: &Tensor| x.add(&Tensor::scalar(self.first as f64, x.dtype(), x.device())?);
        lm.loss(&shift(&ids)?, &shift(&labels)?)
    }

    fn measure(&self, lm: &Lm) -> Result<f64> {
        let losses = (0..8).map(|number| Ok(no_grad(|| self.loss(lm, 2, number))?.item()?));
        Ok(losses.sum::<Result<f64>>()? / 8.0)
    }
}

/// What a tuned model has beyond another in the matrices of its blocks.
fn differences(tuned: &Lm, start: &Lm) -> Result<Vec<Tensor>> {
    let pairs = Matrix::of_blocks(tuned).into_iter().zip(Matrix::of_blocks(start));
    pairs.map(|((_, new), (_, old))| Ok(new.rows()?.detach().sub(&old.rows()?.detach())?)).collect()
}

/// Tunes the matrices in a model's blocks to a language.
fn tuned_whole(start: &Lm, language: &Language, device: &Device) -> Result<Vec<Tensor>> {
    let lm = copy_of(start, device)?;
    freeze(&lm);
    Matrix::of_blocks(&lm).iter().for_each(|(_, matrix)| matrix.param.set_trainable(true));
    train(&lm, STEPS, LR, |step| language.loss(&lm, 3, step))?;
    differences(&lm, start)
}

/// The places of the largest scores of all matrices together.
fn largest(scores: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let mut all: Vec<f32> = scores.iter().flatten().copied().collect();
    let count = all.len() / SHARE;
    let least = match all.len() {
        0 => return vec![],
        n => *all.select_nth_unstable_by(n - count.max(1), f32::total_cmp).1,
    };
    let places = |scores: &Vec<f32>| (0u32..).zip(scores).filter(|(_, s)| **s >= least).map(|(at, _)| at).collect();
    scores.iter().map(places).collect()
}

/// Tunes the weights at these places alone.
fn tuned_sparse(start: &Lm, places: &[Vec<u32>], language: &Language, device: &Device) -> Result<Vec<Tensor>> {
    let lm = copy_of(start, device)?;
    freeze(&lm);
    let mut places = places.iter();
    let views = Views::new(Matrix::of_blocks(&lm), |_, matrix| {
        let shape = [matrix.outputs(), matrix.inputs()];
        let places = places.next().cloned().unwrap_or_default();
        let view = SparseDifference::new(shape, places, &Build::new(device))?;
        Ok(Some(Box::new(view) as Box<dyn View>))
    })?;
    let loss = |step| {
        views.show()?;
        language.loss(&lm, 3, step)
    };
    train(&views, STEPS, SPARSE_LR, loss)?;
    views.merge()?;
    differences(&lm, start)
}

/// A model with differences added.
fn with(start: &Lm, added: &[&Vec<Tensor>], device: &Device) -> Result<Lm> {
    let lm = copy_of(start, device)?;
    for differences in added {
        for ((_, matrix), difference) in Matrix::of_blocks(&lm).into_iter().zip(*differences) {
            matrix.param.set(&matrix.stored(&matrix.rows()?.detach().add(difference)?)?.contiguous()?)?;
        }
    }
    Ok(lm)
}

/// The smaller of the shares of fine-tuning's gain that few weights reach in two languages.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let language = |half: usize, n: u64| Language::new(half, 9 * seed + 3 * n, device);
    // One language written in two alphabets, then another in each.
    let old = [language(0, 0)?, language(1, 0)?];
    let new = [language(0, 1)?, language(1, 2)?];
    let config: LmConfig = Shape { vocab: 2 * SYMBOLS, ..shape(LAYERS, BATCH[1]) }.decoder(Placement::Pre);
    let start = Lm::new(&config, device)?;
    train(&start, 2 * STEPS, LR, |step| old[step as usize % 2].loss(&start, 1, step))?;

    let (mut smallest, mut shown, mut learned) = (f64::INFINITY, Vec::new(), Vec::new());
    for language in &new {
        let before = language.measure(&start)?;
        let gain = |d: &Vec<Tensor>| Ok::<_, Error>(before - language.measure(&with(&start, &[d], device)?)?);
        let whole = tuned_whole(&start, language, device)?;
        let sizes = whole.iter().map(|d| Ok(d.abs()?.to_vec::<f32>()?)).collect::<Result<Vec<_>>>()?;
        let ticket = tuned_sparse(&start, &largest(&sizes), language, device)?;
        let mut rng = Philox::new(seed, 7);
        let random: Vec<Vec<f32>> = sizes.iter().map(|s| s.iter().map(|_| rng.next_f32()).collect()).collect();
        let others = tuned_sparse(&start, &largest(&random), language, device)?;
        let [all, few, others] = [gain(&whole)?, gain(&ticket)?, gain(&others)?];
        ensure(few > others, || format!("weights that moved most gained {few:.3}, as many others {others:.3}"))?;
        smallest = smallest.min(few / all);
        shown.push(format!("{all:.3} by all, {few:.3} by few, {others:.3} by others"));
        learned.push((before, ticket));
    }
    let both = with(&start, &learned.iter().map(|(_, d)| d).collect::<Vec<_>>(), device)?;
    for (language, (before, _)) in new.iter().zip(&learned) {
        let after = language.measure(&both)?;
        ensure(after < *before, || format!("both differences together took the loss from {before:.3} to {after:.3}"))?;
        shown.push(format!("{:.3} with both together", before - after));
    }
    Ok(Report {
        property: format!("share of the gain of all weights that 1/{SHARE} of them reach ({})", shown.join("; ")),
        measured: smallest,
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}
