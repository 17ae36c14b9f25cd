//! Masked structural growth (Yao et al., 2x Faster Language Model Pre-training via Masked Structural Growth, 2023, arXiv 2305.02869): a model is
//! grown in width, heads, feed-forward width and depth while it is trained. What is new is under a mask that rises from zero.

use wgrad::nn::{Module, Param};
use wgrad::{DType, Device, Tensor, no_grad};

use super::depth_lab::{Rows, SYMBOLS};
use super::lab::{train_then, usual};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::initial::{Role, Scheme};
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::{Placement, Shape};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "masked-structural-growth",
    title: "2x Faster Language Model Pre-training via Masked Structural Growth",
    paper: "2305.02869",
    shows: "a model that has grown in width, heads, feed-forward width and depth at once is the same function, and learns on from there",
    check,
};

/// Tokens of a row.
const LENGTH: usize = 32;
/// Steps in which masks rise.
const RISE: f64 = 100.0;
/// Added to mean squares in the norms of the small model.
const EPS: f64 = 1e-6;

/// A model of `heads` heads of 16, with feed-forward parts of `fed`. In the large one every second block is new.
fn config(heads: usize, fed: usize, layers: usize, eps: f64) -> LmConfig {
    let shape = Shape { vocab: SYMBOLS, hidden: 16 * heads, heads, layers, length: LENGTH };
    let mut config = shape.decoder_with(Placement::Pre, NormConfig::rms(eps));
    config.blocks.iter_mut().for_each(|block| block.feed_forward.width = fed);
    config
}

/// A grown model: what each parameter consists of.
struct Grown {
    lm: Lm,
    masks: Vec<(Param, Mask)>,
}

/// What is new in a parameter.
enum Mask {
    /// Ones where something is old, of a shape that broadcasts to the parameter's.
    Old(Tensor),
    /// A gain of a norm, of which so many elements are old: means are over these and the others by their masks.
    Gain(usize),
}

impl Grown {
    /// A model of a configuration around another: its parameters in the upper left corners, all others random. Block `l` of the small
    /// model becomes block `l * every`.
    fn new(small: &Lm, config: &LmConfig, dtype: DType, device: &Device) -> Result<Self> {
        let every = config.blocks.len() / small.config().blocks.len();
        let lm = Lm::of_dtype(config, dtype, device)?;
        let old = small.named_parameters();
        let mut masks = Vec::new();
        for (name, param) in lm.named_parameters() {
            let from = named_before(&name, every);
            let from = from.and_then(|from| old.iter().find(|(name, _)| *name == from)).map(|(_, param)| param);
            let shape = param.shape();
            // A gain of a new block is masked as all gains are: as wide as the stream was.
            let corner = from.map_or_else(|| vec![0; shape.len()], |from| from.shape().to_vec());
            if let Some(from) = from {
                param.set(&cornered(&from.leaf().detach(), &param.leaf().detach())?)?;
            }
            let mask = match Role::of(&name) {
                None => Mask::Gain(small.config().hidden),
                Some((Role::Embedding, _)) => Mask::Old(old_places(shape[1], corner[1], dtype, device)?),
                // What reads the stream through a norm sees zeros in its new elements.
                Some((Role::Head, _)) => continue,
                Some(_) => Mask::Old(old_places(shape[0], corner[0], dtype, device)?.unsqueeze(1)?),
            };
            masks.push((param, mask));
        }
        Ok(Grown { lm, masks })
    }

    /// Shows the model with masks of new elements at `c`, from 0 to 1.
    fn show(&self, c: f64) -> Result<()> {
        for (param, mask) in &self.masks {
            let shown = match mask {
                Mask::Old(old) => param.leaf().mul(&old.affine(1.0 - c, c)?)?,
                Mask::Gain(old) => {
                    let (value, width) = (param.leaf(), param.elements());
                    let count = *old as f64 + c * (width - old) as f64;
                    let places = old_places(width, *old, value.dtype(), value.device())?.affine(1.0 - c, c)?;
                    value.mul(&places.mul_scalar((count / width as f64).sqrt())?)?
                }
            };
            param.show(Some(shown))?;
        }
        Ok(())
    }
}

