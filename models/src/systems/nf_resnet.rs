//! Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets (Brock et al., 2021, arXiv 2101.08692): residual blocks
//! without norms, whose variances are known before anything is computed. Here with convolutions of size one, which are linear layers.

use wgrad::{DType, Device, Tensor};

use super::{Report, System, Wanted, ensure};
use crate::Result;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "nf-resnet",
    title: "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets",
    paper: "2101.08692",
    shows: "with standardised weights variances follow the law that the blocks are scaled by, and means stay where they are",
    check,
};

const WIDTH: usize = 256;
const SAMPLES: usize = 1024;
/// Blocks of a stage; the first of each but the first stage starts anew from normalised inputs.
const BLOCKS: usize = 4;
const STAGES: usize = 3;
/// Factor of what a block adds.
const ALPHA: f64 = 0.2;
/// `1 / std(relu(z))` of a normal `z`.
const RELU_GAIN: f64 = 1.712_858_550_449_663;

/// What signal-propagation plots show after a block, mean over channels.
struct Signal {
    /// Of the variance over samples.
    variance: f64,
    /// Of the squared mean over samples.
    square_of_mean: f64,
}

fn signal(x: &Tensor) -> Result<Signal> {
    let (variance, mean) = (x.var(&[0], 0.0, false)?, x.mean(&[0], false)?);
    Ok(Signal { variance: variance.mean_all()?.item()?, square_of_mean: mean.square()?.mean_all()?.item()? })
}

/// A new matrix, of which each row has mean zero and length one if it is to be standardised, else He's.
fn matrix(standardised: bool, device: &Device) -> Result<Tensor> {
    let weight = Tensor::normal(0.0, (2.0 / WIDTH as f64).sqrt(), &[WIDTH, WIDTH], DType::F32, device)?;
    if !standardised {
        return Ok(weight);
    }
    let centred = weight.sub(&weight.mean(&[1], true)?)?;
    let scale = weight.var(&[1], 0.0, true)?.mul_scalar(WIDTH as f64)?.clamp(Some(1e-4), None)?.rsqrt()?;
    Ok(centred.mul(&scale)?)
}

/// The signals after each block, with the variances that were predicted.
fn propagate(standardised: bool, device: &Device) -> Result<Vec<(Signal, f64)>> {
    let gain = if standardised { RELU_GAIN } else { 1.0 };
    let alpha = if standardised { ALPHA } else { 1.0 };
    let mut x = Tensor::normal(0.0, 1.0, &[SAMPLES, WIDTH], DType::F32, device)?;
    let (mut predicted, mut seen) = (1.0f64, Vec::new());
    for block in 0..STAGES * BLOCKS {
        let inside = if standardised { x.mul_scalar(predicted.sqrt().recip())? } else { x.clone() };
        let mut branch = inside.clone();
        for _ in 0..2 {
            branch = branch.relu()?.mul_scalar(gain)?.linear(&matrix(standardised, device)?, None)?;
        }
        if standardised && block > 0 && block.is_multiple_of(BLOCKS) {
            (x, predicted) = (inside, 1.0);
        }
        x = x.add(&branch.mul_scalar(alpha)?)?;
        predicted += alpha * alpha;
        seen.push((signal(&x)?, predicted));
    }
    Ok(seen)
}

/// How far variances are from the predicted ones.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let (own, plain) = (propagate(true, device)?, propagate(false, device)?);
    let off = own.iter().map(|(signal, law)| (signal.variance / law - 1.0).abs()).fold(0.0, f64::max);
    let mean =
        |signals: &[(Signal, f64)]| signals.last().map_or(0.0, |(signal, _)| signal.square_of_mean / signal.variance);
    let (still, shifted) = (mean(&own), mean(&plain));
    ensure(still < 0.05 && shifted > 0.1, || {
        format!(
            "squared means over variances at the end: {still:.3}, and {shifted:.3} of He's initial values, which should shift"
        )
    })?;
    Ok(Report {
        property: format!(
            "largest relative distance of a block's variance from the law (squared means over variances at the end {still:.3}, He's {shifted:.2})"
        ),
        measured: off,
        wanted: Wanted::AtMost,
        threshold: 0.05,
    })
}
