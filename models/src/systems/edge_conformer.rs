//! Conformer-Based Speech Recognition on Extreme Edge-Computing Devices (Xu et al., 2024, arXiv 2312.10359): layer norm on hardware that adds in
//! 16 bits, behind a pre-normaliser that no sum overflows after.

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::depth_lab::shape;
use super::{Report, System, Wanted, ensure};
use crate::activation::Activation;
use crate::attention::Pass;
use crate::conformer::{Conformer, ConformerConfig, ConvolutionConfig};
use crate::norm::{NormConfig, NormKind};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "edge-conformer",
    title: "Conformer-Based Speech Recognition On Extreme Edge-Computing Devices",
    paper: "2312.10359",
    shows: "norms whose sums are of f16 give what those of f32 do, for large and for small activations, which break them otherwise",
    check,
};

const LENGTH: usize = 32;
const BLOCKS: usize = 2;
/// Sizes of the activations that come in.
const SCALES: [f64; 4] = [1e-3, 1.0, 1e3, 1e4];
/// Next to nothing beside the smallest variance, so that all norms are those of the formula without it.
const EPS: f64 = 1e-12;

/// Streaming blocks of a kind of norm.
fn conformer(kind: NormKind, dtype: DType, device: &Device, seed: u64) -> Result<Vec<Conformer>> {
    device.set_seed(seed);
    let norm = NormConfig { kind, eps: EPS };
    let block = shape(1, LENGTH).block(norm);
    let config = ConformerConfig {
        hidden: block.hidden,
        norm,
        feed_forward: [block.feed_forward; 2],
        attention: block.attention,
        convolution: ConvolutionConfig { kernel: 7, causal: true, activation: Activation::Silu, norm, dropout: 0.0 },
        dropout: 0.0,
    };
    let build = Build::new(device).with_dtype(dtype);
    (0..BLOCKS).map(|_| Conformer::new(&config, &build)).collect()
}

/// The largest difference from f32 throughout, whose outputs are about 1.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let layer = NormKind::Layer { gain: true, bias: true };
    let narrow = |prenormalised| NormKind::Narrow { prenormalised };
    let run = |kind, dtype, scale: f64| {
        let blocks = conformer(kind, dtype, device, seed)?;
        // The parameters of all are numbers of f16.
        for (_, param) in blocks.iter().flat_map(|block| block.named_parameters()) {
            param.set(&param.tensor().detach().cast(DType::F16)?.cast(dtype)?)?;
        }
        let x = Tensor::normal(0.0, scale, &[2, LENGTH, shape(1, LENGTH).hidden], DType::F32, device)?;
        let x = x.cast(DType::F16)?.cast(dtype)?;
        let positions = Tensor::arange(0, LENGTH as i64, DType::I32, device)?.unsqueeze(0)?.expand(&[2, LENGTH])?;
        let mut pass = Pass::new(&Mask::causal(0), 0, std::iter::empty());
        pass.positions = Some(positions);
        let out = no_grad(|| blocks.iter().try_fold(x, |x, block| block.forward(&x, &pass)))?;
        Ok::<_, Error>(out.cast(DType::F32)?.to_vec::<f32>()?)
    };
    let (mut most, mut fused, mut broken) = (0.0f64, 0.0f64, Vec::new());
    for scale in SCALES {
        let want = run(layer, DType::F32, scale)?;
        // A number that is not one is as far off as can be.
        let off = |kind| {
            let apart = run(kind, DType::F16, scale)?.into_iter().zip(&want).map(|(a, b)| f64::from((a - b).abs()));
            Ok::<_, Error>(apart.fold(0.0, |most: f64, off| if off <= most { most } else { off.min(1e9) }))
        };
        let (own, plain) = (off(narrow(true))?, off(narrow(false))?);
        most = most.max(own);
        fused = fused.max(off(layer)?);
        if plain > 0.1 {
            broken.push(scale);
        }
    }
    ensure(broken.contains(&1e3) && !broken.contains(&1.0), || {
        format!("without the pre-normaliser activations of sizes {broken:?} broke, 1000 and not 1 were expected")
    })?;
    Ok(Report {
        property: format!(
            "largest difference from norms of f32, activations from {} to {} (the engine's norms, which add in f32, {fused:.4}; without the pre-normaliser {broken:?} break)",
            SCALES[0],
            SCALES[SCALES.len() - 1]
        ),
        measured: most,
        wanted: Wanted::AtMost,
        threshold: 0.02,
    })
}
