//! On Layer Normalization in the Transformer Architecture (Xiong et al., 2020, arXiv 2002.04745): where the norm stands decides how large
//! the gradients near the output are at the start, and with that whether the learning rate has to rise slowly.

use wgrad::Device;
use wgrad::optim::Schedule;

use super::depth_lab::{Rows, by_depth, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::depth::exponent;
use crate::initial::Scheme;
use crate::lm::{Lm, LmConfig};
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "pre-post-ln",
    title: "On Layer Normalization in the Transformer Architecture",
    paper: "2002.04745",
    shows: "Post-LN does not learn without a warm-up, Pre-LN needs none; the gradients near the output differ so from the start",
    check,
};

const LAYERS: usize = 12;
const STEPS: u64 = 200;

/// What a warm-up is worth to Post-LN. By theory the last layer's gradient at the start goes with depth to the power 0 in Post-LN, -1/2 in
/// Pre-LN.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let slope = |placement| {
        let law = by_depth(placement, &[6, 12, 24, 48], device, seed, |probe| probe.last)?;
        Ok::<_, crate::Error>(exponent(&law))
    };
    let (post, pre) = (slope(Placement::Post)?, slope(Placement::Pre)?);
    ensure(post - pre > 0.35, || {
        format!("exponents of the last gradient over depth: Post-LN {post:.2}, Pre-LN {pre:.2}")
    })?;
    let rows = Rows::new([8, 64], seed, device)?;
    let learned = |placement, warmup| {
        device.set_seed(seed);
        let scheme = Scheme::Xavier { gain: 1.0 };
        let lm = Lm::new(&LmConfig { scheme, ..shape(LAYERS, 64).decoder(placement) }, device)?;
        rows.train(&lm, &Schedule { warmup, ..usual(STEPS, 1e-3) })?;
        rows.measure(&lm)
    };
    let gain = |placement| Ok::<_, crate::Error>(learned(placement, 0)? - learned(placement, STEPS / 2)?);
    let (of_post, of_pre) = (gain(Placement::Post)?, gain(Placement::Pre)?);
    ensure(of_pre < 0.02, || format!("a warm-up is worth {of_pre:.3} nats to Pre-LN as well"))?;
    Ok(Report {
        property: format!(
            "nats that a warm-up is worth to Post-LN (to Pre-LN {of_pre:.3}; exponents of the last gradient over depth {post:.2} and {pre:.2})"
        ),
        measured: of_post,
        wanted: Wanted::AtLeast,
        threshold: 0.1,
    })
}
