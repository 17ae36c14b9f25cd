//! Prepacking (Zhao et al., 2024, arXiv 2404.09529): prompts of unequal lengths are prefilled side by side in packed rows, and each takes its
//! part of the cache with it.

use serde_json::json;
use wgrad::rng::Philox;
use wgrad::{DType, Device, no_grad};

use super::ragged::{self, Ragged};
use super::{Report, System, ensure};
use crate::Result;
use crate::front::embeddings::TextInput;
use crate::front::packing::Packed;
use crate::zoo::{self, Cache, Config, TextModel};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "prepacking",
    title: "Prepacking: A Simple Method for Fast Prefilling and Increased Throughput in Large Language Models",
    paper: "2404.09529",
    shows: "packed prompts are prefilled faster than padded ones, and go on just the same",
    check,
};

/// How many times faster packed rows are than padded ones, after their logits, and those of the next token from the cache that each prompt
/// took with it, have been found equal to each prompt's alone.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let config = Config::new(json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256, "hidden_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 256,
        "initializer_range": 0.08,
    }))?;
    let model = zoo::new(&config, DType::F32, device)?;
    model.module().train(false);
    let model = model.text()?;
    let texts = Ragged::draw(24, 12..=128, 256, &mut Philox::new(seed, 0));
    let apart = no_grad(|| decoded_apart(model, &texts, device))?;
    ensure(apart < 1e-3, || format!("prompts that took their cache from a packed row differ by {apart:.1e}"))?;
    ragged::report(model, &texts, device)
}

/// The largest difference in the logits of one more token, from a cache that was cut out of a packed prefill and from one of the prompt alone.
fn decoded_apart(model: &dyn TextModel, texts: &Ragged, device: &Device) -> Result<f64> {
    let rows = Packed::new(&texts.rows, 0, device)?;
    let mut packed = Cache::default();
    model.run(&rows.input(), Some(&mut packed), None)?;
    let mut apart = 0.0f64;
    for (text, [row, start]) in texts.rows.iter().zip(rows.packing.places()).take(4) {
        let mut own = packed.cut(row, start, text.len())?;
        let mut alone = Cache::default();
        let whole = wgrad::Tensor::from_slice(text, &[1, text.len()], device)?;
        model.run(&TextInput::new(&whole), Some(&mut alone), None)?;
        let next = wgrad::Tensor::from_slice(&[7u32], &[1, 1], device)?;
        let logits = |cache: &mut Cache| {
            let states = model.run(&TextInput::new(&next), Some(cache), None)?;
            model.logits(&states)
        };
        apart = apart.max(ragged::apart(&logits(&mut own)?, &logits(&mut alone)?)?);
    }
    Ok(apart)
}
