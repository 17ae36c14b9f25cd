//! DeepScaleLM (Kedia et al., 2024, arXiv 2403.09635): initial values and weights of residuals from a theory of moments, so that signals and
//! gradients keep their size through hundreds of layers.

use wgrad::rng::Philox;
use wgrad::{Device, Tensor};

use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::depth::{Probe, spread};
use crate::initial::{Scheme, correlations};
use crate::lm::{Lm, LmConfig};
use crate::placement::{Placement, Shape};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "deepscalelm",
    title: "Transformers Get Stable: An End-to-End Signal Propagation Theory for Language Models",
    paper: "2403.09635",
    shows: "through 192 layers the residual stream keeps its mean square, and gradients their size",
    check,
};

const LAYERS: usize = 192;
const LENGTH: usize = 128;
const ROWS: usize = 2;
const SHAPE: Shape = Shape { vocab: 512, hidden: 128, heads: 4, layers: LAYERS, length: LENGTH };

/// How far the stream's mean square gets from one.
fn check(device: &Device, seed: u64) -> Result<Report> {
    // Words by Zipf's law; two are the same with the probability `equal`, and then their vectors are.
    let weights: Vec<f64> = (1..=SHAPE.vocab).map(|rank| 1.0 / rank as f64).collect();
    let total: f64 = weights.iter().sum();
    let equal: f64 = weights.iter().map(|w| (w / total).powi(2)).sum();
    let mut rng = Philox::new(seed, 7);
    let mut word = || {
        let mut left = f64::from(rng.next_f32()) * total;
        let found = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        found.unwrap_or(SHAPE.vocab - 1) as i32
    };
    let mut words = || Tensor::from_vec((0..ROWS * LENGTH).map(|_| word()).collect(), &[ROWS, LENGTH], device);
    let (ids, labels) = (words()?, words()?);
    let seen = (1..=LENGTH).map(|keys| 1.0 / keys as f64).sum::<f64>() / LENGTH as f64;
    let correlations = correlations(LAYERS, (1.0 / LAYERS as f64).sqrt(), equal, seen.recip());
    let scaled = LmConfig {
        scheme: Scheme::DeepScale { hidden: SHAPE.hidden, correlations },
        ..SHAPE.decoder(Placement::DeepScale)
    };
    let run = |config: &LmConfig| {
        device.set_seed(seed);
        Probe::new(&Lm::new(config, device)?, &ids, &labels)
    };
    let (own, pre) =
        (run(&scaled)?, run(&LmConfig { scheme: Scheme::Xavier { gain: 1.0 }, ..SHAPE.decoder(Placement::Pre) })?);
    let off = |squares: &[f64]| squares.iter().map(|&s| (s / squares[0]).max(squares[0] / s)).fold(0.0, f64::max);
    let gradients = spread(&own.blocks);
    ensure(gradients < 4.0, || {
        format!("gradients of blocks differ by a factor of {gradients:.2}, 4 was expected at most")
    })?;
    Ok(Report {
        property: format!(
            "largest factor between the stream's mean square and the words' (a quarter, half and all the way {:.2}, {:.2}, {:.2}; Pre-LN {:.0}; gradients of blocks differ by {gradients:.2}, Pre-LN {:.1})",
            own.squares[LAYERS / 4],
            own.squares[LAYERS / 2],
            own.squares[LAYERS],
            off(&pre.squares),
            spread(&pre.blocks)
        ),
        measured: off(&own.squares),
        wanted: Wanted::AtMost,
        threshold: 1.25,
    })
}
