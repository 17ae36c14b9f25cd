//! The roofline: what a kernel reaches, over how much arithmetic it does for a byte.

use super::canvas::{Anchor, Canvas, LEFT, RIGHT};
use super::scale::{Axis, label};
use super::short;
use crate::record::Record;
use crate::report::Report;

const HEIGHT: f64 = 330.0;

/// Draws the runs that have both arithmetic and bytes; says whether there were any.
pub fn draw(canvas: &mut Canvas, report: &Report) -> bool {
    let point = |record: &Record| Some((record.gflops? / record.gbps?, record.gflops?, record.title()));
    let mut points: Vec<(f64, f64, String)> = report.records.iter().filter_map(point).collect();
    if points.is_empty() {
        return false;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rows = points.len().div_ceil(2) as f64;
    let top = canvas.panel(74.0 + HEIGHT + 66.0 + rows * 20.0, "Roofline", &report.caption());
    let bottom = top + HEIGHT;
    let (peak, rate) = (report.limits.gflops, report.limits.gbps);
    let ridge = peak / rate;
    let x = Axis::new(points.iter().map(|p| p.0).chain([ridge / 8.0, ridge * 4.0]), (LEFT, RIGHT));
    let y = Axis::new(points.iter().map(|p| p.1).chain([peak]), (bottom, top));
    for tick in y.ticks() {
        canvas.line("grid", &[(LEFT, y.pixel(tick)), (RIGHT, y.pixel(tick))]);
        canvas.text("", (LEFT - 10.0, y.pixel(tick) + 4.0), Anchor::End, &label(tick));
    }
    for tick in x.ticks() {
        canvas.line("axis", &[(x.pixel(tick), bottom), (x.pixel(tick), bottom + 5.0)]);
        canvas.text("", (x.pixel(tick), bottom + 20.0), Anchor::Middle, &label(tick));
    }
    canvas.line("axis", &[(LEFT, bottom), (RIGHT, bottom)]);
    canvas.text("", ((LEFT + RIGHT) / 2.0, bottom + 40.0), Anchor::Middle, "operations for a byte that must move");
    canvas.upright((22.0, (top + bottom) / 2.0), "GFLOP/s");

    // The slope as far as it is inside, then the flat roof.
    let lowest = x.ends().0.max(y.ends().0 / rate);
    let roof = [(lowest, lowest * rate), (ridge, peak), (x.ends().1, peak)];
    canvas.line("roof", &roof.map(|(a, b)| (x.pixel(a), y.pixel(b))));
    let flat = format!("{} GFLOP/s: multiply-adds alone", short(peak));
    canvas.text("", (RIGHT, y.pixel(peak) - 8.0), Anchor::End, &flat);
    let slope = format!("{} GB/s: copy", short(rate));
    let at = (lowest * ridge).sqrt();
    canvas.text("", (x.pixel(at) - 8.0, y.pixel(at * rate) - 6.0), Anchor::End, &slope);

    for (n, (intensity, reached, name)) in points.iter().enumerate() {
        let at = (x.pixel(*intensity), y.pixel(*reached));
        canvas.dot("f0", at, 8.5);
        canvas.text("on", (at.0, at.1 + 3.5), Anchor::Middle, &(n + 1).to_string());
        let column = LEFT + (n % 2) as f64 * (RIGHT - LEFT) / 2.0;
        let line = bottom + 66.0 + (n / 2) as f64 * 20.0;
        canvas.dot("f0", (column + 8.0, line - 4.0), 8.5);
        canvas.text("on", (column + 8.0, line - 0.5), Anchor::Middle, &(n + 1).to_string());
        canvas.text("name", (column + 22.0, line), Anchor::Start, &brief(name));
    }
    true
}

/// Without what is the same as by default anyway.
pub fn brief(title: &str) -> String {
    let usual = ["b=1", "dtype=f32", "causal=0", "op=add", "over=all", "wait=1"];
    title.split(' ').filter(|word| !usual.contains(word)).collect::<Vec<_>>().join(" ")
}
