//! DeBERTa (He et al., 2021, arXiv 2006.03654): scores of content with content, of content with relative position, and of position with content.

use wgrad::nn::Build;
use wgrad::{Device, Mask};

use super::lab::{Both, Lab, Sizes};
use super::masked_lab::Masked;
use super::{Report, System, Wanted};
use crate::Result;
use crate::attention::{Attention, AttentionConfig, DisentangledConfig, Distance, DistanceConfig, Scores};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "disentangled-attention",
    title: "DeBERTa: Decoding-enhanced BERT with Disentangled Attention",
    paper: "2006.03654",
    shows: "without any embedding of positions it learns what depends on order, which content alone cannot",
    check,
};

const SYMBOLS: usize = 12;
const LENGTH: usize = 32;
const ROWS: usize = 32;

/// Masked loss over the lowest possible, with the terms of positions, and for comparison without.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (with, without) = (excess(true, device, seed)?, excess(false, device, seed)?);
    Ok(Report {
        property: format!("masked loss over the lowest possible (content alone: {without:.2})"),
        measured: with,
        wanted: Wanted::AtMost,
        threshold: 1.1,
    })
}

fn excess(positions: bool, device: &Device, seed: u64) -> Result<f64> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: SYMBOLS + 1, hidden: 64, heads: 4, layers: 2 };
    let terms = DisentangledConfig { content_to_position: true, position_to_content: true, apart: None };
    let scores = if positions { Scores::Disentangled(terms) } else { Scores::Plain };
    let config = AttentionConfig { rotary: None, scores, ..sizes.attention() };
    let lab = Lab::new(&sizes, device, |_, build| Ok(Box::new(Attention::new(config, sizes.hidden, build)?)))?;
    let vectors = DistanceConfig::Vectors { name: "distance", norm: None, span: 8, width: sizes.hidden, log: None };
    let model = Both(lab, Distance::new(vectors, &Build::new(device))?);
    Masked::new(SYMBOLS, [ROWS, LENGTH], seed)?.excess(&model, 500, 3e-3, device, |ids| {
        let x = model.0.embed(ids)?;
        let mut pass = model.0.pass(&Mask::all(), [ROWS, LENGTH], None, device)?;
        model.1.tell(&mut pass, LENGTH, &x)?;
        model.0.logits(&model.0.states(x, &pass)?)
    })
}
