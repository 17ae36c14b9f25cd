//! How the memory of a workload grows with the length.

use std::path::PathBuf;

use clap::Args;

use crate::params::Params;
use crate::plot::growth::Series;
use crate::report::{date_and_commit, machine, write};
use crate::{Error, Result, cli, plot, workload};

/// Run workloads in growing lengths, each on a device opened for it, and draw the peak of the device's memory.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  wgrad-bench memory sparse_attention_bwd h=1 density=0.02 topk_attention_bwd h=1 k=16 --device software --out memory.svg")]
pub struct MemoryArgs {
    /// Workloads that have a length l=, each before the sizes of it that do not grow.
    #[arg(required = true, value_name = "WORKLOAD [KEY=VALUE]..")]
    words: Vec<String>,
    /// The first length.
    #[arg(long, default_value_t = 1024)]
    l: usize,
    /// How often it is doubled.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
    doublings: u32,
    /// cpu, gpu, gpu:N or software; by default the best.
    #[arg(long)]
    device: Option<String>,
    /// The picture.
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
}

/// Does what the arguments say.
///
/// # Errors
/// If a workload fails, or the picture cannot be written.
pub fn run(args: &MemoryArgs) -> Result<()> {
    if let Some(size) = args.words.first().filter(|word| word.contains('=')) {
        return Err(Error::new(format!("{size} stands before a workload")));
    }
    let mut all = Vec::new();
    let mut of_device = String::new();
    let starts = args.words.iter().enumerate().filter(|(_, word)| !word.contains('=')).map(|(at, _)| at);
    for start in starts {
        let (name, rest) = (&args.words[start], &args.words[start + 1..]);
        let sizes: Vec<&String> = rest.iter().take_while(|word| word.contains('=')).collect();
        let mut points = Vec::new();
        for doubling in 0..=args.doublings {
            let device = cli::device(args.device.as_deref())?;
            let mut params = Params::parse(&sizes)?;
            params.set("l", args.l << doubling);
            let (mut work, _) = workload::prepare(name, params, &device)?;
            (work.step)()?;
            device.sync()?;
            let peak = device.memory().peak_bytes as f64 / f64::from(1 << 20);
            cli::print(&format!("{name} l={}: {peak:.1} MiB\n", args.l << doubling))?;
            points.push((f64::from(1u32 << doubling), peak));
            of_device = device.to_string();
        }
        let name = std::iter::once(name).chain(sizes).cloned().collect::<Vec<_>>().join(" ");
        all.push(Series { name, points });
    }
    let about = format!("from l={}; {of_device} on {}, {}", args.l, machine(), date_and_commit());
    write(&args.out, &plot::lines("Peak of the device's memory, the length growing", &about, "MiB", &all))
}
