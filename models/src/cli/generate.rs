//! `wgrad generate`

use std::path::PathBuf;

use clap::Args;
use wgrad::nn::Precision;

use super::args::DeviceArgs;
use crate::front::codec::Codec;
use crate::generate::{Choice, Settings, ends, generate_all};
use crate::{Result, zoo};

const EXAMPLES: &str = "Examples:
  wgrad generate path/to/gpt2 \"Once upon a time\"
  wgrad generate path/to/llama \"The sea is\" --temperature 0.8 --top-p 0.95 --seed 3
  wgrad generate path/to/gpt2 \"One\" \"Once upon a time\" \"It was\"        each goes on, on a line of its own
  wgrad generate path/to/t5 \"translate English to German: Good morning.\" --beams 4
  wgrad generate path/to/model \"15496 11 995\" --most 20       token ids, where the folder has no tokenizer.json";

/// Go on with a text, or answer it if the model has an encoder
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// Folder with config.json, model.safetensors and, for words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// The texts to go on with, each on its own; token ids if the folder has no tokenizer.json
    #[arg(value_name = "TEXT", required = true)]
    pub prompts: Vec<String>,
    /// Most new tokens
    #[arg(long, value_name = "TOKENS", default_value = "64")]
    pub most: usize,
    /// Draw tokens, the likely ones the likelier the smaller this is [default: take the likeliest]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Draw among so many of the likeliest tokens
    #[arg(long, value_name = "COUNT")]
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that have this probability together
    #[arg(long, value_name = "SHARE")]
    pub top_p: Option<f64>,
    /// Seed of the draws
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Search with so many texts at a time, and print the likeliest in the end
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["temperature", "top_k", "top_p"])]
    pub beams: Option<usize>,
    /// What weights and activations are stored in: f32, f16 or bf16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl GenerateArgs {
    fn choice(&self) -> Choice {
        let draws = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        match self.beams {
            Some(width) => Choice::Beams { width, length_penalty: 1.0 },
            None if draws => Choice::Draw {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(0),
                top_p: self.top_p.unwrap_or(1.0),
                seed: self.seed,
            },
            None => Choice::Greedy,
        }
    }
}

/// Prints each token as it comes.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let codec = Codec::open(&args.model)?;
    let prompts: Vec<Vec<u32>> = args.prompts.iter().map(|prompt| codec.encode(prompt, true)).collect::<Result<_>>()?;
    let device = args.device.open()?;
    let model = zoo::load(&args.model, args.precision.dtype(), &device)?;
    let settings = Settings { choice: args.choice(), most: args.most, ends: ends(&args.model, &model.config().json()) };
    let (mut ids, mut printed, mut of) = (Vec::new(), String::new(), 0);
    generate_all(&model, &prompts, &settings, &device, &mut |number, token| {
        while of < number {
            super::print("\n")?;
            (ids, printed, of) = (Vec::new(), String::new(), of + 1);
        }
        ids.push(token);
        let text = codec.decode(&ids)?;
        // A character may take several tokens: half of one is not printed.
        if let (Some(more), false) = (text.strip_prefix(&printed), text.ends_with('\u{fffd}')) {
            super::print(more)?;
            printed = text;
        }
        Ok(true)
    })?;
    super::print(&"\n".repeat(prompts.len() - of))
}
