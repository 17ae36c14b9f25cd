//! Trainable Dynamic Mask Sparse Attention (Shi et al., 2025, arXiv 2508.02124): each key has a state, computed from its values; it
//! is added to the key's scores, and a query sees the keys of the largest states alone.

use wgrad::Device;
use wgrad::nn::Build;

use super::lab::{Course, Lab, Sizes, Task};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::attention::{Attention, AttentionConfig, DynamicConfig, Scores};
use crate::front::recall::{Needle, Recall};
use crate::mixer::{Latent, LatentConfig, Mixer, NativeSparse, NativeSparseConfig};

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

/// Trainings of each kind, of which means are taken.
const SEEDS: u64 = 3;

/// What dynamic masks recall less what full attention does: pairs from the beginning of a row, and needles in a haystack.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let mean = |vocab: usize, task: Task| {
        let mut sum = [0.0; 5];
        for n in 0..SEEDS {
            let one = shares(vocab, task, device, SEEDS * seed + n)?;
            sum.iter_mut().zip(one).for_each(|(sum, share)| *sum += share / SEEDS as f64);
        }
        Ok::<_, crate::Error>(sum)
    };
    let recall = mean(RECALL.vocab(), &|rows, rng| RECALL.sample(rows, rng))?;
    let needle = mean(NEEDLE.vocab(), &|rows, rng| NEEDLE.sample(rows, None, rng))?;
    let text = |shares: [f64; 5]| {
        let [own, full, window, native, latent] = shares.map(|share| 100.0 * share);
        format!(
            "dynamic {own:.1} %, full {full:.1} %, native sparse {native:.1} %, latent {latent:.1} %, window {window:.1} %"
        )
    };
    let least = |other: usize| (recall[0] - recall[other]).min(needle[0] - needle[other]);
    let over_window = least(2);
    ensure(over_window > 0.2, || {
        format!(
            "dynamic masks recall {over_window:.3} more than a window of as many keys: {}; {}",
            text(recall),
            text(needle)
        )
    })?;
    Ok(Report {
        property: format!(
            "share recalled with {SEEN} of up to {LENGTH} keys, less that of full attention, the lesser of both tasks: pairs ({}), needles ({})",
            text(recall),
            text(needle),
        ),
        measured: least(1),
        wanted: Wanted::AtLeast,
        threshold: -0.05,
    })
}

/// The shares of right answers under dynamic masks, full attention, a window, native sparse and latent attention.
fn shares(vocab: usize, task: Task, device: &Device, seed: u64) -> Result<[f64; 5]> {
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
    let latent = LatentConfig {
        heads: sizes.heads,
        query_rank: 48,
        rank: 32,
        plain_dim: 16,
        rotary_dim: 16,
        value_dim: sizes.head_dim(),
        theta: 10_000.0,
        eps: 1e-6,
    };
    Ok([
        share(&|build| Ok(Box::new(Attention::new(dynamic, sizes.hidden, build)?)))?,
        share(&|build| sizes.attention_mixer(None, build))?,
        share(&|build| sizes.attention_mixer(Some(SEEN), build))?,
        share(&|build| Ok(Box::new(NativeSparse::new(native, sizes.hidden, build)?)))?,
        share(&|build| Ok(Box::new(Latent::new(latent, sizes.hidden, build)?)))?,
    ])
}
