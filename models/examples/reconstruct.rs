//! A picture, what a masked autoencoder sees of it, and what it makes of that: `cargo run --release -p wgrad-models --example reconstruct --
//! path/to/vit-mae picture.png out.png`

use std::path::PathBuf;

use wgrad::{DType, Device};
use wgrad_models::front::picture::Picture;
use wgrad_models::front::preprocess::Preprocess;
use wgrad_models::reconstruct::reconstruct;
use wgrad_models::{Result, zoo};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let mut next = || args.next().unwrap_or_default();
    let (folder, file, out, device) = (next(), next(), next(), Device::best()?);
    let model = zoo::load(&folder, DType::F32, &device)?;
    let made = reconstruct(&model, &Preprocess::read(&folder)?, &Picture::read(&file)?, 0, &device)?;
    Picture::beside(&[made.whole, made.masked, made.rebuilt], 4)?.write(&out)
}
