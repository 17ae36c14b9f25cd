//! The drawing of a chart.

use std::fmt::Write;

use super::scale::{Axis, label};
use super::{Chart, Series, finite, trend};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = WIDTH - 28.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = HEIGHT - 58.0;
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.8;
/// More points than this on one line are thinned out, keeping the extremes.
const MAX_POINTS: usize = 1200;

/// Colours on light and on dark ground; all are told apart by colour-blind readers (after Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("#0b6fb8", "#56b4e9"),
    ("#c8500a", "#f0904a"),
    ("#00805c", "#2fc79b"),
    ("#a8437f", "#dd8dbb"),
    ("#8a6d00", "#e6c229"),
    ("#5b5b66", "#b4b4c0"),
];

pub fn document(chart: &Chart) -> String {
    let lines: Vec<Vec<(f64, f64)>> =
        chart.series.iter().map(|series| thin(finite(&series.points).collect())).collect();
    let xs = lines.iter().flatten().map(|point| point.0);
    let ys = lines.iter().flatten().map(|point| point.1);
    let x = Axis::new(xs, (LEFT, RIGHT), 8, false, false);
    let y = Axis::new(ys, (BOTTOM, TOP), 6, chart.log_y, true);
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = head(&mut svg, chart)
        .and_then(|()| axes(&mut svg, chart, &x, &y))
        .and_then(|()| legend(&mut svg, &chart.series))
        .and_then(|()| {
            chart
                .series
                .iter()
                .zip(&lines)
                .enumerate()
                .try_for_each(|(n, (series, points))| line(&mut svg, n, series, points, &x, &y))
        });
    svg.push_str("</svg>\n");
    svg
}

fn head(svg: &mut String, chart: &Chart) -> std::fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"{}\">",
        escape(&chart.title)
    )?;
    svg.push_str("<style>\n");
    svg.push_str(
        "text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a }\n",
    );
    svg.push_str(".title { font-size: 17px; font-weight: 600; fill: #1f2328 }\n");
    svg.push_str(".paper { fill: #ffffff } .grid { stroke: #e4e7eb } .axis { stroke: #8c959f }\n");
    svg.push_str("polyline { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }\n");
    svg.push_str(".raw { stroke-width: 1; opacity: 0.28 }\n");
    for (n, (light, _)) in COLOURS.iter().enumerate() {
        writeln!(svg, ".c{n} {{ stroke: {light} }} .f{n} {{ fill: {light} }}")?;
    }
    svg.push_str("@media (prefers-color-scheme: dark) {\n");
    svg.push_str("text { fill: #9aa4af } .title { fill: #e6edf3 }\n");
    svg.push_str(".paper { fill: #0d1117 } .grid { stroke: #21262d } .axis { stroke: #6e7681 }\n");
    for (n, (_, dark)) in COLOURS.iter().enumerate() {
        writeln!(svg, ".c{n} {{ stroke: {dark} }} .f{n} {{ fill: {dark} }}")?;
    }
    writeln!(svg, "}}\n</style>\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>")?;
    writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"36\">{}</text>", escape(&chart.title))
}

fn axes(svg: &mut String, chart: &Chart, x: &Axis, y: &Axis) -> std::fmt::Result {
    for &tick in &y.ticks {
        let at = y.pixel(tick);
        writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 10.0, at + 4.0, label(tick))?;
    }
    for &tick in &x.ticks {
        let at = x.pixel(tick);
        writeln!(svg, "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{BOTTOM}\" y2=\"{}\"/>", BOTTOM + 5.0)?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", BOTTOM + 20.0, label(tick))?;
    }
    writeln!(svg, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>")?;
    let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 16.0,
        escape(&chart.x_label)
    )?;
    let turn = format!("translate(20 {height}) rotate(-90)");
    writeln!(svg, "<text transform=\"{turn}\" text-anchor=\"middle\">{}</text>", escape(&chart.y_label))
}

/// Names from left to right under the title, as many as fit.
fn legend(svg: &mut String, series: &[Series]) -> std::fmt::Result {
    let mut at = LEFT;
    for (n, series) in series.iter().enumerate() {
        let end = at + 24.0 + series.name.chars().count() as f64 * LETTER;
        if end > RIGHT && n > 0 {
            return writeln!(svg, "<text x=\"{at:.1}\" y=\"62\">\u{2026}</text>");
        }
        let colour = n % COLOURS.len();
        writeln!(svg, "<rect class=\"f{colour}\" x=\"{at:.1}\" y=\"55\" width=\"16\" height=\"4\" rx=\"2\"/>")?;
        writeln!(svg, "<text x=\"{:.1}\" y=\"61\">{}</text>", at + 22.0, escape(&series.name))?;
        at = end + 20.0;
    }
    Ok(())
}

fn line(
    svg: &mut String,
    number: usize,
    series: &Series,
    points: &[(f64, f64)],
    x: &Axis,
    y: &Axis,
) -> std::fmt::Result {
    let colour = number % COLOURS.len();
    let mut draw = |class: &str, points: &[(f64, f64)]| {
        write!(svg, "<polyline class=\"{class}c{colour}\" points=\"")?;
        points.iter().try_for_each(|&(a, b)| write!(svg, "{:.1},{:.1} ", x.pixel(a), y.pixel(b)))?;
        svg.push_str("\"/>\n");
        Ok(())
    };
    if series.smooth {
        draw("raw ", points)?;
        return draw("", &trend(&finite(&series.points).collect::<Vec<_>>()));
    }
    draw("", points)?;
    // A short line shows where it was measured; a single point would not be seen at all.
    if points.len() <= 24 {
        for &(a, b) in points {
            writeln!(svg, "<circle class=\"f{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"/>", x.pixel(a), y.pixel(b))?;
        }
    }
    Ok(())
}

/// At most [`MAX_POINTS`] of the points: of each run of neighbours the lowest and the highest, in their order.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let run = points.len().div_ceil(MAX_POINTS / 2);
    let extremes = |run: &[(f64, f64)]| {
        let by_value = |&a: &usize, &b: &usize| run[a].1.total_cmp(&run[b].1);
        let (low, high) = ((0..run.len()).min_by(by_value).unwrap_or(0), (0..run.len()).max_by(by_value).unwrap_or(0));
        [run[low.min(high)], run[low.max(high)]]
    };
    points.chunks(run).flat_map(extremes).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
