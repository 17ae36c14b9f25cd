//! Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets (Brock et al., 2021, arXiv 2101.08692): residual blocks
//! without norms, whose variances are known before anything is computed.

use wgrad::{Conv, DType, Device, Tensor};

use super::{Report, System, Wanted, ensure, watch};
use crate::Result;
use crate::norm::WeightView;
use crate::plot::{Chart, Figure, Series};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "nf-resnet",
    title: "Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets",
    paper: "2101.08692",
    shows: "with standardised weights variances follow the law that the blocks are scaled by, branches keep a variance of one, and means stay where they are; with batch norms variances rise and fall like the teeth of a saw",
    check,
};

/// Maps, their channels, and their sides; from stage to stage half as large.
const MAPS: usize = 32;
const CHANNELS: usize = 64;
const SIDE: usize = 16;
/// Blocks of a stage; the first of each but the first stage starts anew from normalised inputs.
const BLOCKS: usize = 4;
const STAGES: usize = 3;
/// Factor of what a block adds.
const ALPHA: f64 = 0.2;
/// `1 / std(relu(z))` of a normal `z`.
const RELU_GAIN: f64 = 1.712_858_550_449_663;

/// Networks at their initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Net {
    /// Scaled weight standardization, and no norms.
    Free,
    /// Batch norms before each activation, He's initial values.
    Batch,
    /// He's initial values and no norms.
    Plain,
}

/// What signal-propagation plots show of a block, mean over channels.
struct Signal {
    /// Of the variance over maps and places behind it.
    variance: f64,
    /// Of the squared mean.
    square_of_mean: f64,
    /// Of the variance at the end of its branch.
    branch: f64,
    /// What the variance was to be, of a network that knows.
    law: f64,
}

impl Net {
    /// A new convolution over activations, `kernel` wide.
    fn conv(self, x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
        let taps = CHANNELS * kernel * kernel;
        let rows = Tensor::normal(0.0, (2.0 / taps as f64).sqrt(), &[CHANNELS, taps], DType::F32, x.device())?;
        let rows = if self == Net::Free { WeightView::Standardized { eps: 1e-4 }.matrix(&rows, None)? } else { rows };
        let (sizes, options) = ([CHANNELS, CHANNELS, kernel, kernel], Conv { stride: [stride; 2], ..Conv::default() });
        let weight = rows.reshape(&sizes.map(|n| n as isize))?;
        Ok(around(x, kernel / 2)?.conv2d(&weight, None, &options)?)
    }

    fn activation(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Net::Free => x.relu()?.mul_scalar(RELU_GAIN)?,
            Net::Batch => x.batch_norm(None, None, 1e-5)?.relu()?,
            Net::Plain => x.relu()?,
        })
    }

    /// The signals behind each block.
    fn propagate(self, device: &Device) -> Result<Vec<Signal>> {
        let alpha = if self == Net::Free { ALPHA } else { 1.0 };
        let mut x = Tensor::normal(0.0, 1.0, &[MAPS, CHANNELS, SIDE, SIDE], DType::F32, device)?;
        let (mut law, mut seen) = (1.0f64, Vec::new());
        for block in 0..STAGES * BLOCKS {
            let starts = block > 0 && block.is_multiple_of(BLOCKS);
            let inside = if self == Net::Free { x.mul_scalar(law.sqrt().recip())? } else { x.clone() };
            let active = self.activation(&inside)?;
            let stride = if starts { 2 } else { 1 };
            let branch = self.conv(&self.activation(&self.conv(&active, 3, stride)?)?, 3, 1)?;
            if starts {
                (x, law) = (self.conv(&active, 1, stride)?, 1.0);
            }
            x = x.add(&branch.mul_scalar(alpha)?)?;
            law += alpha * alpha;
            let variance = |x: &Tensor| x.var(&[0, 2, 3], 0.0, false)?.mean_all()?.item();
            let square_of_mean = x.mean(&[0, 2, 3], false)?.square()?.mean_all()?.item()?;
            seen.push(Signal { variance: variance(&x)?, square_of_mean, branch: variance(&branch)?, law });
        }
        Ok(seen)
    }
}

