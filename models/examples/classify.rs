//! What is in a picture: `cargo run --release -p wgrad-models --example classify -- path/to/vit picture.png`, or with labels in words behind it
//! for a CLIP

use std::path::PathBuf;

use wgrad::Device;
use wgrad_models::Result;
use wgrad_models::classify::ImageClassifier;
use wgrad_models::front::picture::Picture;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (folder, file) =
        (PathBuf::from(args.next().unwrap_or_default()), PathBuf::from(args.next().unwrap_or_default()));
    let labels: Vec<String> = args.collect();
    let classifier = ImageClassifier::load(&folder, &labels, &Device::best()?)?;
    for one in classifier.classify(&Picture::read(&file)?, 5)? {
        println!("{:.3} {}", one.probability, one.label);
    }
    Ok(())
}
