//! Trains a language model further by LoRA: `cargo run --release -p wgrad-models --example finetune -- path/to/gpt2 notes.txt runs/gpt2-notes`

use std::path::PathBuf;

use wgrad::{DType, Device};
use wgrad_models::finetune::{Settings, finetune};
use wgrad_models::front::codec::Codec;
use wgrad_models::weights::{LowRankConfig, Targets};
use wgrad_models::{Result, fsx, zoo};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let mut next = || args.next().unwrap_or_default();
    let (folder, text, out) = (next(), next(), next());
    let (device, codec) = (Device::best()?, Codec::open(&folder)?);
    let model = zoo::load(&folder, DType::F32, &device)?;
    let ids = codec.encode(&fsx::read_text(&text)?, false)?;
    let views = Targets::All.adapt(model.module(), &LowRankConfig::new(8))?;
    let settings = Settings { steps: 50, batch: 4, length: 32, lr: 1e-3, seed: 0 };
    let mask = codec.mask().map(|(_, id)| id);
    let losses = finetune(model.text()?, Some(&views), &ids, mask, &settings, &device, &mut |step, loss| {
        println!("{step}: {loss:.4}");
    })?;
    println!("held out: {:.4} -> {:.4}", losses.before, losses.after);
    views.merge()?;
    model.save(&out)
}
