//! Kronecker Attention Networks (Gao et al., 2020, arXiv 2007.08442): attention over maps through the means of rows and columns.

use std::time::Instant;

use wgrad::nn::Build;
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, answers, loss, train};
use super::{Report, System, Wanted, ensure};
use crate::attention::Pass;
use crate::front::synthetic::below;
use crate::mixer::{Kronecker, KroneckerKind, Mixer};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "kronecker-attention",
    title: "Kronecker Attention Networks",
    paper: "2007.08442",
    shows: "on maps it learns what full attention learns, at the cost of rows plus columns",
    check,
};

/// Rows and columns of a map.
const SIDE: usize = 8;
const CLASSES: usize = 4;
const ROWS: usize = 32;

/// Maps of noise in which two cells are marked; the class says in which quarters they lie to each other: the same row, the same
/// column, a diagonal, or neither. No cell knows without the others.
fn maps(rng: &mut Philox) -> (Vec<u32>, Vec<i32>) {
    let mut below = |n: usize| below(n, rng);
    let (mut ids, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let mut map: Vec<u32> = (0..SIDE * SIDE).map(|_| below(4) as u32).collect();
        let class = below(CLASSES);
        let (row, column) = (below(SIDE), below(SIDE));
        let step = 1 + below(SIDE - 1);
        let moved = |n: usize, on: bool| if on { (n + step) % SIDE } else { n };
        let other = (moved(row, class & 1 == 1), moved(column, class & 2 == 2));
        map[row * SIDE + column] = 4;
        map[other.0 * SIDE + other.1] = 5;
        ids.extend(map);
        labels.push(class as i32);
    }
    (ids, labels)
}

/// A model that tells maps apart, trained.
struct Learned {
    /// The share of right answers.
    right: f64,
    /// Time of the training in seconds.
    seconds: f64,
}

/// Highest learning rates that full attention is trained with, of which the better one counts: what suits one mixer need not suit the other.
const RATES: [f64; 2] = [3e-3, 1e-3];

/// Trains a model of any mixer; initial values, maps and steps are the same for all.
fn learned(
    sizes: &Sizes,
    rate: f64,
    device: &Device,
    seed: u64,
    mixer: impl Fn(&Build) -> Result<Box<dyn Mixer>>,
) -> Result<Learned> {
    device.set_seed(seed);
    let places = Tensor::normal(0.0, 0.5, &[1, SIDE * SIDE, sizes.hidden], DType::F32, device)?;
    let lab = Lab::new(sizes, device, |_, build| mixer(build))?;
    let run = |stream: u64, number: u64| {
        let (ids, labels) = maps(&mut Philox::new(seed, stream << 32 | number));
        let ids = Tensor::from_vec(ids, &[ROWS, SIDE * SIDE], device)?;
        let pass = lab.pass(&Mask::all(), [ROWS, SIDE * SIDE], None, device)?;
        let states = lab.states(lab.embed(&ids)?.add(&places)?, &pass)?;
        Ok::<_, Error>((lab.logits(&states.mean(&[1], false)?)?, labels))
    };
    let begun = Instant::now();
    train(&lab, 1000, rate, |step| {
        let (logits, labels) = run(1, step)?;
        loss(&logits, &labels)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut right = 0.0;
    for number in 0..8 {
        let (logits, labels) = no_grad(|| run(2, number))?;
        right += answers(&logits, &labels)? / 8.0;
    }
    Ok(Learned { right, seconds })
}

/// Right answers of a model of Kronecker attention beside one of full attention of the same size, and the times of both; on a larger map
/// those of a layer.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let sizes = Sizes { vocab: 8, hidden: 64, heads: 4, layers: 2 };
    let own = learned(&sizes, RATES[0], device, seed, |build| {
        Ok(Box::new(Kronecker::new(KroneckerKind::Positions, sizes.heads, [SIDE; 2], sizes.hidden, build)?))
    })?;
    let full = |rate| learned(&sizes, rate, device, seed, |build| sizes.plain_mixer(build));
    let full = [full(RATES[0])?, full(RATES[1])?];
    let full =
        full.into_iter().max_by(|a, b| a.right.total_cmp(&b.right)).ok_or_else(|| Error::argument("rates", "none"))?;
    ensure(own.right > 0.85, || {
        format!("{:.3} of the maps are told apart, by full attention {:.3}", own.right, full.right)
    })?;
    let faster = faster(&sizes, 32, device)?;
    Ok(Report {
        property: format!(
            "maps told apart, of {CLASSES} kinds, less those of full attention at the better of two rates ({:.3} and {:.3}; trained in {:.0} and {:.0} s; a layer on a 32 x 32 map takes 1/{faster:.0} of full attention's time)",
            own.right, full.right, own.seconds, full.seconds
        ),
        measured: own.right - full.right,
        wanted: Wanted::AtLeast,
        threshold: -0.05,
    })
}

/// How many times faster than full attention a layer of means is on a map of `side` times `side`.
fn faster(sizes: &Sizes, side: usize, device: &Device) -> Result<f64> {
    let build = Build::new(device);
    let full = sizes.attention_mixer(None, &build)?;
    let own = Kronecker::new(KroneckerKind::Means, sizes.heads, [side; 2], sizes.hidden, &build)?;
    let x = Tensor::normal(0.0, 1.0, &[1, side * side, sizes.hidden], DType::F32, device)?;
    let pass = Pass::new(&Mask::all(), 0, std::iter::empty());
    let seconds = |mixer: &dyn Mixer| -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            no_grad(|| mixer.mix(&x, &pass))?.sum_all()?.item()?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok(least)
    };
    Ok(seconds(&*full)? / seconds(&own)?)
}
