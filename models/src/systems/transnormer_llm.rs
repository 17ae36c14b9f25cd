//! TransNormerLLM (Qin et al., 2023, arXiv 2307.14995): linear attention with decays, gates, and norms without parameters.

use wgrad::nn::Build;
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Tensor};

use super::lab::{Lab, Sizes, loss, train};
use super::ragged::apart;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::feed_forward::{FeedForwardConfig, Inner};
use crate::front::synthetic::MarkovChain;
use crate::mixer::{GatedLinear, GatedLinearConfig};
use crate::norm::NormConfig;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "transnormer-llm",
    title: "Scaling TransNormer to 175 Billion Parameters",
    paper: "2307.14995",
    shows: "with linear attention, bilinear units and norms without gains, a language model comes within 5 % of the lowest possible loss, and it is the same in chunks and token by token",
    check,
};

const SYMBOLS: usize = 16;
const LENGTH: usize = 64;
const ROWS: usize = 32;
/// Positions that a layer works on at once.
const CHUNK: usize = 32;

/// Loss of next symbols on SYN-MARKOV over the chain's own.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: SYMBOLS, hidden: 64, heads: 4, layers: 2 };
    let mixer = |layer, build: &Build| GatedLinear::new(config(&sizes, layer), sizes.hidden, build);
    let bilinear = FeedForwardConfig {
        inner: Inner::Bilinear { left: "left", right: "right", down: "down" },
        ..sizes.feed_forward()
    };
    let lab = Lab::of(&sizes, NormConfig::simple_rms(1e-6), bilinear, device, |layer, build| {
        Ok(Box::new(mixer(layer, build)?))
    })?;
    let forms = (0..sizes.layers).map(|layer| forms_apart(&mixer(layer, &Build::new(device))?, &sizes, device));
    let apart = forms.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
    ensure(apart < 1e-4, || format!("in chunks and token by token a layer differs by {apart:.1e}"))?;
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
        property: format!(
            "loss of the next symbol over the lowest possible (a layer in chunks, in pieces and token by token differs by {apart:.0e} at most)"
        ),
        measured: own / lowest,
        wanted: Wanted::AtMost,
        threshold: 1.05,
    })
}

/// A layer of the model.
fn config(sizes: &Sizes, layer: usize) -> GatedLinearConfig {
    GatedLinearConfig {
        heads: sizes.heads,
        head_dim: sizes.head_dim(),
        rotations: layer == 0,
        layer: [layer, sizes.layers],
        chunk: CHUNK,
    }
}

/// The largest difference of a layer's outputs over whole rows, which it works on in chunks, from those of pieces that go on from the state
/// of the piece before, and from those of the recurrence token by token.
fn forms_apart(layer: &GatedLinear, sizes: &Sizes, device: &Device) -> Result<f64> {
    let length = 2 * CHUNK + 5;
    let x = Tensor::normal(0.0, 1.0, &[2, length, sizes.hidden], DType::F32, device)?;
    let whole = layer.advance(&x, None)?.0;
    let mut most = 0.0f64;
    for piece in [1, CHUNK / 2 + 3] {
        let (mut state, mut parts) = (None, Vec::new());
        for from in (0..length).step_by(piece) {
            let part = x.narrow(1, from, piece.min(length - from))?;
            let (out, after) = layer.advance(&part, state.as_ref())?;
            (state, parts) = (Some(after), [parts, vec![out]].concat());
        }
        most = most.max(apart(&Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)?, &whole)?);
    }
    Ok(most)
}
