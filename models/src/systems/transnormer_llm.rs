//! TransNormerLLM (Qin et al., 2023, arXiv 2307.14995): linear attention with decays, gates, and norms without parameters.

use wgrad::rng::Philox;
use wgrad::{Device, Mask, Tensor};

use super::lab::{Lab, Sizes, loss, train};
use super::{Report, System, Wanted};
use crate::Result;
use crate::front::synthetic::MarkovChain;
use crate::mixer::{GatedLinear, GatedLinearConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "transnormer-llm",
    title: "Scaling TransNormer to 175 Billion Parameters",
    paper: "2307.14995",
    shows: "with linear attention, a language model comes within 5 % of the lowest possible loss",
    check,
};

const SYMBOLS: usize = 16;
const LENGTH: usize = 64;
const ROWS: usize = 32;

/// Loss of next symbols on SYN-MARKOV over the chain's own.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: SYMBOLS, hidden: 64, heads: 4, layers: 2 };
    let lab = Lab::new(&sizes, device, |layer, build| {
        let config = GatedLinearConfig {
            heads: sizes.heads,
            head_dim: sizes.head_dim(),
            rotations: layer == 0,
            layer: [layer, sizes.layers],
            chunk: 32,
        };
        Ok(Box::new(GatedLinear::new(config, sizes.hidden, build)?))
    })?;
    let chain = MarkovChain::new(SYMBOLS, seed)?;
    let rows = |stream: u64, number: u64| {
        let mut rng = Philox::new(seed, stream << 32 | number);
        (0..ROWS).map(|_| chain.sample(LENGTH + 1, &mut rng)).collect::<Vec<_>>()
    };
    let next = |rows: &[Vec<u32>]| {
        let ids: Vec<u32> = rows.iter().flat_map(|row| row[..LENGTH].iter().copied()).collect();
        let labels: Vec<i32> = rows.iter().flat_map(|row| row[1..].iter().map(|&id| id as i32)).collect();
        let ids = Tensor::from_vec(ids, &[ROWS, LENGTH], device)?;
        loss(&lab.forward(&ids, &Mask::causal(0))?, &labels)
    };
    train(&lab, 300, 4e-3, |step| next(&rows(1, step)))?;
    let (mut own, mut lowest) = (0.0, 0.0);
    for number in 0..8 {
        let rows = rows(2, number);
        own += wgrad::no_grad(|| next(&rows))?.item()?;
        lowest += rows.iter().map(|row| chain.surprise(row)).sum::<f64>() / (ROWS * LENGTH) as f64;
    }
    Ok(Report {
        property: "loss of the next symbol over the lowest possible".into(),
        measured: own / lowest,
        wanted: Wanted::AtMost,
        threshold: 1.05,
    })
}
