//! FlexiGPT (Smith et al., 2025, arXiv 2501.14713): the least important blocks are replaced by others' weights with low-rank additions and factors of
//! their outputs.

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{Device, Tensor, no_grad};

use super::depth_lab::shape;
use super::lab::{train_then, usual};
use super::tuning_lab::{BATCH, Tuning, freeze};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;
use crate::placement::Placement;
use crate::svd::Svd;
use crate::weights::{LowRank, LowRankConfig, Matrix, View, Views};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "flexigpt",
    title: "FlexiGPT: Pruning and Extending Large Language Models with Low-Rank Weight Sharing",
    paper: "2501.14713",
    shows: "blocks that share the weights of others, with low-rank additions, recover more than the pruned model with as many additions",
    check,
};

const LAYERS: usize = 6;
/// Blocks that are replaced: a third.
const PRUNED: usize = 2;
const RANK: usize = 4;
/// Steps in which the replacement is trained: a tenth of those of the model.
const STEPS: u64 = 60;

/// Another block's matrix with an addition that starts as the best of its rank, and factors of the rows.
struct Shared {
    source: Param,
    left: Param,
    right: Param,
    gain: Param,
}

impl Shared {
    fn new(own: &Matrix, source: &Matrix) -> Result<Self> {
        let weight = own.rows()?.detach();
        let device = weight.device();
        let [left, right] = Svd::of(&weight.sub(&source.rows()?.detach())?)?.factors(RANK, device)?;
        let gain = Build::new(device).param(&[weight.size(0)?], Init::Ones)?;
        Ok(Shared { source: source.param.clone(), left: Param::new(&left)?, right: Param::new(&right)?, gain })
    }
}

impl View for Shared {
    fn matrix(&self, _: &Tensor) -> Result<Tensor> {
        let sum = self.source.leaf().add(&self.left.tensor().matmul(&self.right.tensor())?)?;
        Ok(sum.mul(&self.gain.tensor().unsqueeze(1)?)?)
    }
}

impl Module for Shared {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("left", &self.left);
        v.param("right", &self.right);
        v.param("gain", &self.gain);
    }
}

/// Nothing: a block whose outputs are that is not there.
struct Absent;

impl View for Absent {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.mul_scalar(0.0)?)
    }
}

impl Module for Absent {
    fn visit(&self, _: &mut Visitor<'_>) {}
}

/// The block that a matrix of this name is in, and its name within it.
fn place(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn writes(name: &str) -> bool {
    place(name).is_some_and(|(_, rest)| matches!(rest, "output.weight" | "down.weight"))
}

/// The loss without each block.
fn importance(tuning: &Tuning) -> Result<Vec<f64>> {
    let lm = tuning.model()?;
    let without = |block: usize| {
        let views = Views::new(Matrix::of_blocks(&lm), |name, _| {
            let gone = writes(name) && place(name).is_some_and(|(number, _)| number == block);
            Ok(gone.then(|| Box::new(Absent) as Box<dyn View>))
        })?;
        views.show()?;
        tuning.old.measure(&lm)
    };
    (0..LAYERS).map(without).collect()
}

/// Trains what a model is given in the place of blocks.
fn recover(tuning: &Tuning, lm: &Lm, fixed: &Views, views: &Views) -> Result<f64> {
    freeze(lm);
    fixed.show()?;
    let loss = |step| {
        views.show()?;
        let (ids, labels) = tuning.old.batch(6, step)?;
        lm.loss(&ids, &labels)
    };
    train_then(views, &usual(STEPS, 5e-3), loss, || Ok(()))?;
    views.show()?;
    tuning.old.measure(lm)
}

/// What is left of the loss due to pruning, over what is left with additions to kept blocks.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::of(shape(LAYERS, BATCH[1]).decoder(Placement::Pre), device, seed)?;
    let whole = tuning.old.measure(&tuning.model()?)?;
    let losses = importance(&tuning)?;
    let mut order: Vec<usize> = (0..LAYERS).collect();
    order.sort_by(|&a, &b| losses[a].total_cmp(&losses[b]));
    let pruned = &order[..PRUNED];
    let gone = |name: &str| place(name).is_some_and(|(number, _)| pruned.contains(&number));
    // The nearest block that stays, the one before of two.
    let kept = |number: usize| {
        let near = |&&other: &&usize| (other.abs_diff(number), other);
        order[PRUNED..].iter().min_by_key(near).copied().unwrap_or(number)
    };

    let lm = tuning.model()?;
    let matrices = Matrix::of_blocks(&lm);
    let shared = Views::new(matrices.clone(), |name, matrix| {
        let Some((number, rest)) = place(name).filter(|_| gone(name)) else { return Ok(None) };
        let source = format!("blocks.{}.{rest}", kept(number));
        let source = matrices.iter().find(|(name, _)| *name == source).map(|(_, matrix)| matrix);
        let view = source.map(|source| Shared::new(matrix, source)).transpose()?;
        Ok(view.map(|view| Box::new(view) as Box<dyn View>))
    })?;
    let count = shared.parameter_count();
    let flexible = recover(&tuning, &lm, &Views::default(), &shared)?;

    let bare = tuning.model()?;
    let absent = Views::new(Matrix::of_blocks(&bare), |name, _| {
        Ok((gone(name) && writes(name)).then(|| Box::new(Absent) as Box<dyn View>))
    })?;
    absent.show()?;
    let cut = no_grad(|| tuning.old.measure(&bare))?;
    let stays: Vec<(String, Matrix)> = Matrix::of_blocks(&bare).into_iter().filter(|(name, _)| !gone(name)).collect();
    let low = LowRank::over(stays, |_, _| Some(LowRankConfig::new(RANK)))?;
    let other = low.parameter_count();
    ensure(other >= count, || format!("{other} parameters beside the pruned model, {count} in the shared blocks"))?;
    let plain = recover(&tuning, &bare, &absent, &low)?;
    ensure(cut > whole + 0.01, || format!("pruning took the loss from {whole:.3} to {cut:.3} only"))?;
    Ok(Report {
        property: format!(
            "loss due to pruning that is left over that of {other} additions to kept blocks (whole {whole:.3}, without blocks \
             {pruned:?} {cut:.3}, additions {plain:.3}, {count} beside shared weights {flexible:.3})"
        ),
        measured: (flexible - whole) / (plain - whole),
        wanted: Wanted::AtMost,
        threshold: 1.0,
    })
}
