//! GLM-130B (Zeng et al., 2022, arXiv 2210.02414): DeepNorm written so that the norm comes first, GeGLU, and words' vectors that learn a
//! tenth as fast.

use wgrad::nn::{Init, Module};
use wgrad::{Activation, Device, Tensor};

use super::depth_lab::{Rows, fresh, shape};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::block::{BlockConfig, Factor, Place};
use crate::depth::{Probe, spread};
use crate::feed_forward::{FeedForwardConfig, Inner};
use crate::initial::Scheme;
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "glm-130b",
    title: "GLM-130B: An Open Bilingual Pre-trained Model",
    paper: "2210.02414",
    shows: "its norms before the parts are DeepNorm, which keeps gradients even over depth; words' vectors get a tenth of theirs",
    check,
};

const LAYERS: usize = 24;
const SHRINK: f64 = 0.1;

/// A block: GeGLU and rotary positions, with its norms in one of the two forms.
fn config(first: bool, layers: usize) -> LmConfig {
    let norm = NormConfig::layer(1e-5);
    let shape = shape(layers, 32);
    let keep = Factor::Constant((2.0 * layers as f64).sqrt());
    let place = |name| match first {
        true => Place { from_normed: true, keep, ..Place::pre(name) },
        false => Place { keep, ..Place::post(name) },
    };
    let block = shape.block(norm);
    let feed_forward = FeedForwardConfig {
        width: 8 * shape.hidden / 3,
        activation: Activation::Gelu,
        inner: Inner::Gated { gate: "gate", up: "up", down: "down" },
        ..block.feed_forward
    };
    let block = BlockConfig {
        attention_place: place("attention_norm"),
        feed_forward,
        feed_forward_place: place("feed_forward_norm"),
        ..block
    };
    LmConfig {
        shrink: SHRINK,
        blocks: vec![block; layers],
        embedding_norm: (!first).then_some(norm),
        norm: first.then_some(norm),
        scheme: Scheme::Xavier { gain: (2.0 * layers as f64).powf(-0.5) },
        ..shape.decoder_with(Placement::DeepNorm, norm)
    }
}

/// Gradients over depth, and that both forms are one function.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let (ids, labels) = Rows::new([4, 32], seed, device)?.batch(0, 0)?;
    let lm = Lm::new(&config(true, LAYERS), device)?;
    let own = Probe::new(&lm, &ids, &labels)?;
    let embedding = |lm: &Lm, probe: &Probe| {
        let found = lm.named_parameters().into_iter().find(|(name, _)| name == "embedding.weight");
        found
            .and_then(|(_, param)| param.gradient(&probe.gradients).cloned())
            .map(|gradient| gradient.norm(2.0, &[], false)?.item())
    };
    device.set_seed(seed);
    let whole = Lm::new(&LmConfig { shrink: 1.0, ..config(true, LAYERS) }, device)?;
    let of_whole = Probe::new(&whole, &ids, &labels)?;
    if let (Some(shrunk), Some(all)) = (embedding(&lm, &own), embedding(&whole, &of_whole)) {
        let share = shrunk? / all?;
        ensure((share - SHRINK).abs() < 1e-4, || {
            format!("words' vectors get {share} of their gradient, not {SHRINK}")
        })?;
    }
    // Gains of one would hide where norms stand.
    for (_, param) in lm.named_parameters() {
        if param.shape().len() == 1 {
            param.set(&Init::Uniform { low: 0.5, high: 1.5 }.tensor(param.shape(), param.dtype(), device)?)?;
        }
    }
    let apart = difference(&lm, &ids, device)?;
    ensure(apart < 1e-4, || format!("logits of both forms differ by {apart:.1e}, 1e-4 was expected at most"))?;
    let pre = fresh(Placement::Pre, LAYERS, device, seed)?;
    Ok(Report {
        property: format!(
            "largest over smallest gradient of {LAYERS} blocks at the start (Pre-LN {:.2}; logits of both forms differ by {apart:.1e})",
            spread(&pre.blocks)
        ),
        measured: spread(&own.blocks),
        wanted: Wanted::AtMost,
        threshold: 1.5,
    })
}

/// The largest difference of logits between this model and DeepNorm with its weights: norm `n` before a part is the norm of the sum before it.
fn difference(lm: &Lm, ids: &Tensor, device: &Device) -> Result<f64> {
    let layers = lm.config().blocks.len();
    let deep = Lm::new(&config(false, layers), device)?;
    let own = lm.named_parameters();
    for (name, param) in deep.named_parameters() {
        let source = moved(&name, layers);
        let found = own.iter().find(|(name, _)| *name == source);
        let (_, found) = found.ok_or_else(|| crate::Error::argument("glm-130b", format!("no parameter {source}")))?;
        param.set(&found.tensor().detach())?;
    }
    Ok(deep.logits(ids)?.sub(&lm.logits(ids)?)?.detach().abs()?.max(&[], false)?.item()?)
}

/// The name of a parameter of the other form.
fn moved(name: &str, layers: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["embedding_norm", tensor] => format!("blocks.0.attention_norm.{tensor}"),
        ["blocks", block, "attention_norm", tensor] => format!("blocks.{block}.feed_forward_norm.{tensor}"),
        ["blocks", block, "feed_forward_norm", tensor] => match block.parse::<usize>() {
            Ok(block) if block + 1 < layers => format!("blocks.{}.attention_norm.{tensor}", block + 1),
            _ => format!("norm.{tensor}"),
        },
        _ => name.to_string(),
    }
}
