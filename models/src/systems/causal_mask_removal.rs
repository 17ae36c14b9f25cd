//! Do Not (Always) Look Right (Dukić and Šnajder, 2024, arXiv 2401.14556): a decoder that labels each token does better when some of its
//! layers may look right, for which their causal masks are taken away in fine-tuning.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, answers, loss, train};
use super::sparse_lab::Saved;
use super::{Report, System, Wanted};
use crate::Result;
use crate::front::synthetic::MarkovChain;
use crate::weights::{Form, Linear};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "causal-mask-removal",
    title: "Do Not (Always) Look Right: Investigating the Capabilities of Decoder-Based Large Language Models for Sequence Labeling",
    paper: "2401.14556",
    shows: "a pretrained decoder labels tokens better once its upper layers may look right",
    check,
};

const SYMBOLS: usize = 12;
const LENGTH: usize = 32;
const ROWS: usize = 32;
const LAYERS: usize = 4;

/// A pretrained decoder and the layer that labels tokens.
struct Tagger {
    lab: Lab,
    head: Linear,
}

impl Module for Tagger {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lab", &self.lab);
        v.module("head", &self.head);
    }
}

/// Layers whose masks are removed, from the lowest on.
const REMOVED: [[bool; LAYERS]; 6] = [
    [false, false, false, false],
    [false, false, false, true],
    [false, false, true, true],
    [false, true, true, true],
    [true, true, true, true],
    [true, true, false, false],
];

/// What right labels gain when the upper half of the layers looks right, over none. The authors find most in the upper layers, and seldom
/// the best with all masks removed; whether it is so here is told.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let shares = tagged(device, seed)?;
    let [none, _, upper, _, all, lower] = shares;
    let each: Vec<String> = REMOVED
        .iter()
        .zip(shares)
        .map(|(open, share)| {
            let bits: String = open.iter().map(|&open| if open { '1' } else { '0' }).collect();
            format!("{bits} {:.1} %", 100.0 * share)
        })
        .collect();
    let best = shares.iter().copied().fold(0.0, f64::max);
    let told = |holds: bool, claim: &str| format!("{}{claim}", if holds { "" } else { "not " });
    Ok(Report {
        property: format!(
            "tokens labelled right with the masks of the upper half removed, less with none ({}; the upper half is {}, and all is {})",
            each.join(", "),
            told(upper > lower, "better than the lower"),
            told(all >= best, "the best"),
        ),
        measured: upper - none,
        wanted: Wanted::AtLeast,
        threshold: 0.1,
    })
}

/// The shares of right labels of one pretrained decoder that is tuned with masks removed. A token's label is whether the sum of its
/// neighbours' numbers is odd, so that both sides count.
fn tagged(device: &Device, seed: u64) -> Result<[f64; REMOVED.len()]> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: SYMBOLS, hidden: 64, heads: 4, layers: LAYERS };
    let lab = Lab::new(&sizes, device, |_, build| sizes.attention_mixer(None, build))?;
    let chain = MarkovChain::new(SYMBOLS, seed)?;
    let rows = |stream: u64, number: u64| {
        let mut rng = Philox::new(seed, stream << 32 | number);
        (0..ROWS).map(|_| chain.sample(LENGTH + 1, &mut rng)).collect::<Vec<_>>()
    };
    let ids = |rows: &[Vec<u32>]| {
        let ids = rows.iter().flat_map(|row| row[..LENGTH].iter().copied()).collect();
        Ok::<_, crate::Error>(Tensor::from_vec(ids, &[ROWS, LENGTH], device)?)
    };
    train(&lab, 150, 3e-3, |step| {
        let rows = rows(1, step);
        let labels: Vec<i32> = rows.iter().flat_map(|row| row[1..].iter().map(|&id| id as i32)).collect();
        loss(&lab.forward(&ids(&rows)?, &Mask::causal(0))?, &labels)
    })?;
    let head = Linear::new(sizes.hidden, 2, true, Form::Rows, &Build::new(device))?;
    let tagger = Tagger { lab, head };
    let pretrained = Saved::of(&tagger);
    let causal = tagger.lab.pass(&Mask::causal(0), [ROWS, LENGTH], None, device)?;
    let open = tagger.lab.pass(&Mask::all(), [ROWS, LENGTH], None, device)?;
    let run = |removed: &[bool; LAYERS], stream: u64, number: u64| {
        let rows = rows(stream, number);
        let x = tagger.lab.embed(&ids(&rows)?)?;
        let states = tagger.lab.states_by(x, |layer| if removed[layer] { &open } else { &causal })?;
        Ok::<_, crate::Error>((tagger.head.forward(&states)?, labels(&rows)))
    };
    let mut shares = [0.0; REMOVED.len()];
    for (share, removed) in shares.iter_mut().zip(&REMOVED) {
        pretrained.restore()?;
        train(&tagger, 250, 2e-3, |step| {
            let (logits, labels) = run(removed, 3, step)?;
            loss(&logits, &labels)
        })?;
        for number in 0..8 {
            let (logits, labels) = no_grad(|| run(removed, 4, number))?;
            *share += answers(&logits, &labels)? / 8.0;
        }
    }
    Ok(shares)
}

/// Whether the sum of the numbers before and behind each token is odd.
fn labels(rows: &[Vec<u32>]) -> Vec<i32> {
    let of_row = |row: &Vec<u32>| {
        let label = |at: usize| {
            let before = if at > 0 { row[at - 1] } else { 0 };
            let behind = if at + 1 < LENGTH { row[at + 1] } else { 0 };
            ((before + behind) % 2) as i32
        };
        (0..LENGTH).map(label).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}
