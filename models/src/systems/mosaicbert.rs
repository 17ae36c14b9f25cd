//! MosaicBERT (Portes et al., 2023, arXiv 2312.17482): BERT with ALiBi and gated units, trained without padding.

use serde_json::json;
use wgrad::rng::Philox;
use wgrad::{DType, Device};

use super::ragged::{self, Ragged};
use super::{Report, System, ensure};
use crate::Result;
use crate::zoo::{self, Config};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "mosaicbert",
    title: "MosaicBERT: A Bidirectional Encoder Optimized for Fast Pretraining",
    paper: "2312.17482",
    shows: "without padding it is faster on texts of unequal lengths, and gives the same states, losses and gradients",
    check,
};

/// Packed against padded texts.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let config = Config::new(json!({
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "alibi_starting_size": 128, "vocab_size": 256,
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
        "max_position_embeddings": 128, "type_vocab_size": 2, "hidden_act": "gelu", "initializer_range": 0.08,
    }))?;
    let model = zoo::new(&config, DType::F32, device)?;
    model.module().train(false);
    let texts = Ragged::draw(24, 12..=128, 256, &mut Philox::new(seed, 0));
    let [loss, gradient] = ragged::training_apart(model.text()?, &texts, device)?;
    ensure(loss < 1e-5 && gradient < 1e-3, || {
        format!("packed losses differ from padded ones by {loss:.1e}, gradients by {gradient:.1e} of the largest")
    })?;
    let report = ragged::report(model.text()?, &texts, device)?;
    let property =
        format!("{} (in training losses by {loss:.0e}, gradients by {gradient:.0e} of the largest)", report.property);
    Ok(Report { property, ..report })
}
