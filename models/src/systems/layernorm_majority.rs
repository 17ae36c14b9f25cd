//! The majority task of On the Expressivity Role of LayerNorm in Transformers' Attention (Brody et al., 2023, arXiv 2305.02582, section 4.1): to
//! count, a query has to see all keys alike. With the projection of a layer norm a query along the vector of ones does.

use wgrad::nn::Module;
use wgrad::rng::Philox;
use wgrad::{Activation, Device, Tensor, no_grad};

use super::lab::{answers, loss, train};
use super::{Report, System, Wanted};
use crate::attention::AttentionConfig;
use crate::block::BlockConfig;
use crate::feed_forward::FeedForwardConfig;
use crate::front::synthetic::below;
use crate::lm::{Lm, LmConfig};
use crate::norm::{Norm, NormConfig, NormKind};
use crate::placement::{Placement, Shape};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "layernorm-majority",
    title: "On the Expressivity Role of LayerNorm in Transformers' Attention",
    paper: "2305.02582",
    shows: "a model that counts turns its queries to the vector of ones if keys are projected, and not if they are only scaled",
    check,
};

const CLASSES: usize = 4;
const LENGTH: usize = 24;
const ROWS: usize = 32;
const SHAPE: Shape = Shape { vocab: CLASSES, hidden: 8, heads: 1, layers: 1, length: LENGTH };

/// Rows of classes of which one is more frequent than any other, and that one as the label of each place.
fn rows(rng: &mut Philox) -> (Vec<i32>, Vec<i32>) {
    let (mut ids, mut labels) = (Vec::new(), Vec::new());
    while labels.len() < ROWS * LENGTH {
        let row: Vec<usize> = (0..LENGTH).map(|_| below(CLASSES, rng)).collect();
        let count = |class: usize| row.iter().filter(|&&other| other == class).count();
        let most = (0..CLASSES).map(count).max().unwrap_or(0);
        let mut best = (0..CLASSES).filter(|&class| count(class) == most);
        if let (Some(class), None) = (best.next(), best.next()) {
            ids.extend(row.iter().map(|&class| class as i32));
            labels.extend([class as i32; LENGTH]);
        }
    }
    (ids, labels)
}

/// The angle between keys' sides of queries and the line of the vector of ones after training, in degrees, and right answers.
fn learned(kind: NormKind, device: &Device, seed: u64) -> Result<(f64, f64)> {
    device.set_seed(seed);
    let norm = NormConfig { kind, eps: 1e-6 };
    let config = SHAPE.decoder_with(Placement::Pre, norm);
    let block = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig { rotary: None, ..block.attention },
        feed_forward: FeedForwardConfig { width: SHAPE.hidden, activation: Activation::Relu, ..block.feed_forward },
        ..*block
    };
    let lm = Lm::new(&LmConfig { blocks: config.blocks.iter().map(block).collect(), causal: false, ..config }, device)?;
    let run = |stream: u64, number: u64| {
        let (ids, labels) = rows(&mut Philox::new(seed, stream << 32 | number));
        let logits = lm.logits(&Tensor::from_vec(ids, &[ROWS, LENGTH], device)?)?;
        Ok::<_, Error>((logits, labels))
    };
    train(&lm, 2000, 5e-3, |step| {
        let (logits, labels) = run(1, step)?;
        loss(&logits, &labels)
    })?;
    let mut right = 0.0;
    for number in 0..8 {
        let (logits, labels) = no_grad(|| run(2, number))?;
        right += answers(&logits, &labels)? / 8.0;
    }
    let find = |wanted: &str| {
        let found = lm.named_parameters().into_iter().find(|(name, _)| name == wanted);
        found.map(|(_, param)| param.tensor().detach()).ok_or_else(|| Error::config(format!("no parameter {wanted}")))
    };
    let words = Norm::new(norm, SHAPE.hidden, &wgrad::nn::Build::new(device))?.forward(&find("embedding.weight")?)?;
    let sides = words.linear(&find("blocks.0.query.weight")?, None)?.matmul(&find("blocks.0.key.weight")?)?;
    let cosines = sides
        .sum(&[1], false)?
        .div(&sides.norm(2.0, &[1], false)?)?
        .mul_scalar((SHAPE.hidden as f64).sqrt().recip())?;
    let angles = cosines.to_f64_vec()?.into_iter().map(|cosine| cosine.abs().min(1.0).acos().to_degrees());
    Ok((angles.sum::<f64>() / CLASSES as f64, right))
}

/// The angle with the projection.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (angle, right) = learned(NormKind::Layer { gain: false, bias: false }, device, seed)?;
    let (raw, raw_right) = learned(NormKind::SimpleRms, device, seed)?;
    Ok(Report {
        property: format!(
            "degrees between queries and the vector of ones, less without the projection ({angle:.0} and {raw:.0}; majorities told {:.1} % and {:.1} %)",
            100.0 * right,
            100.0 * raw_right
        ),
        measured: raw - angle,
        wanted: Wanted::AtLeast,
        threshold: 10.0,
    })
}
