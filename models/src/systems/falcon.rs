//! Falcon (Almazrouei et al., 2023, arXiv 2311.16867): attention and feed-forward part side by side behind one norm, and one head of keys and
//! values for all heads of queries.

use wgrad::nn::Module;
use wgrad::{Device, Tensor};

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::attention::AttentionConfig;
use crate::block::BlockConfig;
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "falcon",
    title: "The Falcon Series of Open Language Models",
    paper: "2311.16867",
    shows: "parallel parts and one head of keys and values learn as much as sequential parts with all heads",
    check,
};

const LAYERS: usize = 4;
const LENGTH: usize = 64;
const STEPS: u64 = 300;

fn config(placement: Placement, key_heads: usize) -> LmConfig {
    let config = shape(LAYERS, LENGTH).decoder_with(placement, NormConfig::layer(1e-5));
    let block =
        |block: &BlockConfig| BlockConfig { attention: AttentionConfig { key_heads, ..block.attention }, ..*block };
    LmConfig { blocks: config.blocks.iter().map(block).collect(), embedding_std: 0.1, ..config }
}

/// Loss over that of sequential parts with all heads of keys and values.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let rows = Rows::new([16, LENGTH], seed, device)?;
    let heads = shape(LAYERS, LENGTH).heads;
    device.set_seed(seed);
    let falcon = Lm::new(&config(Placement::Parallel, 1), device)?;
    let apart = difference(&falcon, &rows.batch(0, 0)?.0, heads, device)?;
    ensure(apart < 1e-4, || {
        format!("with its keys and values repeated for {heads} heads logits differ by {apart:.1e}")
    })?;
    let learned = |lm: &Lm| {
        rows.train(lm, &usual(STEPS, 3e-3))?;
        rows.measure(lm)
    };
    let own = learned(&falcon)?;
    device.set_seed(seed);
    let plain = learned(&Lm::new(&config(Placement::Pre, heads), device)?)?;
    Ok(Report {
        property: format!(
            "loss over that of sequential parts with {heads} heads of keys and values ({own:.3} and {plain:.3} nats; the cache holds 1/{heads})"
        ),
        measured: own / plain,
        wanted: Wanted::AtMost,
        threshold: 1.02,
    })
}

/// The largest difference of logits from the same model with the one head of keys and values repeated for all heads of queries.
fn difference(lm: &Lm, ids: &Tensor, heads: usize, device: &Device) -> Result<f64> {
    let all = Lm::new(&config(Placement::Parallel, heads), device)?;
    for ((name, one), (_, many)) in lm.named_parameters().into_iter().zip(all.named_parameters()) {
        let value = one.tensor().detach();
        let repeated = name.ends_with("key.weight") || name.ends_with("value.weight");
        many.set(&if repeated { value.repeat(&[heads, 1])? } else { value })?;
    }
    Ok(all.logits(ids)?.sub(&lm.logits(ids)?)?.detach().abs()?.max(&[], false)?.item()?)
}