/// Maps with so many of their own rows and columns around them as on a torus: zeros there would take from the variance of small maps, of
/// which the law knows nothing.
fn around(x: &Tensor, width: usize) -> Result<Tensor> {
    if width == 0 {
        return Ok(x.clone());
    }
    [2, 3].into_iter().try_fold(x.clone(), |x, dim| {
        let size = x.size(dim)?;
        let (first, last) = (x.narrow(dim, 0, width)?, x.narrow(dim, size - width, width)?);
        Ok(Tensor::concat(&[&last, &x, &first], dim)?)
    })
}

/// How far variances are from the predicted ones.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let (own, batch, plain) =
        (Net::Free.propagate(device)?, Net::Batch.propagate(device)?, Net::Plain.propagate(device)?);
    watch::picture(|| figure(&own, &batch, &plain))?;
    let most = |of: &dyn Fn(&Signal) -> f64, signals: &[Signal]| signals.iter().map(of).fold(0.0, f64::max);
    let off = most(&|signal| (signal.variance / signal.law - 1.0).abs(), &own);
    let branch = most(&|signal| (signal.branch - 1.0).abs(), &own);
    let mean = |signals: &[Signal]| signals.last().map_or(0.0, |signal| signal.square_of_mean / signal.variance);
    let (still, shifted) = (mean(&own), mean(&plain));
    ensure(branch < 0.1, || format!("a branch's variance is {branch:.3} from one"))?;
    ensure(still < 0.05 && shifted > 0.1, || {
        format!(
            "squared means over variances at the end: {still:.3}, and {shifted:.3} of He's initial values, which should shift"
        )
    })?;
    let (rise, fall) = teeth(&batch);
    ensure(rise > 0.5 && fall < 0.6, || {
        format!(
            "with batch norms a block adds {rise:.2} to the variance at least, and a new stage leaves {fall:.2} of it at most"
        )
    })?;
    Ok(Report {
        property: format!(
            "largest relative distance of a block's variance from the law (branches {branch:.3} from one; squared means over variances at the end {still:.3}, He's {shifted:.2}; with batch norms a block adds {rise:.2} or more, and a new stage leaves {fall:.2} or less)"
        ),
        measured: off,
        wanted: Wanted::AtMost,
        threshold: 0.05,
    })
}

/// The least that a block adds to the variance within a stage, and the largest share of it that the beginning of a stage leaves.
fn teeth(signals: &[Signal]) -> (f64, f64) {
    let (mut rise, mut fall) = (f64::INFINITY, 0.0f64);
    for (block, pair) in signals.windows(2).enumerate() {
        let (before, after) = (pair[0].variance, pair[1].variance);
        match (block + 1).is_multiple_of(BLOCKS) {
            true => fall = fall.max(after / before),
            false => rise = rise.min(after - before),
        }
    }
    (rise, fall)
}

/// The signal-propagation plot.
fn figure(own: &[Signal], batch: &[Signal], plain: &[Signal]) -> Figure {
    let line = |name: &str, signals: &[Signal], of: fn(&Signal) -> f64| {
        Series::new(name, signals.iter().enumerate().map(|(n, signal)| (n as f64 + 1.0, of(signal))).collect())
    };
    let chart = |title: &str, of| {
        Chart::new(title, "block", "mean over channels")
            .with(line("NF-ResNet", own, of))
            .with(line("with batch norms", batch, of))
            .with(line("He's values, no norms", plain, of))
            .log_y()
    };
    let law = line("law of NF-ResNet", own, |signal| signal.law);
    Figure {
        title: "Signal propagation at initial values".into(),
        charts: vec![
            chart("Variance behind a block", |signal| signal.variance).with(law),
            chart("Squared mean behind a block", |signal| signal.square_of_mean),
            chart("Variance at the end of a branch", |signal| signal.branch),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_go_on_beyond_their_edges() {
        let x = Tensor::from_vec((0..6).map(|n| n as f32).collect(), &[1, 1, 2, 3], &Device::cpu()).unwrap();
        let wide = around(&x, 1).unwrap();
        assert_eq!(wide.shape(), [1, 1, 4, 5]);
        let first: Vec<f32> = wide.to_vec().unwrap()[..10].to_vec();
        assert_eq!(first, [5.0, 3.0, 4.0, 5.0, 3.0, 2.0, 0.0, 1.0, 2.0, 0.0]);
    }
}
