//! How the time of a training step grows with batch, length, depth and width.

use std::path::PathBuf;

use clap::Args;

use crate::params::Params;
use crate::report::{Kind, Report};
use crate::suite::{run_all, table};
use crate::{Result, cli};

/// Time a training step in growing sizes, one at a time, and write a report; `plot` fits the slopes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wgrad-bench cost device=cpu --out cost.json
  wgrad-bench cost device=gpu b=8 l=128 d=256 h=4 layers=4 vocab=8192 --doublings 4 --out cost.json
  wgrad-bench plot cost.json --out cost.svg")]
pub struct CostArgs {
    /// Sizes from which each one grows (b=4 l=64 d=64 h=2 layers=2 vocab=512), and device=, iters=, warmup=.
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// How often each size is doubled.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    doublings: u32,
    /// The report.
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
}

/// The sizes that grow, with their names for people.
pub const AXES: [(&str, &str); 4] = [("b", "batch"), ("l", "length"), ("layers", "depth"), ("d", "width")];

/// Where they start.
const BASE: [(&str, usize); 6] = [("b", 4), ("l", 64), ("d", 64), ("h", 2), ("layers", 2), ("vocab", 512)];

/// Does what the arguments say.
///
/// # Errors
/// If a step fails or gives wrong losses, or the file cannot be written.
pub fn run(args: &CostArgs) -> Result<()> {
    let mut params = Params::parse(&args.params)?;
    let device = cli::device(params.take("device").as_deref())?;
    let mut base = Vec::new();
    for (key, default) in BASE {
        let value = params.take_number(key, 1)?.unwrap_or(default);
        params.set(key, value);
        base.push((key, value));
    }
    let value = |key: &str| base.iter().find(|(name, _)| *name == key).map_or(1, |(_, value)| *value);
    let mut runs = vec![("mlm_step".to_string(), params.clone())];
    for (key, _) in AXES {
        for doubling in 1..=args.doublings {
            let mut grown = params.clone();
            grown.set(key, value(key) << doubling);
            runs.push(("mlm_step".to_string(), grown));
        }
    }
    let records = run_all(&device, runs)?;
    cli::print(&table(&records))?;
    Report::new(Kind::Cost, &device, records)?.save(&args.out)
}
