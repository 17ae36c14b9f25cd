//! WaveletGPT (Verma, 2024, arXiv 2409.12924): after each block half of the channels become moving averages of the past, at all scales.

use wgrad::Device;
use wgrad::optim::{Adam, Group, Optimizer, Rule};

use super::depth_lab::{Rows, shape};
use super::watch::Training;
use super::{Report, System, Wanted};
use crate::Result;
use crate::lm::{Lm, LmConfig};
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "wavelet-gpt",
    title: "WaveletGPT: Wavelets Meet Large Language Models",
    paper: "2409.12924",
    shows: "with averages at all scales, and no parameter more, it has a decoder's loss after fewer steps",
    check,
};

const STEPS: u64 = 400;
/// Steps whose losses are averaged.
const WINDOW: usize = 40;

/// The share of the steps after which the loss is what the decoder has in the end.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (own, plain) = (losses(6, device, seed)?, losses(0, device, seed)?);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let goal = mean(&plain[plain.len() - WINDOW..]);
    let reached = own.windows(WINDOW).position(|window| mean(window) <= goal).map_or(usize::MAX, |at| at + WINDOW);
    Ok(Report {
        property: format!(
            "share of the steps after which it has the decoder's last loss (ends at {:.3}, the decoder at {goal:.3} nats)",
            mean(&own[own.len() - WINDOW..])
        ),
        measured: reached as f64 / STEPS as f64,
        wanted: Wanted::AtMost,
        threshold: 0.8,
    })
}

fn losses(averages: usize, device: &Device, seed: u64) -> Result<Vec<f64>> {
    device.set_seed(seed);
    let rows = Rows::new([8, 64], seed, device)?;
    let lm = Lm::new(&LmConfig { averages, ..shape(4, 64).decoder(Placement::Pre) }, device)?;
    let (mut losses, mut training) = (Vec::new(), Training::new(STEPS));
    // The rate does not fall, so that a loss says how far the model is and not how near the end.
    let rule = Rule::AdamW(Adam { weight_decay: 0.01, beta2: 0.98, ..Adam::default() });
    let mut optimizer = Optimizer::new(rule, 2e-3, Group::of(&lm))?.with_max_norm(1.0)?;
    for step in 0..STEPS {
        let (ids, labels) = rows.batch(1, step)?;
        let loss = lm.loss(&ids, &labels)?;
        optimizer.step(&loss.backward()?)?;
        training.step(step + 1, &loss)?;
        losses.push(loss.item()?);
    }
    Ok(losses)
}
