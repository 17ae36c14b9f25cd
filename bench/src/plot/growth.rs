//! How time or memory grows with sizes: a log-log plot with fitted slopes.

use super::canvas::{Anchor, Canvas, LEFT, RIGHT};
use super::scale::{Axis, label};
use crate::cost::AXES;
use crate::record::Record;
use crate::report::Report;

const HEIGHT: f64 = 340.0;

/// One line of a plot.
pub struct Series {
    /// What grows.
    pub name: String,
    /// How many times the first size, and what was measured.
    pub points: Vec<(f64, f64)>,
}

/// Draws a line for each size that grows; says whether there was any.
pub fn draw(canvas: &mut Canvas, report: &Report) -> bool {
    let Some(base) = report.records.first() else { return false };
    let all: Vec<Series> = AXES.iter().filter_map(|&(key, name)| series(&report.records, base, key, name)).collect();
    if all.is_empty() {
        return false;
    }
    let sizes: Vec<String> = ["b", "l", "layers", "d", "h", "vocab"]
        .iter()
        .filter_map(|key| Some(format!("{key}={}", base.params.get(*key)?)))
        .collect();
    let about = format!("from {}; {}", sizes.join(" "), report.caption());
    lines(canvas, ["Time of a training step, one size growing at a time", &about], "milliseconds a step", &all);
    true
}

/// Draws lines under a title and what it is about.
pub fn lines(canvas: &mut Canvas, [title, about]: [&str; 2], measure: &str, all: &[Series]) {
    let top = canvas.panel(74.0 + 26.0 + HEIGHT + 62.0, title, about);
    let (top, bottom) = (top + 26.0, top + 26.0 + HEIGHT);
    let points = || all.iter().flat_map(|series| &series.points);
    let x = Axis::new(points().map(|p| p.0), (LEFT, RIGHT));
    let y = Axis::new(points().map(|p| p.1), (bottom, top));
    for tick in y.ticks() {
        canvas.line("grid", &[(LEFT, y.pixel(tick)), (RIGHT, y.pixel(tick))]);
        canvas.text("", (LEFT - 10.0, y.pixel(tick) + 4.0), Anchor::End, &label(tick));
    }
    let largest = points().map(|p| p.0).fold(1.0, f64::max);
    for factor in (0..).map(|n| f64::from(1u32 << n)).take_while(|factor| *factor <= largest) {
        canvas.line("axis", &[(x.pixel(factor), bottom), (x.pixel(factor), bottom + 5.0)]);
        canvas.text("", (x.pixel(factor), bottom + 20.0), Anchor::Middle, &format!("{factor} x"));
    }
    canvas.line("axis", &[(LEFT, bottom), (RIGHT, bottom)]);
    canvas.text("", ((LEFT + RIGHT) / 2.0, bottom + 42.0), Anchor::Middle, "times the first size");
    canvas.upright((22.0, (top + bottom) / 2.0), measure);
    for (n, series) in all.iter().enumerate() {
        let (slope, intercept) = fit(&series.points);
        let at = |(factor, ms): (f64, f64)| (x.pixel(factor), y.pixel(ms));
        let ends = [series.points[0].0, series.points[series.points.len() - 1].0];
        let fitted = ends.map(|factor| at((factor, (intercept + slope * factor.ln()).exp())));
        canvas.line(&format!("fit s{n}"), &fitted);
        for &point in &series.points {
            canvas.dot(&format!("f{n}"), at(point), 4.5);
        }
        let left = LEFT + n as f64 * 680.0 / all.len().max(4) as f64;
        canvas.bar(&format!("f{n}"), (left, top - 24.0), 12.0, 12.0);
        canvas.text("name", (left + 18.0, top - 14.0), Anchor::Start, &format!("{}: slope {slope:.2}", series.name));
    }
}

/// The runs that differ from the first in this size alone; None if there are none.
fn series(records: &[Record], base: &Record, key: &str, name: &'static str) -> Option<Series> {
    let others = |record: &Record| {
        let mut params = record.params.clone();
        params.remove(key);
        params
    };
    let first = base.params.get(key)?.as_f64()?;
    let same = records.iter().filter(|record| others(record) == others(base));
    let mut points: Vec<(f64, f64)> =
        same.filter_map(|record| Some((record.params.get(key)?.as_f64()? / first, record.median_ms))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    (points.len() > 1).then_some(Series { name: name.to_string(), points })
}

/// Slope and intercept of the line of least squares through the logarithms.
pub fn fit(points: &[(f64, f64)]) -> (f64, f64) {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let over: f64 = logs.iter().map(|(x, y)| (x - mean.0) * (y - mean.1)).sum();
    let under: f64 = logs.iter().map(|(x, _)| (x - mean.0).powi(2)).sum();
    let slope = if under > 0.0 { over / under } else { 0.0 };
    (slope, mean.1 - slope * mean.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_found() {
        let points: Vec<(f64, f64)> = [1.0f64, 2.0, 4.0, 8.0].iter().map(|&x| (x, 3.0 * x.powf(1.5))).collect();
        let (slope, intercept) = fit(&points);
        assert!((slope - 1.5).abs() < 1e-9 && (intercept - 3f64.ln()).abs() < 1e-9);
        assert_eq!(fit(&[(1.0, 5.0)]).0, 0.0);
    }
}
