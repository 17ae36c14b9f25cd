//! Trainable Dynamic Mask Sparse Attention (Shi et al., 2025, arXiv 2508.02124): each key has a state, computed from its values; it
//! is added to the key's scores, and a query sees the keys of the largest states alone.

use wgrad::Device;
use wgrad::nn::Build;

use super::lab::{Course, Lab, Sizes, Task};
use super::{Report, System, Wanted};
use crate::Result;
use crate::attention::{Attention, AttentionConfig, DynamicConfig, Scores};
use crate::front::recall::{Needle, Recall};
use crate::mixer::{Mixer, NativeSparse, NativeSparseConfig};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "dynamic-mask-attention",
    title: "Trainable Dynamic Mask Sparse Attention",
    paper: "2508.02124",
    shows: "with a quarter of the keys it recalls pairs and finds needles as full attention does, where a window of that size forgets",
    check,
};

const LENGTH: usize = 64;
/// Keys that a query sees.
const SEEN: usize = 16;
const RECALL: Recall = Recall { keys: 8, pairs: 4, questions: 24, length: LENGTH, gap: 0 };
const NEEDLE: Needle = Needle { keys: 8, needles: 4, length: LENGTH };

/// By how much dynamic masks recall more than a window of as many keys: pairs from the beginning of a row, and needles in a haystack.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let recall = shares(RECALL.vocab(), &|rows, rng| RECALL.sample(rows, rng), device, seed)?;
    let needle = shares(NEEDLE.vocab(), &|rows, rng| NEEDLE.sample(rows, None, rng), device, seed)?;
    let text = |[full, window, native, own]: [f64; 4]| {
        let percent = [own, full, native, window].map(|share| 100.0 * share);
        let [own, full, native, window] = percent;
        format!("dynamic {own:.0} %, full {full:.0} %, native sparse {native:.0} %, window {window:.0} %")
    };
    Ok(Report {
        property: format!(
            "share recalled with {SEEN} of up to {LENGTH} keys, less a window's, at least of both: pairs ({}), needles ({})",
            text(recall),
            text(needle),
        ),
        measured: (recall[3] - recall[1]).min(needle[3] - needle[1]),
        wanted: Wanted::AtLeast,
        threshold: 0.2,
    })
}

/// The shares of right answers under full attention, a window, native sparse attention, and dynamic masks.
fn shares(vocab: usize, task: Task, device: &Device, seed: u64) -> Result<[f64; 4]> {
    let sizes = Sizes { vocab, hidden: 64, heads: 2, layers: 2 };
    let course = Course { steps: 250, rows: 32, length: LENGTH, peak: 4e-3, seed };
    let share = |make: &dyn Fn(&Build) -> Result<Box<dyn Mixer>>| {
        device.set_seed(seed);
        let lab = Lab::new(&sizes, device, |_, build| make(build))?.smeared()?;
        course.train(&lab, task, device)?;
        course.measure(&lab, task, device)
    };
    let dynamic = DynamicConfig { rates: "rates", steps: "steps", bias: false, keep: SEEN };
    let dynamic = AttentionConfig { scores: Scores::Dynamic(dynamic), ..sizes.attention() };
    let native = NativeSparseConfig {
        heads: sizes.heads,
        key_heads: sizes.heads,
        head_dim: sizes.head_dim(),
        block: 4,
        chosen: SEEN / 8,
        window: SEEN / 2,
        theta: 10_000.0,
    };
    Ok([
        share(&|build| sizes.attention_mixer(None, build))?,
        share(&|build| sizes.attention_mixer(Some(SEEN), build))?,
        share(&|build| Ok(Box::new(NativeSparse::new(native, sizes.hidden, build)?)))?,
        share(&|build| Ok(Box::new(Attention::new(dynamic, sizes.hidden, build)?)))?,
    ])
}
