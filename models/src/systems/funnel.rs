//! Funnel Transformer (Dai et al., 2020, arXiv 2006.03236): sequences are halved between blocks of layers, and a decoder makes them whole again.

use serde_json::json;
use wgrad::{DType, Device};

use super::masked_lab::Masked;
use super::{Report, System, Wanted};
use crate::Result;
use crate::front::embeddings::TextInput;
use crate::zoo::{self, Config};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "funnel-transformer",
    title: "Funnel-Transformer: Filtering out Sequential Redundancy for Efficient Language Processing",
    paper: "2006.03236",
    shows: "with a layer on halved sequences, a masked LM comes within 15 % of the lowest possible loss",
    check,
};

const SYMBOLS: usize = 12;
const LENGTH: usize = 32;

/// Masked loss over the lowest possible.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let config = Config::new(json!({
        "model_type": "funnel", "architectures": ["FunnelForMaskedLM"], "vocab_size": SYMBOLS + 1, "d_model": 64, "n_head": 4,
        "d_head": 16, "d_inner": 128, "block_sizes": [1, 1], "num_decoder_layers": 1, "hidden_dropout": 0.0,
        "attention_dropout": 0.0, "activation_dropout": 0.0, "separate_cls": false, "truncate_seq": false, "pool_q_only": true,
        "initializer_std": 0.1, "max_position_embeddings": LENGTH,
    }))?;
    let model = zoo::new(&config, DType::F32, device)?;
    let text = model.text()?;
    let bench = Masked::new(SYMBOLS, [32, LENGTH], seed)?;
    let excess =
        bench.excess(model.module(), 500, 2e-3, device, |ids| text.logits(&text.encode(&TextInput::new(ids))?))?;
    Ok(Report {
        property: format!(
            "masked loss over the lowest possible, with one of three layers on {} of {LENGTH} positions",
            LENGTH / 2
        ),
        measured: excess,
        wanted: Wanted::AtMost,
        threshold: 1.15,
    })
}
