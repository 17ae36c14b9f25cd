//! Fills masks: `cargo run --release -p wgrad-models --example fill_mask -- path/to/bert "the [MASK] of the tensor"`

use std::path::PathBuf;

use wgrad::Device;
use wgrad_models::Result;
use wgrad_models::fill_mask::MaskFiller;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (folder, sentence) = (PathBuf::from(args.next().unwrap_or_default()), args.next().unwrap_or_default());
    let filled = MaskFiller::load(&folder, &Device::best()?)?.fill(&sentence, 5)?;
    println!("{}", filled.filled);
    for candidate in filled.masks.iter().flatten() {
        println!("{:.3} {}", candidate.probability, candidate.token);
    }
    Ok(())
}
