//! `wgrad embed`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::DeviceArgs;
use crate::embed::{Pool, embed, nearest, write_npy};
use crate::front::codec::Codec;
use crate::{Result, fsx, zoo};

const EXAMPLES: &str = "Examples:
  wgrad embed path/to/all-mpnet-base-v2 sentences.txt --unit --out vectors.npy
  wgrad embed path/to/bert sentences.txt --pool cls > vectors.jsonl
  wgrad embed path/to/bert sentences.txt --nearest 3";

/// Turn the lines of a file into vectors
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct EmbedArgs {
    /// Folder with config.json, model.safetensors and, for words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// A text a line; token ids if the folder has no tokenizer.json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What of a text's states makes its vector
    #[arg(long, value_enum, default_value = "mean")]
    pub pool: Pool,
    /// Vectors of length 1
    #[arg(long)]
    pub unit: bool,
    /// A file in NumPy's format [default: JSON lines on standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print so many nearest neighbours of each line instead of vectors
    #[arg(long, value_name = "COUNT")]
    pub nearest: Option<usize>,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Writes vectors, or prints neighbours.
pub fn run(args: &EmbedArgs) -> Result<()> {
    let codec = Codec::open(&args.model)?;
    let text = fsx::read_text(&args.file)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let device = args.device.open()?;
    let loaded = zoo::load(&args.model, wgrad::DType::F32, &device)?;
    let model = loaded.text()?;
    let longest = model.about().longest.unwrap_or(usize::MAX);
    let cut = |line: &&str| codec.encode(line, true).map(|ids| ids[..ids.len().min(longest)].to_vec());
    let texts = lines.iter().map(cut).collect::<Result<Vec<_>>>()?;
    let vectors = embed(model, &texts, args.pool, args.unit, &device)?;
    let width = model.about().hidden;
    let mut shown = String::new();
    if let Some(count) = args.nearest {
        for (line, near) in lines.iter().zip(nearest(&vectors, width, count)) {
            shown.push_str(&format!("{line}\n"));
            near.iter().for_each(|(other, cosine)| shown.push_str(&format!("  {cosine:.4}  {}\n", lines[*other])));
        }
        return super::print(&shown);
    }
    if let Some(path) = &args.out {
        return write_npy(path, &vectors, width);
    }
    for (line, vector) in lines.iter().zip(vectors.chunks(width.max(1))) {
        shown.push_str(&format!("{}\n", json!({ "text": line, "vector": vector })));
    }
    super::print(&shown)
}
