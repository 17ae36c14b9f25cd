//! `wgrad score`

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::json;

use super::args::DeviceArgs;
use crate::front::codec::Codec;
use crate::progress::{Limit, Progress};
use crate::score::score;
use crate::{Result, fsx, zoo};

/// Measure how well a language model predicts a text: perplexity, of a masked model pseudo-perplexity
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  wgrad score path/to/gpt2 book.txt\n  wgrad score path/to/bert page.txt --length 128 --json"
)]
pub struct ScoreArgs {
    /// Folder with config.json, model.safetensors and, for words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// The text; token ids if the folder has no tokenizer.json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value = "512", value_parser = RangedU64ValueParser::<usize>::new().range(2..1 << 20))]
    pub length: usize,
    /// Tokens that a window moves by [default: half of a window]
    #[arg(long, value_name = "TOKENS")]
    pub stride: Option<usize>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Prints the score of a file.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let codec = Codec::open(&args.model)?;
    let text = fsx::read_text(&args.file)?;
    let (ids, counts) = codec.encode_marked(&text)?;
    let device = args.device.open()?;
    let loaded = zoo::load(&args.model, wgrad::DType::F32, &device)?;
    let model = loaded.text()?;
    let length = model.about().longest.map_or(args.length, |longest| longest.min(args.length));
    let stride = args.stride.unwrap_or(length / 2);
    let mut progress = Progress::new(Limit { steps: Some(ids.len() as u64), time: None }, 0);
    let mut seen = |tokens: usize| progress.tell(tokens as u64, &format!("{tokens} of {} tokens", ids.len()));
    let mask = codec.mask().map(|(_, id)| id);
    let score = score(model, &ids, &counts, mask, [length, stride], &device, &mut seen)?;
    progress.end();
    let per_byte = score.nats / std::f64::consts::LN_2 / text.len().max(1) as f64;
    if args.json {
        let value = json!({ "perplexity": score.perplexity, "nats": score.nats, "tokens": score.tokens, "bits_per_byte": per_byte });
        return super::print(&super::json(&value)?);
    }
    let per_token = score.nats / score.tokens as f64;
    super::print(&format!(
        "perplexity {:.4} over {} tokens: {per_token:.4} nats a token, {per_byte:.4} bits a byte\n",
        score.perplexity, score.tokens
    ))
}
