//! `wgrad inspect`

use std::path::PathBuf;

use clap::Args;

use crate::Result;
use crate::inspect::describe;

/// Show the modules of a model: shapes, parameters, memory by dtype
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  wgrad inspect path/to/bert-base-uncased\n  wgrad inspect runs/mlm")]
pub struct InspectArgs {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
}

/// Prints the tree.
pub fn run(args: &InspectArgs) -> Result<()> {
    super::print(&describe(&args.model)?)
}
