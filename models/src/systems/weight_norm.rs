//! Weight Normalization (Salimans and Kingma, 2016, arXiv 1602.07868): each row of a matrix is a length and a direction. Steps down the gradient
//! are at right angles to the direction's vector, which they can only lengthen, and a longer vector turns less: a rate that is too large
//! soon is not (section 2.2).

use std::ops::Range;

use wgrad::nn::{Build, Init, Module};
use wgrad::optim::{Group, Optimizer, Rule, Sgd};
use wgrad::{Device, Tensor, no_grad};

use super::mlp_lab::{Blobs, Mlp};
use super::watch::Training;
use super::{Report, System, Wanted, ensure};
use crate::norm::WeightView;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "weight-norm",
    title: "Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural Networks",
    paper: "1602.07868",
    shows: "plain descent learns at a wider range of rates, from the same function: vectors of directions grow where a rate is too large",
    check,
};

const LAYERS: usize = 4;
const STEPS: u64 = 200;
const ROWS: usize = 64;
/// Powers of two that are tried as rates: beyond both ends of what learns.
const RATES: Range<i32> = -12..3;
/// How many times the lowest loss counts as learned.
const LEARNED: f64 = 2.0;

/// What became of a network.
struct Course {
    /// Its loss on fresh vectors.
    loss: f64,
    /// How far the squared length of a matrix is from what steps at right angles to it give, relatively.
    off: f64,
}

/// By how many powers of two the range of rates is wider than that of plain matrices.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let blobs = Blobs::new(1.0, seed, device);
    let run =
        |normed| RATES.map(|rate| train(normed, 2f64.powi(rate), &blobs, device, seed)).collect::<Result<Vec<_>>>();
    let (own, plain) = (run(true)?, run(false)?);
    let best = own.iter().chain(&plain).map(|course| course.loss).fold(f64::INFINITY, f64::min);
    let learned = |courses: &[Course]| courses.iter().filter(|course| course.loss <= LEARNED * best).count();
    let off = own.iter().filter(|course| course.loss <= LEARNED * best).map(|course| course.off).fold(0.0, f64::max);
    ensure(off < 1e-3, || format!("squared lengths of directions are {off:.1e} from what steps at right angles give"))?;
    let (own, plain) = (learned(&own), learned(&plain));
    Ok(Report {
        property: format!(
            "powers of two between rates that come to no more than {LEARNED} times the lowest loss, {best:.3}, beyond those of plain matrices ({own} and {plain})"
        ),
        measured: own as f64 - plain as f64,
        wanted: Wanted::AtLeast,
        threshold: 1.0,
    })
}

/// A network after plain descent at a rate. Both kinds start as the same function, as section 3 starts it.
fn train(normed: bool, rate: f64, blobs: &Blobs, device: &Device, seed: u64) -> Result<Course> {
    device.set_seed(seed);
    let build = Build::new(device).with_init(Init::Normal { mean: 0.0, std: 0.05 });
    let mut mlp = Mlp::new(LAYERS, None, Some(WeightView::WeightNorm), &build)?;
    mlp.init_from(&blobs.batch(4 * ROWS, [3, 0])?.0)?;
    if !normed {
        mlp = mlp.plain(&build)?;
    }
    let params = mlp.named_parameters();
    let weight = params.iter().find(|(name, _)| name == "layers.1.weight").map(|(_, param)| param.clone());
    let weight = weight.ok_or_else(|| Error::argument("weight-norm", "the second layer has no matrix"))?;
    let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), rate, vec![Group::new(params)])?;
    let square = |x: &Tensor| x.square()?.sum_all()?.item();
    let mut by_steps = square(&weight.tensor().detach())?;
    let mut training = Training::new(STEPS);
    for step in 0..STEPS {
        let before = weight.tensor().detach();
        let loss = mlp.loss(&blobs.batch(ROWS, [1, step])?)?;
        optimizer.step(&loss.backward()?)?;
        training.step(step + 1, &loss)?;
        by_steps += square(&weight.tensor().detach().sub(&before)?)?;
    }
    let off = (square(&weight.tensor().detach())? / by_steps - 1.0).abs();
    Ok(Course { loss: no_grad(|| mlp.loss(&blobs.batch(2048, [2, 0])?))?.item()?, off })
}
