//! Native Sparse Attention (Yuan et al., 2025, arXiv 2502.11089): means of blocks, chosen blocks, and the nearest tokens.

use wgrad::Device;
use wgrad::rng::Philox;

use super::lab::{Course, Lab, Sizes};
use super::{Report, System, Wanted};
use crate::Result;
use crate::front::recall::Recall;
use crate::mixer::{NativeSparse, NativeSparseConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "native-sparse-attention",
    title: "Native Sparse Attention: Hardware-Aligned and Natively Trainable Sparse Attention",
    paper: "2502.11089",
    shows: "it recalls what lies in blocks that a query has to choose by their means",
    check,
};

const TASK: Recall = Recall { keys: 8, pairs: 4, questions: 24, length: 64, gap: 0 };
const BLOCK: usize = 4;
const CHOSEN: usize = 4;
const WINDOW: usize = 4;

/// The share of right answers about pairs that begin a row, in blocks that a query has to choose.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
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
    let lab = Lab::new(&sizes, device, |_, build| Ok(Box::new(NativeSparse::new(config, sizes.hidden, build)?)))?
        .smeared()?;
    let course = Course { steps: 300, rows: 32, length: TASK.length, peak: 4e-3, seed };
    let task = |rows: usize, rng: &mut Philox| TASK.sample(rows, rng);
    course.train(&lab, &task, device)?;
    let (chosen, means) = (CHOSEN * BLOCK, TASK.length / BLOCK);
    Ok(Report {
        property: format!("pairs recalled from {chosen} chosen of {} keys and {means} means of blocks", TASK.length),
        measured: course.measure(&lab, &task, device)?,
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}