/// The name of a parameter before the growth, if it was there.
fn named_before(name: &str, every: usize) -> Option<String> {
    let Some((number, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return Some(name.to_string());
    };
    let number: usize = number.parse().ok()?;
    number.is_multiple_of(every).then(|| format!("blocks.{}.{rest}", number / every))
}

/// `[width]` with ones in the first `old` places.
fn old_places(width: usize, old: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let places: Vec<f32> = (0..width).map(|n| if n < old { 1.0 } else { 0.0 }).collect();
    Ok(Tensor::from_vec(places, &[width], device)?.cast(dtype)?)
}

/// A vector or matrix with another in its upper left corner.
fn cornered(corner: &Tensor, around: &Tensor) -> Result<Tensor> {
    let last = corner.size(-1)?;
    let right =
        |rows: usize| Ok::<_, crate::Error>(around.narrow(0, 0, rows)?.narrow(-1, last, around.size(-1)? - last)?);
    if corner.rank() == 1 {
        return Ok(Tensor::concat(&[corner, &around.narrow(0, last, around.size(0)? - last)?], 0)?);
    }
    let rows = corner.size(0)?;
    let above = Tensor::concat(&[corner, &right(rows)?], 1)?;
    Ok(Tensor::concat(&[&above, &around.narrow(0, rows, around.size(0)? - rows)?], 0)?)
}

/// The largest change of a logit through growth, of whatever kind, over the largest logit.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    // The rounding of f32 alone is of the size that the function may change by.
    let dtype = if device.is_gpu() { DType::F32 } else { DType::F64 };
    let rows = Rows::new([8, LENGTH], seed, device)?;
    let small = Lm::of_dtype(&config(2, 64, 2, EPS), dtype, device)?;
    rows.train(&small, &usual(200, 3e-3))?;
    let before = rows.measure(&small)?;
    let (ids, _) = rows.batch(4, 0)?;
    let wanted = no_grad(|| small.logits(&ids))?;
    let largest = wanted.abs()?.max(&[0, 1, 2], false)?.item()?;
    let mut change: f64 = 0.0;
    let mut all = None;
    for (heads, fed, layers) in [(2, 128, 2), (3, 64, 2), (2, 64, 4), (4, 128, 4)] {
        // So that what is added to a mean of squares stays the same, while only the old elements are not zero.
        let mut config = config(heads, fed, layers, EPS * 2.0 / heads as f64);
        // The function is kept whatever the new parameters are.
        config.scheme = Scheme::Normal(1.0);
        let grown = Grown::new(&small, &config, dtype, device)?;
        grown.show(0.0)?;
        let logits = no_grad(|| grown.lm.logits(&ids))?;
        change = change.max(logits.sub(&wanted)?.abs()?.max(&[0, 1, 2], false)?.item()? / largest);
        all = Some(config);
    }
    // Then from initial values that can be learned from, beside a small model that is trained on.
    let Some(config) = all else { return Err(crate::Error::config("nothing was grown")) };
    let config = LmConfig { scheme: small.config().scheme.clone(), ..config };
    let grown = Grown::new(&small, &config, dtype, device)?;
    let loss = |at: u64| {
        grown.show((at as f64 / RISE).min(1.0))?;
        let (ids, labels) = rows.batch(5, at)?;
        grown.lm.loss(&ids, &labels)
    };
    train_then(&grown.lm, &usual(200, 3e-3), loss, || Ok(()))?;
    grown.show(1.0)?;
    let after = rows.measure(&grown.lm)?;
    rows.train(&small, &usual(200, 3e-3))?;
    let stayed = rows.measure(&small)?;
    ensure(after < before, || format!("the grown model went from {before:.3} to {after:.3}"))?;
    Ok(Report {
        property: format!(
            "change of a logit by growth, over the largest (loss {before:.3}, then grown {after:.3}, small {stayed:.3})"
        ),
        measured: change,
        wanted: Wanted::AtMost,
        threshold: 1e-6,
    })
}
