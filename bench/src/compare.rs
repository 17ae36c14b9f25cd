//! Two reports beside each other.

use std::path::PathBuf;

use clap::Args;

use crate::measure::median;
use crate::record::Record;
use crate::report::Report;
use crate::{Error, Result, cli};

/// Print the ratios of the times in two reports: below 1, the second is faster.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The earlier or reference report.
    before: PathBuf,
    /// The later one.
    after: PathBuf,
}

/// Does what the arguments say.
///
/// # Errors
/// If a file is no report, or they have nothing in common.
pub fn run(args: &CompareArgs) -> Result<()> {
    let (before, after) = (Report::load(&args.before)?, Report::load(&args.after)?);
    let text = compare(&before.records, &after.records)
        .ok_or_else(|| Error::new("the reports have no workload of the same sizes in common"))?;
    cli::print(&format!("before: {}\nafter:  {}\n{text}", before.caption(), after.caption()))
}

/// A table by workload; None if there is none in both.
fn compare(before: &[Record], after: &[Record]) -> Option<String> {
    let same = |a: &&Record, b: &Record| a.title() == b.title();
    let pairs: Vec<(&Record, &Record)> =
        after.iter().filter_map(|b| Some((before.iter().find(|a| same(a, b))?, b))).collect();
    let width = pairs.iter().map(|(a, _)| a.title().len()).max()?;
    let mut text = format!("{:width$} {:>11} {:>11} {:>7}\n", "", "before ms", "after ms", "ratio");
    let mut ratios = Vec::new();
    for (a, b) in pairs {
        let ratio = b.median_ms / a.median_ms;
        ratios.push(ratio);
        text += &format!("{:width$} {:>11.4} {:>11.4} {ratio:>7.3}\n", a.title(), a.median_ms, b.median_ms);
    }
    ratios.sort_by(f64::total_cmp);
    text += &format!("{:width$} {:>11} {:>11} {:>7.3}\n", "median", "", "", median(&ratios));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn ratios_of_what_is_in_both() {
        let before = [record("copy", &[("n", 4)], 2.0, [None; 3]), record("copy", &[("n", 8)], 4.0, [None; 3])];
        let after = [record("copy", &[("n", 8)], 1.0, [None; 3]), record("fill", &[("n", 8)], 1.0, [None; 3])];
        let text = compare(&before, &after).unwrap();
        assert!(text.lines().count() == 3 && text.contains("0.250") && !text.contains("n=4"), "{text}");
        assert!(compare(&before, &after[1..]).is_none());
    }
}
