//! Unified Normalization (Yang et al., 2022, arXiv 2208.01313): batch norm without means and by the mean of a few batches, stable enough for
//! transformers; in evaluation it is a part of the matrices that follow.

use std::collections::HashMap;
use std::time::Instant;

use wgrad::nn::{Build, Module, Param};
use wgrad::{Device, Tensor, no_grad};

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::attention::{AttentionConfig, Bias};
use crate::block::{BlockConfig, Place};
use crate::feed_forward::FeedForwardConfig;
use crate::initial::Role;
use crate::lm::{Lm, LmConfig};
use crate::norm::{NormConfig, NormKind, UnifiedNorm, UnifiedNormConfig};
use crate::placement::Placement;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "unified-norm",
    title: "Unified Normalization for Accelerating and Stabilizing Transformers",
    paper: "2208.01313",
    shows: "a trained language model without any norm left is the same, after those norms moved into the matrices behind them",
    check,
};

const LAYERS: usize = 4;
const ROWS: [usize; 2] = [16, 64];
const STEPS: u64 = 300;
const NORM: UnifiedNormConfig =
    UnifiedNormConfig { eps: 1e-5, keep: 0.9, window: 4, warmup: STEPS as usize / 10, filter: false };

/// How far logits are apart after the norms moved.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let rows = Rows::new(ROWS, seed, device)?;
    let shape = shape(LAYERS, ROWS[1]);
    let learned = |norm| {
        device.set_seed(seed);
        let lm = Lm::new(&shape.decoder_with(Placement::Pre, norm), device)?;
        rows.train(&lm, &usual(STEPS, 3e-3))?;
        let loss = rows.measure(&lm)?;
        Ok::<_, Error>((lm, loss))
    };
    let (lm, loss) = learned(NormConfig { kind: NormKind::Unified(NORM), eps: NORM.eps })?;
    let (_, layer) = learned(NormConfig::layer(1e-5))?;
    ensure(loss < 1.02 * layer, || format!("loss {loss:.3}, and {layer:.3} with layer norms"))?;
    let folded = folded(&lm, device)?;
    lm.train(false);
    let (ids, _) = rows.batch(3, 0)?;
    let run = |lm: &Lm| no_grad(|| lm.logits(&ids));
    let (before, after) = (run(&lm)?, run(&folded)?);
    let largest = |x: &Tensor| x.abs()?.max(&[], false)?.item();
    let seconds = |lm: &Lm| -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            largest(&run(lm)?)?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok(least)
    };
    let time = seconds(&folded)? / seconds(&lm)?;
    Ok(Report {
        property: format!(
            "largest difference of logits over the largest (a pass takes {time:.2} of the time; loss {loss:.3}, layer norms {layer:.3})"
        ),
        measured: largest(&after.sub(&before)?)? / largest(&before)?,
        wanted: Wanted::AtMost,
        threshold: 1e-5,
    })
}

/// The same model without norms: each is in the matrices that read what it gave, and in their biases.
fn folded(lm: &Lm, device: &Device) -> Result<Lm> {
    let config = lm.config();
    let block = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig { bias: Bias::heads(true), ..block.attention },
        attention_place: Place::NONE,
        feed_forward: FeedForwardConfig { bias: [true, false], ..block.feed_forward },
        feed_forward_place: Place::NONE,
        ..*block
    };
    let blocks = config.blocks.iter().map(block).collect();
    let plain = Lm::new(&LmConfig { blocks, norm: None, head_bias: true, ..config.clone() }, device)?;
    let known: HashMap<String, Param> = lm.named_parameters().into_iter().collect();
    let value = |name: &str| {
        let param = known.get(name).ok_or_else(|| Error::argument("unified-norm", format!("no parameter {name}")))?;
        Ok::<_, Error>(param.tensor().detach())
    };
    let params = plain.named_parameters();
    for (name, param) in &params {
        let norm = match Role::of(name) {
            None => continue,
            Some((Role::Match | Role::Value, block)) => format!("blocks.{block}.attention_norm"),
            Some((Role::Up, block)) => format!("blocks.{block}.feed_forward_norm"),
            Some((Role::Head, _)) => "norm".to_string(),
            Some(_) => {
                param.set(&value(name)?)?;
                continue;
            }
        };
        let unified = UnifiedNorm::new(NORM, config.hidden, &Build::new(device))?;
        for (part, state) in unified.named_parameters() {
            state.set(&value(&format!("{norm}.{part}"))?)?;
        }
        let (weight, bias) = no_grad(|| unified.fold(&value(name)?, None))?;
        param.set(&weight)?;
        let of_bias = name.replace(".weight", ".bias");
        if let Some((_, param)) = params.iter().find(|(name, _)| *name == of_bias) {
            param.set(&bias)?;
        }
    }
    Ok(plain)
}
