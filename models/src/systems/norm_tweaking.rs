//! Norm Tweaking (Li et al., 2023, arXiv 2309.02784): after the matrices of a model were rounded to few bits, the gains and biases of its norms are
//! trained, block by block, until the channels have the means and variances that they had before.

use wgrad::nn::{Module, Param};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{Device, Tensor, no_grad};

use super::depth_lab::{Rows, SYMBOLS, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::initial::{Role, Scheme};
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::Placement;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "norm-tweaking",
    title: "Norm Tweaking: High-performance Low-bit Quantization of Large Language Models",
    paper: "2309.02784",
    shows: "gains and biases of norms, trained on the model's own text, make good a part of what rounding to 3 bits costs",
    check,
};

const LAYERS: usize = 4;
const LENGTH: usize = 64;
const ROWS: usize = 16;
/// Bits of the matrices.
const BITS: [u32; 5] = [2, 3, 4, 6, 8];
/// Bits whose loss the tweaking has to make good.
const CLAIMED: u32 = 3;

/// The share of the loss due to rounding that is left after the tweaking.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let rows = Rows::new([ROWS, LENGTH], seed, device)?;
    let config = shape(LAYERS, LENGTH).decoder_with(Placement::Pre, NormConfig::layer(1e-5));
    // Larger weights lose more by rounding.
    let config = LmConfig { scheme: Scheme::Xavier { gain: 1.0 }, ..config };
    let model = Lm::new(&config, device)?;
    rows.train(&model, &usual(300, 3e-3))?;
    let whole = rows.measure(&model)?;
    let texts = (0..4).map(|_| written(&model, device)).collect::<Result<Vec<_>>>()?;
    let mut left = Vec::new();
    for bits in BITS {
        let coarse = Lm::new(&config, device)?;
        for ((name, from), (_, to)) in model.named_parameters().into_iter().zip(coarse.named_parameters()) {
            let value = from.tensor().detach();
            let in_block = Role::of(&name).is_some_and(|(role, _)| !matches!(role, Role::Embedding | Role::Head));
            to.set(&if in_block { value.fake_quantize(bits)? } else { value })?;
        }
        let before = rows.measure(&coarse)?;
        let others = others(&coarse)?;
        tweak(&model, &coarse, &texts)?;
        ensure(others == self::others(&coarse)?, || {
            format!("tweaking at {bits} bits changed more than norms of blocks")
        })?;
        left.push((bits, before, rows.measure(&coarse)?));
    }
    let shown: Vec<String> =
        left.iter().map(|(bits, before, after)| format!("{bits} bits {before:.3} -> {after:.3}")).collect();
    let claimed = left.iter().find(|(bits, ..)| *bits == CLAIMED);
    let &(_, before, after) = claimed.ok_or_else(|| Error::argument("norm-tweaking", "nothing of 3 bits"))?;
    ensure(before > whole + 0.01, || format!("rounding to 3 bits took the loss from {whole:.3} to {before:.3} only"))?;
    Ok(Report {
        property: format!("share of the loss due to 3 bits that is left (whole {whole:.3}; {})", shown.join(", ")),
        measured: (after - whole) / (before - whole),
        wanted: Wanted::AtMost,
        threshold: 0.8,
    })
}

/// The bits of all parameters that tweaking must leave alone.
fn others(lm: &Lm) -> Result<Vec<Vec<u32>>> {
    let params = lm.named_parameters().into_iter().filter(|(name, _)| !in_norm(name));
    let bits = |(_, param): (String, Param)| {
        let values = param.leaf().detach().to_vec::<f32>()?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    };
    params.map(bits).collect()
}

/// Whether a parameter is of a norm of a block.
fn in_norm(name: &str) -> bool {
    name.starts_with("blocks.") && name.contains("norm")
}

/// Texts that the model writes by itself.
fn written(model: &Lm, device: &Device) -> Result<Tensor> {
    let mut ids = Tensor::randint(0, SYMBOLS as i64, &[ROWS, 1], wgrad::DType::I32, device)?;
    while ids.size(1)? < LENGTH {
        let logits = no_grad(|| model.logits(&ids))?;
        let next = logits.select(1, ids.size(1)? - 1)?.categorical()?;
        ids = Tensor::concat(&[&ids, &next.cast(wgrad::DType::I32)?.reshape(&[-1, 1])?], 1)?;
    }
    Ok(ids)
}

/// Trains the norms of one block after the other.
fn tweak(whole: &Lm, coarse: &Lm, texts: &[Tensor]) -> Result<()> {
    let targets = texts.iter().map(|ids| Ok(no_grad(|| whole.trace(ids))?.1)).collect::<Result<Vec<_>>>()?;
    for block in 0..LAYERS {
        let prefix = format!("blocks.{block}.");
        let norms: Vec<(String, Param)> = coarse
            .named_parameters()
            .into_iter()
            .filter(|(name, _)| name.starts_with(&prefix) && in_norm(name))
            .collect();
        // Deeper blocks have more to make good.
        let rate = 1e-3 * (1.0 + block as f64 / LAYERS as f64);
        let rule = Rule::Adam(Adam { weight_decay: 0.0, ..Adam::default() });
        let mut optimizer = Optimizer::new(rule, rate, vec![Group::new(norms)])?;
        for step in 0..40 {
            let text = step % texts.len();
            let (_, states) = coarse.trace(&texts[text])?;
            let loss = distance(&states[block + 1], &targets[text][block + 1])?;
            optimizer.step(&loss.backward()?)?;
        }
    }
    Ok(())
}

/// Mean over channels of how far means and variances over tokens are apart.
fn distance(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let mean = x.mean(&[0, 1], false)?.sub(&target.mean(&[0, 1], false)?)?;
    let variance = x.var(&[0, 1], 0.0, false)?.sub(&target.var(&[0, 1], 0.0, false)?)?;
    Ok(mean.abs()?.add(&variance.abs()?)?.mean_all()?)
}
