//! Horizontal bars: fractions of the limit, and the ladder of kernels.

use super::canvas::{Anchor, Canvas, LEFT, RIGHT};
use super::roofline::brief;
use super::short;
use crate::record::Record;
use crate::report::Report;

const ROW: f64 = 24.0;
/// Where bars begin: before it stands the name.
const BEGIN: f64 = LEFT + 290.0;
/// Where a full bar ends: after it stands the value.
const END: f64 = RIGHT - 92.0;

/// A bar with its name before it and its value after it, on a ground as long as the whole.
fn bar(canvas: &mut Canvas, y: f64, colour: &str, name: &str, share: f64, value: &str) {
    canvas.text("name", (BEGIN - 12.0, y + 14.0), Anchor::End, name);
    canvas.bar("empty", (BEGIN, y + 2.0), END - BEGIN, ROW - 7.0);
    canvas.bar(colour, (BEGIN, y + 2.0), share.clamp(0.002, 1.0) * (END - BEGIN), ROW - 7.0);
    canvas.text("", (END + 10.0, y + 14.0), Anchor::Start, value);
}

/// What each run reaches of its limit; says whether there was any.
pub fn fractions(canvas: &mut Canvas, report: &Report) -> bool {
    let with_limit = |record: &Record| Some((record.limit_fraction?, record.gflops.is_some(), brief(&record.title())));
    let runs: Vec<(f64, bool, String)> = report.records.iter().filter_map(with_limit).collect();
    if runs.is_empty() {
        return false;
    }
    let top = canvas.panel(74.0 + runs.len() as f64 * ROW + 54.0, "Fraction of the device's limit", &report.caption());
    for (n, (fraction, arithmetic, name)) in runs.iter().enumerate() {
        let colour = if *arithmetic { "f0" } else { "f2" };
        let value = format!("{:.0} %", fraction * 100.0);
        bar(canvas, top + n as f64 * ROW, colour, name, *fraction, &value);
    }
    let y = top + runs.len() as f64 * ROW + 24.0;
    let (gflops, gbps) = (short(report.limits.gflops), short(report.limits.gbps));
    canvas.bar("f0", (BEGIN, y - 10.0), 12.0, 12.0);
    canvas.text("", (BEGIN + 18.0, y), Anchor::Start, &format!("of {gflops} GFLOP/s, or of memory if that is slower"));
    canvas.bar("f2", (BEGIN, y + 8.0), 12.0, 12.0);
    canvas.text(
        "",
        (BEGIN + 18.0, y + 18.0),
        Anchor::Start,
        &format!("of {gbps} GB/s, the rate of a copy (more: in the cache)"),
    );
    true
}

/// The steps from the naive kernel on; says whether there were any.
pub fn ladder(canvas: &mut Canvas, report: &Report) -> bool {
    let step = |record: &Record| {
        Some((record.params.get("step")?.as_str()?.to_string(), record.gflops?, record.limit_fraction))
    };
    let steps: Vec<_> = report.records.iter().filter_map(step).collect();
    let Some(best) = steps.iter().map(|step| step.1).reduce(f64::max) else { return false };
    let first = &report.records[0];
    let size = |key: &str| first.params.get(key).map_or_else(String::new, ToString::to_string);
    let title = format!("Ladder: {} {} x {} x {}", first.workload, size("m"), size("k"), size("n"));
    let top = canvas.panel(74.0 + steps.len() as f64 * (ROW + 8.0) + 24.0, &title, &report.caption());
    for (n, (name, gflops, fraction)) in steps.iter().enumerate() {
        let y = top + n as f64 * (ROW + 8.0);
        let colour = if n + 1 == steps.len() { "f1" } else { "f0" };
        let factor = gflops / steps[0].1;
        let limit = fraction.map_or_else(String::new, |fraction| format!(", {:.0} %", fraction * 100.0));
        let value = format!("{} x{limit}", if n == 0 { "1".into() } else { format!("{factor:.1}") });
        bar(canvas, y, colour, name, gflops / best, &value);
        let inside = format!("{} GFLOP/s", short(*gflops));
        let end = BEGIN + gflops / best * (END - BEGIN);
        match gflops / best > 0.3 {
            true => canvas.text("on", (end - 8.0, y + 13.5), Anchor::End, &inside),
            false => canvas.text("", (end + 8.0, y + 14.0), Anchor::Start, &inside),
        }
    }
    true
}
