//! The command line.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use wgrad::Device;

use crate::compare::{self, CompareArgs};
use crate::cost::{self, CostArgs};
use crate::ladder::{self, LadderArgs};
use crate::memory::{self, MemoryArgs};
use crate::params::Params;
use crate::plot::{self, PlotArgs};
use crate::suite::{self, SuiteArgs};
use crate::versus::{self, VersusArgs};
use crate::workload::{self, Run};
use crate::{Error, Result};

/// Benchmarks of wgrad.
#[derive(Debug, Parser)]
#[command(name = "wgrad-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Versus(VersusArgs),
    Suite(SuiteArgs),
    Compare(CompareArgs),
    Ladder(LadderArgs),
    Cost(CostArgs),
    Memory(MemoryArgs),
    Plot(PlotArgs),
}

/// Run one workload and print one line of JSON.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
struct RunArgs {
    /// Such as matmul, softmax, attention_bwd, mlm_step.
    workload: String,
    /// Sizes of the workload, and device=cpu|gpu|gpu:N|software, iters=N, warmup=N, check=0, limits=0.
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
}

const RUN_HELP: &str = "Examples:
  wgrad-bench run matmul m=1024 n=1024 k=1024 device=software
  wgrad-bench run attention_bwd b=1 h=8 l=512 dh=64 causal=1 iters=20
  wgrad-bench run mlm_step device=cpu
A wrong name of a workload or of a key gives the list of right ones.";

/// Parses the arguments of this process and does what they say. An error becomes one sentence on standard error and exit code 1;
/// arguments that cannot be parsed give exit code 2.
pub fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // On a machine without a desktop, Mesa's device selection layer would print that it found none.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let done = match cli.command {
        Command::Run(args) => run(&args),
        Command::Versus(args) => versus::run(&args),
        Command::Suite(args) => suite::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Ladder(args) => ladder::run(&args),
        Command::Cost(args) => cost::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Plot(args) => plot::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> Result<()> {
    let mut params = Params::parse(&args.params)?;
    let device = device(params.take("device").as_deref())?;
    let run = Run::take(&mut params)?;
    print(&format!("{}\n", workload::run(&args.workload, params, &device, run)?))
}

/// The device of this name; without a name the best, or that of `WGRAD_DEVICE`.
///
/// # Errors
/// If it is not there.
pub fn device(name: Option<&str>) -> Result<Device> {
    Ok(name.map_or_else(Device::best, Device::by_name)?)
}

/// Prints to standard output. A reader that has gone, as in `| head`, is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::new(format!("standard output: {why}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
