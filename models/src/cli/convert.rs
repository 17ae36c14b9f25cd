//! `wgrad convert`

use std::path::PathBuf;

use clap::Args;
use wgrad::rng::Philox;
use wgrad::{DType, Tensor, no_grad};

use super::args::DeviceArgs;
use crate::front::embeddings::TextInput;
use crate::surgery::Without;
use crate::zoo::{self, TextModel, pre_ln};
use crate::{Error, Result};

/// Turn the layer norms of a Pre-LN model into RMS norms without gains; what it computes stays the same
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  wgrad convert path/to/gpt2 --norms rms -o runs/gpt2-rms\n  wgrad convert path/to/gpt2 --norms crms -o runs/gpt2-crms"
)]
pub struct ConvertArgs {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// rms, or crms: with a residual stream that is shorter by one
    #[arg(long, value_name = "KIND")]
    pub norms: Without,
    /// Folder for the converted model
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Tokens of the two rows on which models are compared.
const LENGTH: usize = 64;

/// Converts a model, saves it, and prints how far its logits are from those of the old one.
pub fn run(args: &ConvertArgs) -> Result<()> {
    if args.out.join("config.json").exists() {
        return Err(Error::file(&args.out, "already holds a model: name another folder"));
    }
    let device = args.device.open()?;
    let old = zoo::load(&args.model, DType::F32, &device)?;
    let new = pre_ln::convert(&old, args.norms)?;
    let about = old.text()?.about();
    let length = about.longest.map_or(LENGTH, |longest| longest.min(LENGTH));
    let mut rng = Philox::new(0, 0);
    let ids = (0..2 * length).map(|_| rng.below(about.vocab as u32)).collect();
    let ids = Tensor::from_vec(ids, &[2, length], &device)?;
    let (want, got) = (logits(old.text()?, &ids)?, logits(new.text()?, &ids)?);
    let largest = |x: Tensor| x.abs()?.max(&[], false)?.item();
    let (apart, size) = (largest(got.sub(&want)?)?, largest(want)?);
    // What rounds to a half is not the same function.
    new.save_as(&args.out, DType::F32)?;
    super::copy_beside(&args.model, &args.out)?;
    let count = |model: &zoo::Model| model.module().parameter_count();
    super::print(&format!(
        "{} parameters, {} before; logits of random tokens, which are up to {size:.1}, are at most {apart:.1e} apart; in {}\n",
        count(&new),
        count(&old),
        args.out.display()
    ))
}

fn logits(model: &dyn TextModel, ids: &Tensor) -> Result<Tensor> {
    no_grad(|| model.logits(&model.encode(&TextInput::new(ids))?))
}
