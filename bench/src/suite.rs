//! Runs of many workloads: the suite, the ladder of kernels, the cost of a step in growing sizes.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use wgrad::Device;

use crate::params::Params;
use crate::record::Record;
use crate::report::{Kind, Report};
use crate::workload::{self, Run};
use crate::{Error, Result, cli, list};

/// Run the workloads of a list, each in sizes that suit the device, and write a report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wgrad-bench suite --device software --out software.json
  wgrad-bench suite --filter attention --out attention.json
  wgrad-bench plot software.json --out software.svg")]
pub struct SuiteArgs {
    /// Only workloads whose line contains this text.
    #[arg(long)]
    filter: Option<String>,
    /// cpu, gpu, gpu:N or software; by default the best.
    #[arg(long)]
    device: Option<String>,
    /// The workloads, a line each, instead of the list of bench/lists that suits the device.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// More keys for each workload, such as batch=20.
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
    /// The report.
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
}

/// Does what the arguments say.
///
/// # Errors
/// If a workload fails or gives wrong results, or the file cannot be written.
pub fn run(args: &SuiteArgs) -> Result<()> {
    let device = cli::device(args.device.as_deref())?;
    let mut entries = match &args.list {
        Some(path) => list::read(path)?,
        None => list::parse(list::for_device(&device))?,
    };
    if let Some(filter) = &args.filter {
        entries.retain(|entry| entry.title().contains(filter.as_str()));
        if entries.is_empty() {
            return Err(Error::new(format!("no workload of the suite contains {filter:?}")));
        }
    }
    let keys = Params::parse(&args.keys)?;
    let bar = progress(entries.len());
    let (mut records, mut failed) = (Vec::new(), 0);
    for entry in entries {
        let title = entry.title();
        bar.set_message(title.clone());
        let mut params = entry.params;
        params.take("device");
        params.extend(&keys);
        match one(&device, &entry.workload, params) {
            Ok(record) => records.push(record),
            Err(why) => {
                failed += 1;
                bar.println(format!("{title}: {why}"));
            }
        }
        // Each time, so that a run that is cut short leaves what it has.
        Report::new(Kind::Suite, &device, records.clone())?.save(&args.out)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    cli::print(&table(&records))?;
    match failed {
        0 => Ok(()),
        n => Err(Error::new(format!("{n} workloads failed"))),
    }
}

fn one(device: &Device, workload: &str, mut params: Params) -> Result<Record> {
    let run = Run::take(&mut params)?;
    workload::run(workload, params, device, run)
}

/// Runs workloads in turn and shows on standard error how far they are.
///
/// # Errors
/// The first that fails.
pub fn run_all(device: &Device, runs: Vec<(String, Params)>) -> Result<Vec<Record>> {
    let bar = progress(runs.len());
    let each = |(workload, params): (String, Params)| {
        bar.set_message(std::iter::once(workload.clone()).chain(params.words()).collect::<Vec<_>>().join(" "));
        let record = one(device, &workload, params)?;
        bar.inc(1);
        Ok(record)
    };
    let records = runs.into_iter().map(each).collect();
    bar.finish_and_clear();
    records
}

/// A bar with the current work beside it.
pub fn progress(length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30.cyan/blue} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(length as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The records for people.
pub fn table(records: &[Record]) -> String {
    let titles: Vec<String> = records.iter().map(Record::title).collect();
    let width = titles.iter().map(String::len).max().unwrap_or(0);
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
    let percent = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{:.0} %", value * 100.0));
    let mut text = format!("{:width$} {:>10} {:>9} {:>7} {:>9}\n", "", "median ms", "GFLOP/s", "GB/s", "of limit");
    for (record, title) in records.iter().zip(titles) {
        let Record { median_ms, gflops, gbps, limit_fraction, .. } = record;
        let (gflops, gbps, limit) = (number(*gflops), number(*gbps), percent(*limit_fraction));
        text += &format!("{title:width$} {median_ms:>10.3} {gflops:>9} {gbps:>7} {limit:>9}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn tables_line_up() {
        let records = [
            record("matmul", &[("m", 512)], 2.5, [Some(100.0), Some(1.0), Some(0.456)]),
            record("dispatch", &[("n", 1)], 0.25, [None; 3]),
        ];
        let text = table(&records);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(lines[1].contains("46 %") && lines[2].ends_with('-'));
    }
}
