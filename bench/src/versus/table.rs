//! A list of comparisons as a table in Markdown.

use super::{Outcome, VersusArgs, alternate, is_python, show};
use crate::list::{self, Entry};
use crate::plot::short;
use crate::{Error, Result, report};

/// Compares what names a peer in the lists, and writes the table.
pub fn run(args: &VersusArgs) -> Result<()> {
    let mut entries = Vec::new();
    for path in &args.list {
        entries.extend(list::read(path)?);
    }
    entries.retain(|entry| entry.against.is_some());
    // One program runs one or several engines; those of another one are left for another call.
    entries.retain(|entry| args.against.is_none() || entry.against == args.against || is_python(&args.peer));
    entries.retain(|entry| args.filter.as_ref().is_none_or(|filter| entry.title().contains(filter.as_str())));
    let mut rows = Vec::new();
    for entry in entries {
        // A Python program is PyTorch, whatever the list compares with.
        let against = match is_python(&args.peer) {
            true => "torch".to_string(),
            false => entry.against.clone().unwrap_or_default(),
        };
        let outcome = alternate(&entry.workload, &entry.params, &args.peer, &against, args.rounds);
        match &outcome {
            Ok(outcome) => show(args, &against, outcome)?,
            Err(why) => eprintln!("warning: {}: {why}", entry.title()),
        }
        rows.push(Row { target: entry.target.filter(|_| !is_python(&args.peer)), entry, against, outcome });
    }
    if rows.is_empty() {
        return Err(Error::new("the lists have nothing to compare with this peer"));
    }
    match &args.out {
        None => Ok(()),
        Some(path) => report::write(path, &markdown(&rows, args.rounds)),
    }
}

struct Row {
    entry: Entry,
    against: String,
    target: Option<f64>,
    outcome: Result<Outcome>,
}

/// The rows as a table, with the circumstances above it.
fn markdown(rows: &[Row], rounds: usize) -> String {
    let mut devices: Vec<&str> = Vec::new();
    for outcome in rows.iter().filter_map(|row| row.outcome.as_ref().ok()) {
        if !devices.contains(&outcome.ours.device.as_str()) {
            devices.push(&outcome.ours.device);
        }
    }
    let adapters = wgrad::adapters();
    let named = |device: &&str| match adapters.iter().find(|adapter| adapter.name == **device) {
        Some(adapter) => format!("{} ({}, {})", adapter.name, adapter.driver, adapter.backend),
        None => (*device).to_string(),
    };
    let devices: Vec<String> = devices.iter().map(named).collect();
    // Paths of this machine say nothing to others.
    let bare =
        |word: String| if word.starts_with('/') { word.rsplit('/').next().unwrap_or_default().into() } else { word };
    let command: Vec<String> = std::env::args().skip(1).map(bare).collect();
    let mut text = format!(
        "- date: {}\n- machine: {}\n- devices: {}\n- commit: {}\n- command: `wgrad-bench {}`\n\n\
         Milliseconds are medians over {rounds} rounds of the fastest run of each; ratios are ours over theirs, below 1 ours is faster; \
         the range is that of single rounds.\n\n\
         | work | against | ours, ms | theirs, ms | ratio | range | target | |\n|---|---|--:|--:|--:|---|--:|---|\n",
        report::today(),
        report::machine(),
        devices.join("; "),
        report::commit(),
        command.join(" "),
    );
    for Row { entry, against, target, outcome } in rows {
        let title = entry.title().replace('|', "/");
        let target_text = target.map_or_else(String::new, |target| format!("{target}"));
        text += &match outcome {
            Err(why) => {
                format!("| `{title}` | {against} | | | | | {target_text} | {} |\n", why.to_string().replace('|', "/"))
            }
            Ok(outcome) => {
                let Outcome { ours_ms, theirs_ms, ratios, .. } = outcome;
                let met = target.map_or("", |target| if outcome.ratio() <= target { "met" } else { "missed" });
                let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
                format!(
                    "| `{title}` | {against} | {} | {} | **{:.2}** | {low:.2} to {high:.2} | {target_text} | {met} |\n",
                    short(*ours_ms),
                    short(*theirs_ms),
                    outcome.ratio(),
                )
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn tables_name_what_was_missed_or_lacking() {
        let row = |line: &str, times: Option<(f64, f64)>| {
            let entry = list::parse(line).unwrap().remove(0);
            let outcome = times.map(|(ours_ms, theirs_ms)| {
                let ours = record("softmax", &[("d", 4)], ours_ms, [None; 3]);
                Outcome { ours, ours_ms, theirs_ms, ratios: vec![ours_ms / theirs_ms; 2] }
            });
            let outcome = outcome.ok_or_else(|| Error::new("burn: no workload copy"));
            Row { target: entry.target, against: "burn".into(), entry, outcome }
        };
        let text = markdown(
            &[
                row("softmax d=4 target=0.8", Some((4.0, 8.0))),
                row("softmax d=4 target=0.8", Some((9.0, 10.0))),
                row("softmax d=4", Some((3.0, 1.0))),
                row("copy n=4 target=0.5", None),
            ],
            2,
        );
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows[0].contains("**0.50**") && rows[0].ends_with("| met |"), "{text}");
        assert!(rows[1].contains("**0.90**") && rows[1].ends_with("| missed |"), "{text}");
        assert!(rows[2].contains("**3.00**") && rows[2].ends_with("|  |"), "{text}");
        assert!(rows[3].contains("no workload copy"), "{text}");
        assert!(text.contains("- devices: cpu\n") && text.contains("2 rounds"));
        let columns = |line: &str| line.matches('|').count();
        assert!(rows.iter().all(|line| columns(line) == 9));
    }
}
