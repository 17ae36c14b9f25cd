//! Peri-LN (Kim et al., 2025, arXiv 2502.02732): norms before and behind each part. What a part adds has the same size whatever its weights
//! are, and so have their gradients.

use wgrad::nn::{Build, Init, Module};
use wgrad::{Activation, DType, Device, Tensor};

use super::depth_lab::{by_depth, shape};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::attention::Pass;
use crate::block::{Block, BlockConfig};
use crate::feed_forward::FeedForwardConfig;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "peri-ln",
    title: "Peri-LN: Revisiting Normalization Layer in the Transformer Architecture",
    paper: "2502.02732",
    shows: "gradients do not grow with the activations inside a block, and the residual stream grows by one for each part",
    check,
};

/// How much more a thousandfold activation makes of the gradient of the matrix behind it.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (peri, pre) = (grown(Placement::Peri, device, seed)?, grown(Placement::Pre, device, seed)?);
    ensure(pre > 900.0, || format!("the gradient of Pre-LN grew by {pre:.1}, a thousandfold growth was expected"))?;
    let laws = by_depth(Placement::Peri, &[4, 16], device, seed, |probe| probe.squares.last().copied().unwrap_or(0.0))?;
    for &(layers, end) in &laws {
        let law = 1.0 + 2.0 * layers;
        ensure((end / law - 1.0).abs() < 0.25, || {
            format!("the stream's mean square after {layers} blocks is {end:.1}, {law} was expected")
        })?;
    }
    Ok(Report {
        property: format!("growth of a gradient by a thousandfold activation, less one (Pre-LN: {:.0})", pre - 1.0),
        measured: (peri - 1.0).abs(),
        wanted: Wanted::AtMost,
        threshold: 0.01,
    })
}

/// The norm of the gradient of a block's last matrix with its layer up a thousandfold, over that with the layer as it is.
fn grown(placement: Placement, device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let block = shape(1, 16).decoder(placement).blocks[0];
    // The activation keeps factors, so that what comes out of it grows with the layer before.
    let feed_forward = FeedForwardConfig { activation: Activation::Relu, ..block.feed_forward };
    let build = Build::new(device).with_init(Init::XavierNormal { gain: 1.0 });
    let block = Block::new(&BlockConfig { feed_forward, ..block }, &build)?;
    let normal = || Tensor::normal(0.0, 1.0, &[2, 16, 64], DType::F32, device);
    let (x, direction) = (normal()?, normal()?);
    let find = |part: &str| {
        let found = block.named_parameters().into_iter().find(|(name, _)| name == part);
        found.map(|(_, param)| param).ok_or_else(|| crate::Error::argument("block", format!("it has no {part}")))
    };
    let (up, down) = (find("up.weight")?, find("down.weight")?);
    let gradient = || {
        let out = block.forward(&x, None, &Pass::default(), None, None)?;
        let gradients = out.mul(&direction)?.sum_all()?.backward()?;
        let gradient = down.gradient(&gradients).ok_or_else(|| crate::Error::argument("block", "no gradient"))?;
        Ok::<_, crate::Error>(gradient.norm(2.0, &[], false)?.item()?)
    };
    let before = gradient()?;
    up.set(&up.tensor().detach().mul_scalar(1000.0)?)?;
    Ok(gradient()? / before)
}
