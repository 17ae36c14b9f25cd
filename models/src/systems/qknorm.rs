//! Query-Key Normalization for Transformers (Henry et al., 2020, arXiv 2010.04245): queries and keys of length one, and a learned factor of
//! their products in place of `1 / sqrt(head_dim)`.

use wgrad::nn::{Build, Init, Module};
use wgrad::{DType, Device, Mask, Tensor};

use super::depth_lab::shape;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::attention::{Attention, AttentionConfig, HeadNorm, Pass};
use crate::gain::GainConfig;
use crate::norm::NormConfig;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "qknorm",
    title: "Query-Key Normalization for Transformers",
    paper: "2010.04245",
    shows: "attention does not saturate however large queries and keys become",
    check,
};

const LENGTH: usize = 32;

/// The learned factor's first value for texts of a length (section 3.2).
fn first(length: usize) -> f64 {
    let length = length as f64;
    (length * length - length).log2()
}

/// Attention with the norm.
pub fn attention(base: AttentionConfig, length: usize) -> AttentionConfig {
    let norm = HeadNorm {
        norm: NormConfig::l2(),
        query: "query_norm",
        key: "key_norm",
        value: None,
        together: false,
        turned: false,
    };
    AttentionConfig {
        scale: Some(1.0),
        norm: Some(norm),
        score_gain: Some(GainConfig::scalar("score_gain", first(length))),
        ..base
    }
}

/// What becomes of the output if queries and keys grow a thousandfold.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let base = shape(1, LENGTH).block(NormConfig::rms(1e-6)).attention;
    let (with, without) = (moved(attention(base, LENGTH), device, seed)?, moved(base, device, seed)?);
    ensure(without > 0.1, || {
        format!("without the norm the output moved by {without:.2e} only, it should have saturated")
    })?;
    Ok(Report {
        property: format!(
            "relative change of attention's output as queries and keys grow a thousandfold (without the norm {without:.2})"
        ),
        measured: with,
        wanted: Wanted::AtMost,
        threshold: 1e-4,
    })
}

fn moved(config: AttentionConfig, device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let build = Build::new(device).with_init(Init::XavierNormal { gain: 1.0 });
    let layer = Attention::new(config, 64, &build)?;
    let x = Tensor::normal(0.0, 1.0, &[2, LENGTH, 64], DType::F32, device)?;
    let positions = Tensor::arange(0, LENGTH as i64, DType::I32, device)?.unsqueeze(0)?.expand(&[2, LENGTH])?;
    let mut pass = Pass::new(&Mask::causal(0), 0, std::iter::empty());
    pass.positions = Some(positions);
    let run = || Ok::<_, crate::Error>(layer.forward(&x, None, &pass, None, None)?.detach());
    let before = run()?;
    for (name, param) in layer.named_parameters() {
        if matches!(name.as_str(), "query.weight" | "key.weight") {
            param.set(&param.tensor().detach().mul_scalar(1000.0)?)?;
        }
    }
    let length = |x: &Tensor| x.norm(2.0, &[], false)?.item();
    Ok(length(&run()?.sub(&before)?)? / length(&before)?)
}
