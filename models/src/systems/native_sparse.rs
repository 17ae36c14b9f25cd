//! Native Sparse Attention (Yuan et al., 2025, arXiv 2502.11089): means of blocks, chosen blocks, and the nearest tokens.

use wgrad::Device;
use wgrad::nn::Build;
use wgrad::rng::Philox;

use super::lab::{Course, Lab, Sizes};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::front::recall::Recall;
use crate::mixer::{Mixer, NativeSparse, NativeSparseConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "native-sparse-attention",
    title: "Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention",
    paper: "2502.11089",
    shows: "it recalls what lies in blocks that a query has to choose by their means, as full attention does, where a window of as many keys forgets",
    check,
};

const TASK: Recall = Recall { keys: 8, pairs: 4, questions: 24, length: 64, gap: 0 };
const BLOCK: usize = 4;
const CHOSEN: usize = 4;
const WINDOW: usize = 4;

/// The share of right answers about pairs that begin a row, in blocks that a query has to choose, less that of full attention.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let sizes = Sizes { vocab: TASK.vocab(), hidden: 64, heads: 4, layers: 2 };
    let config = NativeSparseConfig {
        heads: 4,
        key_heads: 2,
        head_dim: sizes.head_dim(),
        block: BLOCK,
        chosen: CHOSEN,
        window: WINDOW,
        theta: 10_000.0,
    };
    let course = Course { steps: 300, rows: 32, length: TASK.length, peak: 4e-3, seed };
    let task = |rows: usize, rng: &mut Philox| TASK.sample(rows, rng);
    let share = |make: &dyn Fn(&Build) -> Result<Box<dyn Mixer>>| {
        device.set_seed(seed);
        let lab = Lab::new(&sizes, device, |_, build| make(build))?.smeared()?;
        course.train(&lab, &task, device)?;
        course.measure(&lab, &task, device)
    };
    let (chosen, means) = (CHOSEN * BLOCK, TASK.length / BLOCK);
    let own = share(&|build| Ok(Box::new(NativeSparse::new(config, sizes.hidden, build)?)))?;
    let full = share(&|build| sizes.attention_mixer(None, build))?;
    let window = share(&|build| sizes.attention_mixer(Some(chosen + WINDOW), build))?;
    ensure(own - window > 0.2, || format!("it recalls {own:.3} of the pairs, a window of as many keys {window:.3}"))?;
    Ok(Report {
        property: format!(
            "pairs recalled from {chosen} chosen of {} keys, the {WINDOW} nearest and {means} means of blocks, less those of full attention ({own:.3} and {full:.3}; a window of {} keys {window:.3})",
            TASK.length,
            chosen + WINDOW
        ),
        measured: own - full,
        wanted: Wanted::AtLeast,
        threshold: -0.05,
    })
}
