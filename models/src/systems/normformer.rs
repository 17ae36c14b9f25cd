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
    let own = trained(Placement::NormFormer, device, seed)?;
    let pre = trained(Placement::Pre, device, seed)?;
    Ok(Report {
        property: format!(
            "largest gradient of a second feed-forward layer over the smallest, over that of Pre-LN ({:.2} and {:.2}; first layers {:.2} and {:.2}; losses {:.3} and {:.3})",
            own.down, pre.down, own.up, pre.up, own.loss, pre.loss
        ),
        measured: own.down / pre.down,
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
