//! GraphCodeBERT (Guo et al., 2021, arXiv 2009.08366): beside the tokens of a program stand its variables, which see along the edges of data
//! flow, and the tokens that they were read from.

use wgrad::rng::Philox;
use wgrad::{Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, answers, loss, train};
use super::{Report, System, Wanted};
use crate::Result;
use crate::corrupt::mlm::IGNORE;
use crate::front::synthetic::below;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "graphcodebert",
    title: "GraphCodeBERT: Pre-training Code Representations with Data Flow",
    paper: "2009.08366",
    shows: "with attention along data flow it tells where a value comes from, which the tokens alone do not yield in the same time",
    check,
};

/// Names that variables may have.
const NAMES: usize = 10;
/// Assignments of a program.
const LINES: usize = 8;
/// A line is its target, its source, and an end.
const CODE: usize = 3 * LINES;
const LENGTH: usize = CODE + LINES;
const CONSTANTS: usize = 4;
const ROWS: usize = 16;
const VOCAB: usize = NAMES + CONSTANTS + 2;

/// Programs of copies between variables; the first ones read constants. Each line's target is a variable of the graph, with an edge from
/// where its value was assigned. What is asked at every variable is the constant that it holds.
struct Programs {
    ids: Vec<u32>,
    labels: Vec<i32>,
    /// `[rows, length, length]`.
    seen: Vec<bool>,
}

fn programs(rng: &mut Philox) -> Programs {
    let mut below = |n: usize| below(n, rng);
    let mut all = Programs { ids: vec![], labels: vec![], seen: vec![] };
    for _ in 0..ROWS {
        // The line that last assigned each name.
        let mut assigned: Vec<Option<usize>> = vec![None; NAMES];
        let (mut held, mut from) = (vec![0; LINES], vec![None; LINES]);
        let (mut ids, mut labels) = (Vec::new(), vec![IGNORE; CODE]);
        for line in 0..LINES {
            let target = below(NAMES);
            let known: Vec<usize> = (0..NAMES).filter(|&name| assigned[name].is_some()).collect();
            let source = if known.is_empty() || line < 2 {
                held[line] = below(CONSTANTS);
                NAMES + held[line]
            } else {
                let name = known[below(known.len())];
                from[line] = assigned[name];
                held[line] = assigned[name].map_or(0, |line| held[line]);
                name
            };
            assigned[target] = Some(line);
            ids.extend([target, source, NAMES + CONSTANTS].map(|id| id as u32));
        }
        ids.extend([(NAMES + CONSTANTS + 1) as u32; LINES]);
        labels.extend(held.iter().map(|&constant| (NAMES + constant) as i32));
        let mut seen = vec![false; LENGTH * LENGTH];
        for i in 0..LENGTH {
            for j in 0..LENGTH {
                seen[i * LENGTH + j] = match (i.checked_sub(CODE), j.checked_sub(CODE)) {
                    (None, None) => true,
                    // A variable and the tokens of its line see each other.
                    (Some(line), None) => j / 3 == line,
                    (None, Some(line)) => i / 3 == line,
                    (Some(line), Some(other)) => line == other || from[line] == Some(other),
                };
            }
        }
        all.ids.extend(ids);
        all.labels.extend(labels);
        all.seen.extend(seen);
    }
    all
}

/// The share of variables whose constant is told right, with the graph or with all seeing all.
fn told(graph: bool, device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: VOCAB, hidden: 64, heads: 4, layers: 4 };
    let lab = Lab::new(&sizes, device, |_, build| sizes.attention_mixer(None, build))?;
    // A variable stands at its line's first token.
    let places = (0..CODE).chain((0..LINES).map(|line| 3 * line)).map(|at| at as i32).collect::<Vec<_>>();
    let places = Tensor::from_vec(places, &[1, LENGTH], device)?.expand(&[ROWS, LENGTH])?;
    let run = |stream: u64, number: u64| {
        let Programs { ids, labels, seen } = programs(&mut Philox::new(seed, stream << 32 | number));
        let ids = Tensor::from_vec(ids, &[ROWS, LENGTH], device)?;
        let mask = match graph {
            true => Mask::dense(&Tensor::from_vec(seen, &[ROWS, 1, LENGTH, LENGTH], device)?),
            false => Mask::all(),
        };
        let pass = lab.pass(&mask, [ROWS, LENGTH], Some(&places), device)?;
        let logits = lab.logits(&lab.states(lab.embed(&ids)?, &pass)?)?;
        Ok::<_, crate::Error>((logits, labels))
    };
    train(&lab, 400, 3e-3, |step| {
        let (logits, labels) = run(1, step)?;
        loss(&logits, &labels)
    })?;
    let mut right = 0.0;
    for number in 0..8 {
        let (logits, labels) = no_grad(|| run(2, number))?;
        right += answers(&logits, &labels)? / 8.0;
    }
    Ok(right)
}

/// What the graph adds.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (with, without) = (told(true, device, seed)?, told(false, device, seed)?);
    Ok(Report {
        property: format!(
            "variables whose value is traced, less those without the graph (with {:.1} %, without {:.1} %)",
            100.0 * with,
            100.0 * without
        ),
        measured: with - without,
        wanted: Wanted::AtLeast,
        threshold: 0.1,
    })
}
