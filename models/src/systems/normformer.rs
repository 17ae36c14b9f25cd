//! NormFormer (Shleifer, Weston, Ott, 2021, arXiv 2110.09456): Pre-LN with a norm behind attention, one inside the feed-forward part, and learned
//! factors of heads.

use wgrad::Device;
use wgrad::nn::Module;

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted};
use crate::Result;
use crate::depth::{Probe, spread};
use crate::initial::{Role, Scheme};
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "normformer",
    title: "NormFormer: Improved Transformer Pretraining with Extra Normalization",
    paper: "2110.09456",
    shows: "early in the training gradients of the blocks' last layers are less far apart than with Pre-LN",
    check,
};

const LAYERS: usize = 6;
const STEPS: u64 = 200;
const LENGTH: usize = 64;
/// Models of either kind. The ratio of one pair was 0.69 to 0.84 with six seeds.
const MODELS: u64 = 3;

/// What became of a model: mismatches of gradients, and its loss.
struct Course {
    /// Of the second layers of feed-forward parts, which the paper's figure is of.
    down: f64,
    /// Of the first ones.
    up: f64,
    loss: f64,
}

/// The mismatch of gradients over that of Pre-LN.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let pair = |n| {
        let of = |placement| trained(placement, device, MODELS * seed + n);
        Ok([of(Placement::NormFormer)?, of(Placement::Pre)?])
    };
    let pairs = (0..MODELS).map(pair).collect::<Result<Vec<_>>>()?;
    // Of ratios, the geometric mean.
    let mean = |of: &dyn Fn(&[Course; 2]) -> f64| (pairs.iter().map(|p| of(p).ln()).sum::<f64>() / MODELS as f64).exp();
    let both = |of: fn(&Course) -> f64| [mean(&|[own, _]| of(own)), mean(&|[_, pre]| of(pre))];
    let ([own, pre], [up, pre_up]) = (both(|course| course.down), both(|course| course.up));
    let [loss, pre_loss] = both(|course| course.loss);
    let each: Vec<String> = pairs.iter().map(|[own, pre]| format!("{:.2}", own.down / pre.down)).collect();
    Ok(Report {
        property: format!(
            "largest gradient of a second feed-forward layer over the smallest, over that of Pre-LN, mean of {MODELS} pairs ({}; {own:.2} and {pre:.2}; first layers {up:.2} and {pre_up:.2}; losses {loss:.3} and {pre_loss:.3})",
            each.join(", ")
        ),
        measured: own / pre,
        wanted: Wanted::AtMost,
        threshold: 0.9,
    })
}

fn trained(placement: Placement, device: &Device, seed: u64) -> Result<Course> {
    device.set_seed(seed);
    let rows = Rows::new([8, LENGTH], seed, device)?;
    let shape = shape(LAYERS, LENGTH);
    // GPT's initial values, the words' vectors no larger than other matrices. With words' vectors of variance one Pre-LN's mismatch is
    // little more than half as large, and NormFormer's is the larger one.
    let std = (2.5 * shape.hidden as f64).sqrt().recip();
    let config = shape.decoder_with(placement, NormConfig::layer(1e-5));
    let scheme = Scheme::ScaledResidual(std, LAYERS);
    let lm = Lm::new(&LmConfig { embedding_std: std, scheme, ..config }, device)?;
    rows.train(&lm, &usual(STEPS, 2e-3))?;
    let (mut up, mut down) = ([0.0; LAYERS], [0.0; LAYERS]);
    for number in 0..8 {
        let (ids, labels) = rows.batch(3, number)?;
        let probe = Probe::new(&lm, &ids, &labels)?;
        for (name, param) in lm.named_parameters() {
            let (sums, block) = match Role::of(&name) {
                Some((Role::Up, block)) => (&mut up, block),
                Some((Role::Down, block)) => (&mut down, block),
                _ => continue,
            };
            if let Some(gradient) = param.gradient(&probe.gradients) {
                sums[block] += gradient.norm(1.0, &[], false)?.item()?;
            }
        }
    }
    Ok(Course { down: spread(&down), up: spread(&up), loss: rows.measure(&lm)? })
}
