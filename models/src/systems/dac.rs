//! Decompose, Adjust, Compose (Lee, Bae, Kim, 2023, arXiv 2303.02328): norms of maps that keep phases, their content, and settle amplitudes, their
//! style, in a residual network that is to see through a change of style.

use wgrad::nn::{BatchNorm, Build, Conv2d, Linear, Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{Conv, DType, Device, FftNorm, Tensor, no_grad};

use super::lab::{answers, loss, train};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::front::synthetic::{below, normal};
use crate::norm::{PhaseKind, PhaseNorm, PhaseNormConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "dac",
    title: "Decompose, Adjust, Compose: Effective Normalization by Playing with Frequency for Domain Generalization",
    paper: "2303.02328",
    shows: "a change of style between training and test costs fewer right answers than with batch norms",
    check,
};

const SIDE: usize = 16;
const COLOURS: usize = 3;
/// Channels that come in, and those of each stage.
const CHANNELS: [usize; 4] = [COLOURS, 16, 16, 32];
const CLASSES: usize = 4;
const ROWS: usize = 32;
const STEPS: u64 = 300;
/// Length of the stroke in an image.
const STROKE: usize = 7;

/// Strokes in one of four directions, in noise, and their directions. Style is contrast and brightness of each image's colours: about one
/// and zero, or, `restyled`, stronger or weaker than almost any before, and brighter or darker.
fn images(restyled: bool, seed: u64, [stream, number]: [u64; 2], device: &Device) -> Result<(Tensor, Vec<i32>)> {
    let mut rng = Philox::new(seed, stream << 32 | number);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let class = below(CLASSES, &mut rng);
        let mut marked = vec![false; SIDE * SIDE];
        let at = |rng: &mut Philox| below(SIDE - STROKE + 1, rng);
        let (top, left) = (at(&mut rng), at(&mut rng));
        for i in 0..STROKE {
            let middle = STROKE / 2;
            let (row, column) = [(middle, i), (i, middle), (i, i), (i, STROKE - 1 - i)][class];
            marked[(top + row) * SIDE + left + column] = true;
        }
        let colour: Vec<f64> = (0..COLOURS).map(|_| 1.0 + 0.3 * normal(&mut rng)).collect();
        for strength in colour {
            let (contrast, brightness) = match restyled {
                false => ((0.3 * normal(&mut rng)).exp(), 0.3 * normal(&mut rng)),
                true => {
                    let stronger = if below(2, &mut rng) == 0 { 2.5 } else { 0.4 };
                    (stronger * (0.1 * normal(&mut rng)).exp(), 0.5 * normal(&mut rng))
                }
            };
            values.extend(marked.iter().map(|&marked| {
                let drawn = if marked { strength } else { 0.0 } + 0.3 * normal(&mut rng);
                (contrast * drawn + brightness) as f32
            }));
        }
        labels.push(class as i32);
    }
    Ok((Tensor::from_vec(values, &[ROWS, COLOURS, SIDE, SIDE], device)?, labels))
}

/// The norm of a shortcut.
enum Shortcut {
    Batch(BatchNorm),
    Phase(PhaseNorm),
}

/// Two layers, of which the first halves height and width, and a shortcut.
struct Stage {
    convolutions: [Conv2d; 3],
    norms: [BatchNorm; 2],
    shortcut: Shortcut,
    after: Option<PhaseNorm>,
}

