//! Arguments of the subcommands.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, FromArgMatches, Subcommand};
use wgrad::nn::Precision;

use super::compare::CompareArgs;

const TRAIN_EXAMPLES: &str = "Examples:
  wgrad train                                  learn wgrad's own sources
  wgrad train --text notes/ book.txt           learn your own text
  wgrad train --seconds 600 --hidden 256       ten minutes with a wider model
  wgrad train --decoder                        a small Llama that writes, for `wgrad generate` and `wgrad sparsify`
  wgrad train --resume runs/mlm                go on after an interruption
  wgrad train --profile trace.json             see what takes the time
  WGRAD_DEVICE=software wgrad train            on a software Vulkan driver";

const FILL_MASK_EXAMPLES: &str = "Examples:
  wgrad fill-mask \"every kernel is one [MASK] file\"
  wgrad fill-mask --model path/to/bert-base-uncased \"Paris is the [MASK] of France.\"
  echo \"a [MASK] of tensors\" | wgrad fill-mask --top 10";

const SYSTEMS_EXAMPLES: &str = "Examples:
  wgrad systems list                           what is there, as a table
  wgrad systems list --json                    the same for programs
  wgrad systems run electra                    check the property its paper is known for
  wgrad systems run all --out verdicts.md      check every system, and keep the verdicts
  wgrad systems compare norms                  train placements of norms side by side, and draw them";

const RUN_EXAMPLES: &str = "Examples:
  wgrad systems run ngpt
  wgrad systems run nf-resnet --pictures runs/pictures
  wgrad systems run all --out verdicts.md
  wgrad systems run all --out verdicts.md --resume    go on after an interruption";

/// Train a small language model on text: a BERT on masked tokens, or a Llama on the next one
#[derive(Debug, Clone, Args)]
#[command(after_help = TRAIN_EXAMPLES)]
pub struct TrainArgs {
    /// Train a decoder (Llama) on the next token of pieces of bytes, in place of an encoder (BERT) on masked word pieces
    #[arg(long)]
    pub decoder: bool,
    /// Files or folders to learn from [default: wgrad's own sources and documents]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Folder for checkpoints, tokenizer, loss curve and summary [default: runs/mlm, or of a decoder runs/lm; if that is taken runs/mlm-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder, from its last checkpoint and with its settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["decoder", "out", "text", "seed", "vocab", "precision", "shape"])]
    pub resume: Option<PathBuf>,
    /// Training steps; what of --steps and --seconds is reached first ends the run
    #[arg(long, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub steps: Option<u64>,
    /// Training time in seconds
    #[arg(long, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub seconds: Option<u64>,
    /// Steps between checkpoints; there is one at the end in any case
    #[arg(long, value_name = "STEPS", default_value = "200", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub save_every: u64,
    /// Pieces in the vocabulary, special tokens included; of a decoder 261 are bytes alone
    #[arg(long, default_value = "2048", value_parser = size(64, 1 << 20))]
    pub vocab: usize,
    /// Sizes of the model and of its batches
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Largest learning rate
    #[arg(long, default_value = "2e-3", value_parser = positive)]
    pub lr: f32,
    /// Seed of the initial parameters, of the order of the text and of the masks
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// What parameters and activations are stored in: f32, f16 (with scaled losses) or bf16; sums and master weights are f32
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
    /// Profile one step late in the run: prints the time of each kernel, and writes a trace for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl Default for TrainArgs {
    /// What an empty command line gives.
    fn default() -> Self {
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        let parsed = command.get_matches_from(["train"]);
        match TrainArgs::from_arg_matches(&parsed) {
            Ok(args) => args,
            Err(error) => error.exit(),
        }
    }
}

/// Sizes of a model and of its batches.
#[derive(Debug, Clone, Args)]
#[group(id = "shape", multiple = true)]
pub struct ShapeArgs {
    /// Rows in a batch
    #[arg(long, value_name = "ROWS", default_value = "8", value_parser = size(1, 1 << 16))]
    pub batch: usize,
    /// Tokens in a row
    #[arg(long, value_name = "TOKENS", default_value = "64", value_parser = size(8, 1 << 16))]
    pub length: usize,
    /// Width of the model; a multiple of --heads
    #[arg(long, value_name = "WIDTH", default_value = "128", value_parser = size(1, 1 << 16))]
    pub hidden: usize,
    /// Transformer layers
    #[arg(long, default_value = "2", value_parser = size(1, 1 << 10))]
    pub layers: usize,
    /// Attention heads in a layer
    #[arg(long, default_value = "4", value_parser = size(1, 1 << 10))]
    pub heads: usize,
}

/// The device to run on.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// cpu, gpu, gpu:N (see `wgrad devices`) or software [default: WGRAD_DEVICE, else the best GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
}

impl DeviceArgs {
    /// Opens the device that was named, or the best one.
    pub fn open(&self) -> crate::Result<wgrad::Device> {
        let Some(name) = &self.device else { return Ok(wgrad::Device::best()?) };
        let device = wgrad::Device::by_name(name)?;
        log::info!("device: {device}");
        Ok(device)
    }
}

/// Fills the `[MASK]` tokens of sentences.
#[derive(Debug, Clone, Args)]
#[command(about = "Fill the [MASK] tokens of sentences", after_help = FILL_MASK_EXAMPLES)]
pub struct FillMaskArgs {
    /// Sentences with `[MASK]` in them; without any, the lines of standard input.
    #[arg(help = "Sentences with [MASK] in them [default: lines of standard input]")]
    pub sentences: Vec<String>,
    /// Folder with config.json, model.safetensors and tokenizer.json
    #[arg(long, value_name = "DIR", default_value = "runs/mlm")]
    pub model: PathBuf,
    /// Candidates to show for each mask
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = size(1, 1000))]
    pub top: usize,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// List the adapters of this machine: driver, limits, and the features that wgrad uses
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  wgrad devices\n  wgrad devices --json\n  WGRAD_DEVICE=gpu:1 wgrad train")]
pub struct DevicesArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// List the model systems, or check the properties their papers are known for
#[derive(Debug, Clone, Args)]
#[command(after_help = SYSTEMS_EXAMPLES)]
pub struct SystemsArgs {
    /// What to do
    #[command(subcommand)]
    pub action: SystemsAction,
}

/// What to do with the systems.
#[derive(Debug, Clone, Subcommand)]
pub enum SystemsAction {
    /// Print name, title and paper of each system
    #[command(after_help = "Examples:\n  wgrad systems list\n  wgrad systems list --json")]
    List {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Run the checks of systems; the exit code is 1 if one of them fails
    #[command(after_help = RUN_EXAMPLES)]
    Run(SystemsRunArgs),
    /// Train variants side by side
    Compare(CompareArgs),
}

/// Arguments of `systems run`.
#[derive(Debug, Clone, Args)]
pub struct SystemsRunArgs {
    /// Names as `wgrad systems list` prints them, or `all`
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// Run every system
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Seed of the checks' random numbers
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Keep the verdicts in this file after each check: as JSON in FILE.json, and as a table in FILE.md
    #[arg(long, value_name = "FILE", value_parser = super::verdicts::file)]
    pub out: Option<PathBuf>,
    /// Go on with an interrupted run: leave out the systems whose verdicts are in the file of --out
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Folder for the pictures of systems that draw one
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

pub(super) fn size(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

pub(super) fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a positive number is expected".into()),
    }
}
