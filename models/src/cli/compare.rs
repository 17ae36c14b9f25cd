//! `wgrad systems compare`

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::args::{DeviceArgs, positive, size};
use super::{free_folder, print};
use crate::compare::{Settings, compare};
use crate::placement::Placement;
use crate::{Error, Result};

const EXAMPLES: &str = "Examples:
  wgrad systems compare norms                  all placements in 12 thin layers: minutes on two CPU cores
  wgrad systems compare norms --layers 48 --placements pre,post,peri,deepnorm
  wgrad systems compare norms --resume runs/norms";

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compared {
    /// Placements of norms.
    Norms,
}

/// Train variants of a model side by side on one text, and draw how they learn
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompareArgs {
    /// What to compare
    #[arg(value_name = "WHAT")]
    pub what: Compared,
    /// Placements, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub placements: Vec<Placement>,
    /// Files or folders to learn from [default: wgrad's own sources and documents]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Folder for the courses of training, checkpoints and the picture [default: runs/norms, or runs/norms-2 if that is taken, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the comparison in this folder, with its settings
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "text", "placements", "steps", "lr", "seed", "shape"])]
    pub resume: Option<PathBuf>,
    /// Training steps of each
    #[arg(long, default_value = "300", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub steps: u64,
    /// Largest learning rate; five times as large on the sphere
    #[arg(long, default_value = "1e-3", value_parser = positive)]
    pub lr: f32,
    /// Seed of the initial parameters and of the order of the text
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Sizes of the models and of their batches
    #[command(flatten)]
    pub shape: DeepArgs,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Sizes of deep and thin models and of their batches.
#[derive(Debug, Clone, Args)]
#[group(id = "shape", multiple = true)]
pub struct DeepArgs {
    /// Rows in a batch
    #[arg(long, value_name = "ROWS", default_value = "6", value_parser = size(1, 1 << 16))]
    pub batch: usize,
    /// Bytes in a row
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size(2, 1 << 16))]
    pub length: usize,
    /// Width of the models; a multiple of --heads
    #[arg(long, value_name = "WIDTH", default_value = "64", value_parser = size(1, 1 << 16))]
    pub hidden: usize,
    /// Transformer layers
    #[arg(long, default_value = "12", value_parser = size(1, 1 << 10))]
    pub layers: usize,
    /// Attention heads in a layer
    #[arg(long, default_value = "4", value_parser = size(1, 1 << 10))]
    pub heads: usize,
}

/// Compares what was named, or goes on with it.
pub fn run(args: &CompareArgs) -> Result<()> {
    // There is nothing else yet.
    let Compared::Norms = args.what;
    let shape = &args.shape;
    let (settings, folder) = match &args.resume {
        Some(folder) => (Settings::read(folder)?, folder.clone()),
        None => {
            let all = if args.placements.is_empty() { &Placement::ALL[..] } else { &args.placements };
            let settings = Settings {
                placements: all.iter().map(Placement::to_string).collect(),
                text: args.text.clone(),
                layers: shape.layers,
                hidden: shape.hidden,
                heads: shape.heads,
                length: shape.length,
                rows: shape.batch,
                steps: args.steps,
                lr: f64::from(args.lr),
                seed: args.seed,
            };
            (settings, free_folder(args.out.as_deref(), "runs/norms", Settings::are_in)?)
        }
    };
    if !settings.hidden.is_multiple_of(settings.heads) {
        let message = format!("{} is not a multiple of --heads {}", settings.hidden, settings.heads);
        return Err(Error::argument("--hidden", message));
    }
    let device = args.device.open()?;
    print(&compare(&settings, &folder, &device)?)
}