impl Stage {
    /// DAC-SC has CCNorm in the shortcut and SCNorm behind the stage, unless a mean over the map follows, which would undo it.
    fn new(dac: bool, [channels, outputs]: [usize; 2], last: bool, build: &Build) -> Result<Self> {
        let conv = |channels, kernel: usize, stride| {
            let options = Conv { stride: [stride; 2], padding: [kernel / 2; 2], ..Conv::default() };
            Conv2d::new(channels, outputs, [kernel; 2], false, options, build)
        };
        let batch = || BatchNorm::new(outputs, 0.1, 1e-5, build);
        let phase = |kind| PhaseNorm::new(PhaseNormConfig::new(kind), outputs, build);
        Ok(Stage {
            convolutions: [conv(channels, 3, 2)?, conv(outputs, 3, 1)?, conv(channels, 1, 2)?],
            norms: [batch()?, batch()?],
            shortcut: match dac {
                true => Shortcut::Phase(phase(PhaseKind::ContentControlling)?),
                false => Shortcut::Batch(batch()?),
            },
            after: (dac && !last).then(|| phase(PhaseKind::StyleControlling)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, beside] = &self.convolutions;
        let y = self.norms[0].forward(&first.forward(x)?)?.relu()?;
        let y = self.norms[1].forward(&second.forward(&y)?)?;
        let residual = beside.forward(x)?;
        let residual = match &self.shortcut {
            Shortcut::Batch(norm) => norm.forward(&residual)?,
            Shortcut::Phase(norm) => norm.forward(&residual)?,
        };
        let y = y.add(&residual)?.relu()?;
        self.after.as_ref().map_or_else(|| Ok(y.clone()), |norm| norm.forward(&y))
    }
}

impl Module for Stage {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("convolutions", &self.convolutions);
        v.modules("norms", &self.norms);
        match &self.shortcut {
            Shortcut::Batch(norm) => v.module("shortcut", norm),
            Shortcut::Phase(norm) => v.module("shortcut", norm),
        }
        if let Some(norm) = &self.after {
            v.module("after", norm);
        }
    }
}

/// A small residual network.
struct Net {
    stages: Vec<Stage>,
    head: Linear,
}

impl Net {
    fn new(dac: bool, build: &Build) -> Result<Self> {
        let stage = |n: usize| Stage::new(dac, [CHANNELS[n], CHANNELS[n + 1]], n + 2 == CHANNELS.len(), build);
        let stages = (0..CHANNELS.len() - 1).map(stage).collect::<Result<Vec<_>>>()?;
        Ok(Net { stages, head: Linear::new(CHANNELS[CHANNELS.len() - 1], CLASSES, true, build)? })
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let maps = self.stages.iter().try_fold(images.clone(), |x, stage| stage.forward(&x))?;
        let seen = maps.flatten(2, 3)?.mean(&[-1], false)?;
        Ok(self.head.forward(&seen)?)
    }
}

impl Module for Net {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("stages", &self.stages);
        v.module("head", &self.head);
    }
}

/// The right answers lost over those lost with batch norms.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let apart = apart(device, seed)?;
    ensure(apart < 1e-5, || format!("PCNorm is {apart:.1e} from amplitude and phase put together by transforms"))?;
    let learned = |dac| {
        device.set_seed(seed);
        let net = Net::new(dac, &Build::new(device))?;
        train(&net, STEPS, 3e-3, |step| {
            let (images, labels) = images(false, seed, [1, step], device)?;
            loss(&net.forward(&images)?, &labels)
        })?;
        net.train(false);
        let measure = |restyled| {
            let shares = (0..16).map(|number| {
                let (images, labels) = images(restyled, seed, [2, number], device)?;
                answers(&no_grad(|| net.forward(&images))?, &labels)
            });
            Ok::<_, crate::Error>(shares.sum::<Result<f64>>()? / 16.0)
        };
        Ok::<_, crate::Error>((measure(false)?, measure(true)?))
    };
    let ((same, other), (batch_same, batch_other)) = (learned(true)?, learned(false)?);
    ensure(batch_same > 0.9 && batch_other < batch_same - 0.05, || {
        format!(
            "with batch norms {batch_same:.3} right answers, {batch_other:.3} in another style; a loss was expected"
        )
    })?;
    Ok(Report {
        property: format!(
            "right answers lost by another style over those lost with batch norms ({same:.3} -> {other:.3}, batch norms {batch_same:.3} -> {batch_other:.3}; PCNorm is {apart:.0e} from its transforms)"
        ),
        measured: (same - other) / (batch_same - batch_other),
        wanted: Wanted::AtMost,
        threshold: 1.0,
    })
}

/// The largest distance of PCNorm from its definition: the inverse transform of the amplitude of the batch norm and the phase of the map.
fn apart(device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let x = Tensor::normal(0.3, 1.0, &[4, 3, 8, 6], DType::F32, device)?;
    let norm = PhaseNorm::new(PhaseNormConfig::new(PhaseKind::Preserving), 3, &Build::new(device))?;
    let (map, normed) = (transform(&x, &x.zeros_like()?, false)?, x.batch_norm(None, None, 1e-5)?);
    let normed = transform(&normed, &x.zeros_like()?, false)?;
    let size = |(re, im): &(Tensor, Tensor)| re.square()?.add(&im.square()?)?.sqrt();
    let factor = size(&normed)?.div(&size(&map)?)?;
    let (want, _) = transform(&map.0.mul(&factor)?, &map.1.mul(&factor)?, true)?;
    Ok(norm.forward(&x)?.sub(&want)?.abs()?.max(&[], false)?.item()?)
}

/// The Fourier transform over the last two dimensions, or its inverse.
fn transform(re: &Tensor, im: &Tensor, inverse: bool) -> Result<(Tensor, Tensor)> {
    let one = |(re, im): (Tensor, Tensor)| match inverse {
        false => re.fft(&im, FftNorm::Backward),
        true => re.ifft(&im, FftNorm::Backward),
    };
    let turned = |(re, im): (Tensor, Tensor)| Ok::<_, wgrad::Error>((re.transpose(-1, -2)?, im.transpose(-1, -2)?));
    let rows = one((re.clone(), im.clone()))?;
    Ok(turned(one(turned(rows)?)?)?)
}
