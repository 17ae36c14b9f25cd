//! `wgrad classify-image`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArgs, size};
use crate::Result;
use crate::classify::ImageClassifier;
use crate::front::picture::Picture;

const EXAMPLES: &str = "Examples:
  wgrad classify-image path/to/vit-base-patch16-224 cat.jpg dog.png
  wgrad classify-image path/to/clip-vit-base-patch32 cat.jpg --labels \"a photo of a cat\" \"a photo of a dog\"";

/// Say what is in pictures: by a ViT's labels, or by labels in words that a CLIP is given
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ClassifyImageArgs {
    /// Folder with config.json, model.safetensors, preprocessor_config.json and, for labels in words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// PNG or JPEG files
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    /// Labels in words; token ids if the folder has no tokenizer.json
    #[arg(long, value_name = "LABEL", num_args = 1..)]
    pub labels: Vec<String>,
    /// Labels to show for each picture
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = size(1, 1 << 20))]
    pub top: usize,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Prints the likeliest labels of each picture.
pub fn run(args: &ClassifyImageArgs) -> Result<()> {
    // Before the model is loaded, which takes longer than to see that a file is broken.
    let pictures = args.images.iter().map(|path| Picture::read(path)).collect::<Result<Vec<_>>>()?;
    let classifier = ImageClassifier::load(&args.model, &args.labels, &args.device.open()?)?;
    let mut all = Vec::new();
    for (path, picture) in args.images.iter().zip(&pictures) {
        let labels = classifier.classify(picture, args.top)?;
        if !args.json {
            let lines = labels.iter().map(|one| format!("  {:.4}  {}\n", one.probability, one.label));
            super::print(&format!("{}\n{}", path.display(), lines.collect::<String>()))?;
        }
        all.push(json!({ "image": path, "labels": labels }));
    }
    if args.json { super::print(&super::json(&all)?) } else { Ok(()) }
}
