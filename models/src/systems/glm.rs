//! GLM (Du et al., 2022, arXiv 2103.10360): autoregressive blank infilling. Spans are cut out of a text; what is left is seen by all, and the
//! spans follow it in shuffled order, each written token by token. Two numbers say where a token stands: the place of its blank, and its
//! place within the span.

use wgrad::nn::{Build, Embedding, Init, Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, loss, train};
use super::{Report, System, Wanted};
use crate::Result;
use crate::corrupt::blanks::{Blanks, Filled, SpanLength};
use crate::corrupt::mlm::IGNORE;
use crate::front::synthetic::MarkovChain;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "glm",
    title: "GLM: General Language Model Pretraining with Autoregressive Blank Infilling",
    paper: "2103.10360",
    shows: "it fills blanks from both of their sides, better than any model that reads from the left alone could",
    check,
};

const SYMBOLS: usize = 12;
const LENGTH: usize = 24;
const ROWS: usize = 32;

/// A model with tables for both positions.
struct Glm {
    lab: Lab,
    place: Embedding,
    within: Embedding,
}

impl Module for Glm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lab", &self.lab);
        v.module("place", &self.place);
        v.module("within", &self.within);
    }
}

/// Loss of blanks over the lowest that is possible from their left sides: exact sums over the chain.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: SYMBOLS + 3, hidden: 64, heads: 4, layers: 3 };
    let [mask, start, end] = [0, 1, 2].map(|n| (SYMBOLS + n) as u32);
    // All spans are of one length, so that the lowest possible loss is known.
    let blanks = Blanks { mask, start, end, share: 0.2, length: SpanLength::Fixed(3) };
    let lab = Lab::new(&sizes, device, |_, build| sizes.plain_mixer(build))?;
    let build = Build::new(device).with_init(Init::Sinusoid { amplitude: 0.1, base: 100.0 });
    let table = || Embedding::new(2 * LENGTH, sizes.hidden, None, &build);
    let glm = Glm { lab, place: table()?, within: table()? };
    let chain = MarkovChain::new(SYMBOLS, seed)?;
    let draw = |stream: u64, number: u64| {
        let mut rng = Philox::new(seed, stream << 32 | number);
        let rows: Vec<Vec<u32>> = (0..ROWS).map(|_| chain.sample(LENGTH, &mut rng)).collect();
        let filled = rows.iter().map(|row| blanks.cut(row, &mut rng)).collect::<Result<Vec<Filled>>>()?;
        Ok::<_, crate::Error>((rows, filled))
    };
    let score = |filled: &[Filled]| {
        let length = filled.iter().map(|f| f.ids.len()).max().unwrap_or(0);
        let sizes = [ROWS, length];
        let lay = |of: &dyn Fn(&Filled) -> &[u32]| {
            let padded = filled.iter().flat_map(|f| (0..length).map(move |at| of(f).get(at).copied().unwrap_or(0)));
            Tensor::from_vec(padded.collect::<Vec<u32>>(), &sizes, device)
        };
        let labels: Vec<i32> =
            filled.iter().flat_map(|f| (0..length).map(|at| f.labels.get(at).copied().unwrap_or(IGNORE))).collect();
        let shown: Vec<usize> = filled.iter().map(|f| f.shown).collect();
        let pass = glm.lab.pass(&Mask::prefix(&shown), sizes, None, device)?;
        let x = glm.lab.embed(&lay(&|f| &f.ids)?)?.add(&glm.place.forward(&lay(&|f| &f.places)?)?)?;
        let x = x.add(&glm.within.forward(&lay(&|f| &f.within)?)?)?;
        loss(&glm.lab.logits(&glm.lab.states(x, &pass)?)?, &labels)
    };
    train(&glm, 2500, 4e-3, |step| score(&draw(1, step)?.1))?;
    let (mut own, mut lowest, mut one_sided) = (0.0, 0.0, 0.0);
    for number in 0..8 {
        let (rows, filled) = draw(2, number)?;
        // The ends of spans, known by their places, cost next to nothing.
        let asked: usize = filled.iter().map(|f| f.labels.iter().filter(|&&label| label >= 0).count()).sum();
        own += no_grad(|| score(&filled))?.item()? * asked as f64;
        for (row, filled) in rows.iter().zip(&filled) {
            let mut shown: Vec<Option<u32>> = row.iter().copied().map(Some).collect();
            let hidden: Vec<usize> = filled.spans.iter().flat_map(|span| span.clone()).collect();
            hidden.iter().for_each(|&at| shown[at] = None);
            // As the spans were written, each token is known from its turn on.
            for at in hidden {
                let cost = |shown: &[Option<u32>]| -chain.posterior(shown)[at][row[at] as usize].ln();
                lowest += cost(&shown);
                let mut left = shown.clone();
                left[at..].fill(None);
                one_sided += cost(&left);
                shown[at] = Some(row[at]);
            }
        }
    }
    Ok(Report {
        property: format!(
            "loss of blanks over the lowest of a model that reads from the left alone (over the lowest of all: {:.3})",
            own / lowest
        ),
        measured: own / one_sided,
        wanted: Wanted::AtMost,
        threshold: 0.98,
    })
}
