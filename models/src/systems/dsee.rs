//! DSEE (Chen et al., 2021, arXiv 2111.00160): a low-rank product and a few single weights are trained beside frozen matrices, of which then the
//! smallest weights are pruned.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::{DType, Device, Tensor};

use super::tuning_lab::{Tuning, copy_values, freeze};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::svd::Svd;
use crate::weights::{LowRank, LowRankConfig, Matrix, SparseDifference, View, Views};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "dsee",
    title: "DSEE: Dually Sparsity-embedded Efficient Tuning of Pre-trained Language Models",
    paper: "2111.00160",
    shows: "low-rank and sparse additions of under 5 % of the parameters keep what tuning gains when half of the frozen weights are pruned",
    check,
};

/// Of the products.
const RANK: usize = 2;
/// Single weights that are trained in each matrix.
const SINGLE: usize = 24;
/// Of the approximation that tells which.
const COARSE: usize = 8;

/// Highest learning rate.
const LR: f64 = 1e-2;

/// `W * kept + B A + S`, where S has values at a few places alone.
struct Dual {
    /// `[outputs, inputs]`, one where a weight is kept.
    kept: Tensor,
    low_rank: LowRank,
    single: SparseDifference,
}

impl Dual {
    /// Single weights are trained where a matrix differs most from its best approximation of low rank.
    fn new(matrix: &Matrix, least: f32) -> Result<Self> {
        let weight = matrix.rows()?.detach();
        let device = weight.device();
        let build = Build::new(device);
        let rest = weight.sub(&Svd::of(&weight)?.product(COARSE, device)?)?;
        let sizes = [weight.size(0)?, weight.size(1)?];
        Ok(Dual {
            kept: weight.abs()?.ge(&Tensor::scalar(f64::from(least), DType::F32, device)?)?.cast(DType::F32)?,
            low_rank: LowRank::new(&LowRankConfig::new(RANK), sizes, &build)?,
            single: SparseDifference::at_largest(&rest.abs()?, SINGLE, &build)?,
        })
    }

    fn over(matrices: &[(String, Matrix)], least: f32) -> Result<Views> {
        Views::new(matrices.to_vec(), |_, matrix| Ok(Some(Box::new(Dual::new(matrix, least)?) as Box<dyn View>)))
    }
}

impl View for Dual {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.mul(&self.kept)?.add(&self.low_rank.difference()?)?.add(&self.single.difference()?)?)
    }
}

impl Module for Dual {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.low_rank);
        v.module("single", &self.single);
    }
}

/// Half of all weights are smaller than this.
fn median(matrices: &[(String, Matrix)]) -> Result<f32> {
    let mut sizes = Vec::new();
    for (_, matrix) in matrices {
        sizes.extend(matrix.rows()?.detach().abs()?.to_vec::<f32>()?);
    }
    let half = sizes.len() / 2;
    Ok(*sizes.select_nth_unstable_by(half, f32::total_cmp).1)
}

/// The share of full fine-tuning's gain that is left with half of the weights.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::new(device, seed)?;
    let all = tuning.all()?;
    let lm = tuning.model()?;
    freeze(&lm);
    let matrices = Matrix::of_blocks(&lm);
    // First beside the whole matrices, then, from what was learned, beside the pruned ones.
    let first = Dual::over(&matrices, 0.0)?;
    let dense = tuning.tune_views(&lm, &first, LR)?;
    let second = Dual::over(&matrices, median(&matrices)?)?;
    copy_values(&first, &second)?;
    // What is dropped later would hide what the other shows.
    drop(first);
    let trained = second.parameter_count() as f64 / lm.parameter_count() as f64;
    ensure(trained < 0.05, || format!("{:.1} % of the parameters are trained", 100.0 * trained))?;
    second.show()?;
    let pruned = tuning.new.measure(&lm)?;
    let loss = tuning.tune_views(&lm, &second, LR)?;
    Ok(Report {
        property: format!(
            "share of the gain of all parameters ({:.3} -> {all:.3}) with half of the weights and {:.1} % trained (whole \
             {dense:.3}, pruned {pruned:.3}, tuned again {loss:.3})",
            tuning.before,
            100.0 * trained
        ),
        measured: tuning.share(loss, all),
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}
