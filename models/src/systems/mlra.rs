//! Stable Language Model Pre-training by Reducing Embedding Variability (Chung et al., 2024, arXiv 2409.07787): projections to heads of low rank,
//! and the spread within words' vectors as a gauge of how steadily a model learns.

use wgrad::nn::Module;
use wgrad::{Device, Tensor};

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted};
use crate::attention::AttentionConfig;
use crate::block::BlockConfig;
use crate::initial::Scheme;
use crate::lm::{Lm, LmConfig};
use crate::placement::Placement;
use crate::weights::Form;
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "mlra",
    title: "Stable Language Model Pre-training by Reducing Embedding Variability",
    paper: "2409.07787",
    shows: "with projections of low rank words' vectors spread less while the model learns",
    check,
};

/// Token embedding variability: the mean over words `[vocab, hidden]` of the standard deviation within a word's vector (section 3).
///
/// # Errors
/// If the device fails.
pub fn variability(words: &Tensor) -> Result<f64> {
    Ok(words.std(&[1], 0.0, false)?.mean_all()?.item()?)
}

/// The growth of the variability over that with full projections.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (low, low_loss) = grown(Some(16), device, seed)?;
    let (full, full_loss) = grown(None, device, seed)?;
    Ok(Report {
        property: format!(
            "variability of words' vectors after training, over that with full projections (losses {low_loss:.3} and {full_loss:.3} nats)"
        ),
        measured: low / full,
        wanted: Wanted::AtMost,
        threshold: 1.0,
    })
}

fn grown(rank: Option<usize>, device: &Device, seed: u64) -> Result<(f64, f64)> {
    device.set_seed(seed);
    let config = shape(6, 64).decoder(Placement::Pre);
    let form = rank.map_or(Form::Rows, Form::LowRank);
    let block = |block: &BlockConfig| BlockConfig { attention: AttentionConfig { form, ..block.attention }, ..*block };
    let blocks = config.blocks.iter().map(block).collect();
    let lm = Lm::new(&LmConfig { blocks, embedding_std: 0.02, scheme: Scheme::Normal(0.02), ..config }, device)?;
    let rows = Rows::new([16, 64], seed, device)?;
    rows.train(&lm, &usual(300, 3e-3))?;
    let words = lm.named_parameters().into_iter().find(|(name, _)| name == "embedding.weight");
    let (_, words) = words.ok_or_else(|| Error::config("the model has no words"))?;
    Ok((variability(&words.tensor().detach())?, rows.measure(&lm)?))
}
