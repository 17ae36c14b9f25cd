//! Conformer-Based Speech Recognition on Extreme Edge-Computing Devices (Xu et al., 2024, arXiv 2312.10359): layer norm on hardware that adds in
//! 16 bits, behind a pre-normaliser that no sum overflows after; and an encoder that hears a sound while it goes on.

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::depth_lab::shape;
use super::{Report, System, Wanted, ensure};
use crate::activation::Activation;
use crate::attention::Pass;
use crate::conformer::{Conformer, ConformerConfig, ConformerState, ConvolutionConfig};
use crate::front::subsample::{FRAMES, Frames, Subsampling, SubsamplingConfig};
use crate::norm::{NormConfig, NormKind};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "edge-conformer",
    title: "Conformer-Based Speech Recognition On Extreme Edge-Computing Devices",
    paper: "2312.10359",
    shows: "norms whose sums are of f16 give what those of f32 do, for large and small activations, which break them otherwise; pieces of a sound give what the whole does",
    check,
};

const LENGTH: usize = 32;
const BLOCKS: usize = 2;
/// Sizes of the activations that come in.
const SCALES: [f64; 4] = [1e-3, 1.0, 1e3, 1e4];
/// Numbers of a frame of sound.
const FEATURES: usize = 20;
/// Positions that come together.
const PIECE: usize = 4;
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

/// What blocks are told of `length` positions of `batch` sequences, after `offset` others.
fn pass(batch: usize, [offset, length]: [usize; 2], device: &Device) -> Result<Pass> {
    let mut pass = Pass::new(&Mask::causal(0).at(offset as i64), offset, std::iter::empty());
    let positions = Tensor::arange(offset as i64, (offset + length) as i64, DType::I32, device)?;
    pass.positions = Some(positions.unsqueeze(0)?.expand(&[batch, length])?);
    Ok(pass)
}

/// How far the encoder's outputs for a sound in pieces are from those for the whole.
fn in_pieces(device: &Device, seed: u64) -> Result<f64> {
    let blocks = conformer(NormKind::Layer { gain: true, bias: true }, DType::F32, device, seed)?;
    let hidden = shape(1, LENGTH).hidden;
    let config = SubsamplingConfig { features: FEATURES, channels: 8, hidden, activation: Activation::Silu };
    let front = Subsampling::new(config, &Build::new(device))?;
    let sound = Tensor::normal(0.0, 1.0, &[1, FRAMES * LENGTH, FEATURES], DType::F32, device)?;
    let whole = pass(1, [0, LENGTH], device)?;
    let x = front.forward(&sound, &mut Frames::default())?;
    let want = blocks.iter().try_fold(x, |x, block| block.forward(&x, &whole))?;
    let (mut frames, mut states) = (Frames::default(), [(); BLOCKS].map(|()| ConformerState::default()));
    let mut most = 0.0f64;
    for offset in (0..LENGTH).step_by(PIECE) {
        let piece = pass(1, [offset, PIECE], device)?;
        let x = front.forward(&sound.narrow(1, FRAMES * offset, FRAMES * PIECE)?, &mut frames)?;
        let got = blocks.iter().zip(&mut states).try_fold(x, |x, (block, state)| block.next(&x, &piece, state))?;
        most = most.max(got.sub(&want.narrow(1, offset, PIECE)?)?.abs()?.max(&[], false)?.item()?);
    }
    Ok(most)
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
        let pass = pass(2, [0, LENGTH], device)?;
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
    let streamed = no_grad(|| in_pieces(device, seed))?;
    ensure(streamed < 1e-4, || {
        format!("a sound in pieces gives outputs that are up to {streamed:.1e} from those of the whole")
    })?;
    Ok(Report {
        property: format!(
            "largest difference from norms of f32, activations from {} to {} (the engine's norms, which add in f32, {fused:.4}; without the pre-normaliser {broken:?} break; a sound in pieces {streamed:.0e} from the whole)",
            SCALES[0],
            SCALES[SCALES.len() - 1]
        ),
        measured: most,
        wanted: Wanted::AtMost,
        threshold: 0.02,
    })
}
