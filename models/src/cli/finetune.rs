//! `wgrad finetune`

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use wgrad::nn::{Module, Param};

use super::args::{DeviceArgs, size};
use crate::finetune::{Settings, finetune};
use crate::front::codec::Codec;
use crate::weights::{LowRankConfig, Targets, Views};
use crate::{Error, Result, fsx, zoo};

const EXAMPLES: &str = "Examples:
  wgrad finetune path/to/gpt2 --text book.txt --out runs/gpt2-book
  wgrad finetune path/to/bert --text a.txt b.txt --steps 500 --lr 5e-5 --out runs/bert-mine
  wgrad finetune path/to/gpt2 --text book.txt --lora 8 --lr 1e-3 --out runs/gpt2-book";

/// Train a language model further on a text: on the next token, on masked ones, or, of one that writes a text for another, on the second half of rows
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct FinetuneArgs {
    /// Folder with config.json, model.safetensors and, for words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// Text files to learn from; the last tenth is held out
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub text: Vec<PathBuf>,
    /// Folder for the trained model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Training steps
    #[arg(long, default_value = "100")]
    pub steps: u64,
    /// Rows in a batch
    #[arg(long, value_name = "ROWS", default_value = "4", value_parser = RangedU64ValueParser::<usize>::new().range(1..1 << 16))]
    pub batch: usize,
    /// Tokens in a row
    #[arg(long, value_name = "TOKENS", default_value = "128", value_parser = RangedU64ValueParser::<usize>::new().range(2..1 << 20))]
    pub length: usize,
    /// Highest learning rate
    #[arg(long, default_value = "5e-5")]
    pub lr: f64,
    /// Seed of the order of the text and of the masks
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Train low-rank additions of this rank to matrices (LoRA) in place of all weights, and merge them in the end
    #[arg(long, value_name = "RANK", value_parser = size(1, 1 << 16))]
    pub lora: Option<usize>,
    /// Their factor is this over the rank [default: twice the rank]
    #[arg(long, value_name = "ALPHA", requires = "lora")]
    pub lora_alpha: Option<f64>,
    /// Share of their inputs that a step leaves out
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "lora")]
    pub lora_dropout: f64,
    /// Which layers of blocks get one: parts of attention (query, key, value, output), names of layers, or all
    #[arg(long, value_name = "NAMES", default_value = "query,value", value_parser = Targets::parse, requires = "lora")]
    pub lora_targets: Targets,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Trains, saves, and prints the losses on held-out text.
pub fn run(args: &FinetuneArgs) -> Result<()> {
    if args.out.join("config.json").exists() {
        return Err(Error::file(&args.out, "already holds a model: name another folder"));
    }
    let codec = Codec::open(&args.model)?;
    let mut ids = Vec::new();
    for path in &args.text {
        ids.extend(codec.encode(&fsx::read_text(path)?, false)?);
    }
    let device = args.device.open()?;
    device.set_seed(args.seed);
    let model = zoo::load(&args.model, wgrad::DType::F32, &device)?;
    let &FinetuneArgs { steps, batch, length, lr, seed, .. } = args;
    let settings = Settings { steps, batch, length, lr, seed };
    let mask = codec.mask().map(|(_, id)| id);
    let adapt = |rank: usize| {
        let alpha = args.lora_alpha.unwrap_or(2.0 * rank as f64);
        args.lora_targets.adapt(model.module(), &LowRankConfig { rank, alpha, dropout: args.lora_dropout })
    };
    let views = args.lora.map(adapt).transpose()?;
    if views.is_none() {
        tell_of_packed(model.module());
    }
    if let Some(views) = &views {
        let (trained, all) = (views.parameter_count(), model.module().parameter_count());
        log::info!("training {trained} parameters beside {all} frozen ones");
    }
    let losses = finetune(model.text()?, views.as_ref(), &ids, mask, &settings, &device, &mut |step, loss| {
        log::info!("step {step}: loss {loss:.4}");
    })?;
    views.map_or(Ok(()), Views::merge)?;
    model.save(&args.out)?;
    super::copy_beside(&args.model, &args.out)?;
    super::print(&format!("held-out loss {:.4} -> {:.4}; in {}\n", losses.before, losses.after, args.out.display()))
}

/// Says what of sparse matrices is trained.
fn tell_of_packed(model: &dyn Module) {
    let parameters = model.named_parameters();
    let count = |chosen: fn(&Param) -> bool| parameters.iter().filter(|(_, param)| chosen(param)).count();
    let (packed, listed) = (count(|p| p.packed_values().is_some()), count(|p| p.sparse_rows().is_some()));
    if packed > 0 {
        log::info!("of {packed} packed 2:4 matrices the kept values are trained, and stay where they are");
    }
    if listed > 0 {
        log::warn!(
            "{listed} matrices listed by rows stay as they are: only the rest is trained (--lora trains beside them)"
        );
    }
}
