//! A matrix product by each family of kernels in turn, from the naive one to what the engine chooses.

use std::path::PathBuf;

use clap::Args;
use wgrad::{MatmulFamily, force_matmul, matmul_families};

use crate::params::Params;
use crate::report::{Kind, Report};
use crate::suite::{progress, table};
use crate::workload::{self, Run};
use crate::{Error, Result, cli};

/// Run a matrix product by each family of kernels and write a report; `plot` draws it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wgrad-bench ladder matmul device=software --out ladder.json
  wgrad-bench ladder matmul m=4096 n=4096 k=4096 device=gpu --out ladder.json
  wgrad-bench ladder matmul m=4096 n=4096 k=4096 dtype=f16 device=gpu
The families are those of shaders/matmul/ that the device can run, the last step is what the engine chooses by itself.")]
pub struct LadderArgs {
    /// The workload: matmul.
    #[arg(value_parser = ["matmul"])]
    workload: String,
    /// m=, n=, k= (512), b= (1), dtype= (f32), device=, iters=, warmup=.
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// The report.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
}

/// Does what the arguments say.
///
/// # Errors
/// If the device does not open, a kernel fails or is wrong, or the file cannot be written.
pub fn run(args: &LadderArgs) -> Result<()> {
    let mut params = Params::parse(&args.params)?;
    let device = cli::device(params.take("device").as_deref())?;
    let run = Run::take(&mut params)?;
    let halves = params.clone().choice("dtype", &["f32", "f16", "bf16"])? == "f16";
    // Matrix units multiply f16 alone.
    let fits = |family: &MatmulFamily| !family.on_units() || halves;
    let mut steps: Vec<Option<MatmulFamily>> = matmul_families(&device).into_iter().filter(fits).map(Some).collect();
    steps.push(None);
    let bar = progress(steps.len());
    let mut records = Vec::new();
    for (family, number) in steps.into_iter().zip(1..) {
        let name = family.map_or_else(|| "chosen".into(), |family| format!("{family:?}").to_lowercase());
        bar.set_message(name.clone());
        let product = || workload::run(&args.workload, params.clone(), &device, run);
        let mut record = match family {
            Some(family) => force_matmul(family, 1, product),
            None => product(),
        }
        .map_err(|why| Error::new(format!("{name}: {why}")))?;
        record.params.insert("step".into(), format!("{number} {name}").into());
        records.push(record);
        bar.inc(1);
    }
    bar.finish_and_clear();
    cli::print(&table(&records))?;
    match &args.out {
        Some(path) => Report::new(Kind::Ladder, &device, records)?.save(path),
        None => Ok(()),
    }
}
