//! `wgrad reconstruct`

use std::path::PathBuf;

use clap::Args;

use super::args::DeviceArgs;
use crate::front::picture::Picture;
use crate::front::preprocess::Preprocess;
use crate::reconstruct::reconstruct;
use crate::{Result, zoo};

/// White pixels between the pictures.
const GAP: usize = 4;

/// Hide most of a picture and let a masked autoencoder rebuild it: whole, masked and rebuilt side by side
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  wgrad reconstruct path/to/vit-mae-base cat.jpg -o rebuilt.png --seed 3")]
pub struct ReconstructArgs {
    /// Folder with config.json, model.safetensors and preprocessor_config.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// A PNG or JPEG file
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The PNG file to write
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// Seed of which patches are hidden
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Writes the picture, and prints how far off the model was.
pub fn run(args: &ReconstructArgs) -> Result<()> {
    let picture = Picture::read(&args.image)?;
    let preprocess = Preprocess::read(&args.model)?;
    let device = args.device.open()?;
    let model = zoo::load(&args.model, wgrad::DType::F32, &device)?;
    let made = reconstruct(&model, &preprocess, &picture, args.seed, &device)?;
    let loss = made.loss;
    Picture::beside(&[made.whole, made.masked, made.rebuilt], GAP)?.write(&args.out)?;
    super::print(&format!("mean squared error of hidden patches {loss:.4}; in {}\n", args.out.display()))
}
