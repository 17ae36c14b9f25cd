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

/// Where the lines of a chart are drawn, in pixels.
#[derive(Clone, Copy)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Where the name of the vertical axis stands.
    pub side: f64,
}

pub fn document(chart: &Chart) -> String {
    let mut svg = String::new();
    let frame = Frame { left: LEFT, right: RIGHT, top: TOP, bottom: BOTTOM, side: 20.0 };
    // Writing to a string cannot fail.
    let _ = head(&mut svg, &chart.title, [WIDTH, HEIGHT])
        .and_then(|()| title(&mut svg, &chart.title, [LEFT, 36.0]))
        .and_then(|()| {
            let names = chart.series.iter().map(|series| series.name.as_str());
            let (keys, fits) = keys(names, LEFT, RIGHT);
            let first: Vec<&Key> = keys.iter().filter(|key| key.row == 0).collect();
            first.iter().try_for_each(|key| legend(&mut svg, key, 61.0))?;
            let end = first.last().map_or(LEFT, |key| key.end);
            if fits { Ok(()) } else { writeln!(svg, "<text x=\"{end:.1}\" y=\"62\">\u{2026}</text>") }
        })
        .and_then(|()| draw(&mut svg, chart, frame));
    svg.push_str("</svg>\n");
    svg
}

/// Axes and lines of a chart.
pub fn draw(svg: &mut String, chart: &Chart, frame: Frame) -> std::fmt::Result {
    let Frame { left, right, top, bottom, .. } = frame;
    let lines: Vec<Vec<(f64, f64)>> =
        chart.series.iter().map(|series| thin(finite(&series.points).collect())).collect();
    let xs = lines.iter().flatten().map(|point| point.0);
    let ys = lines.iter().flatten().map(|point| point.1);
    let x = Axis::new(xs, (left, right), 8, false, false);
    let y = Axis::new(ys, (bottom, top), 6, chart.log_y, true);
    axes(svg, chart, frame, &x, &y)?;
    // Where lines are many, dots would hide them.
    let dots = chart.series.len() <= COLOURS.len();
    let drawn = chart.series.iter().zip(&lines).enumerate();
    drawn.into_iter().try_for_each(|(n, (series, points))| line(svg, n, series, points, dots, &x, &y))
}

/// The beginning of a document: sizes, styles and ground.
pub fn head(svg: &mut String, title: &str, [width, height]: [f64; 2]) -> std::fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{}\">",
        escape(title)
    )?;
    svg.push_str("<style>\n");
    svg.push_str(
        "text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a }\n",
    );
    svg.push_str(".title { font-size: 17px; font-weight: 600; fill: #1f2328 }\n");
    svg.push_str(".paper { fill: #ffffff } .grid { stroke: #e4e7eb } .axis { stroke: #8c959f }\n");
    svg.push_str("polyline { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }\n");
    svg.push_str(".raw { stroke-width: 1; opacity: 0.28 } .key { stroke-width: 4 }\n");
    svg.push_str(".d1 { stroke-dasharray: 8 5 } .d2 { stroke-dasharray: 1.5 5 }\n");
    for (n, (light, _)) in COLOURS.iter().enumerate() {
        writeln!(svg, ".c{n} {{ stroke: {light} }} .f{n} {{ fill: {light} }}")?;
    }
    svg.push_str("@media (prefers-color-scheme: dark) {\n");
    svg.push_str("text { fill: #9aa4af } .title { fill: #e6edf3 }\n");
    svg.push_str(".paper { fill: #0d1117 } .grid { stroke: #21262d } .axis { stroke: #6e7681 }\n");
    for (n, (_, dark)) in COLOURS.iter().enumerate() {
        writeln!(svg, ".c{n} {{ stroke: {dark} }} .f{n} {{ fill: {dark} }}")?;
    }
    writeln!(svg, "}}\n</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>")
}

/// A title that begins at a place.
pub fn title(svg: &mut String, title: &str, [x, y]: [f64; 2]) -> std::fmt::Result {
    writeln!(svg, "<text class=\"title\" x=\"{x}\" y=\"{y}\">{}</text>", escape(title))
}

fn axes(svg: &mut String, chart: &Chart, frame: Frame, x: &Axis, y: &Axis) -> std::fmt::Result {
    let Frame { left, right, top, bottom, side } = frame;
    for &tick in &y.ticks {
        let at = y.pixel(tick);
        writeln!(svg, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", left - 10.0, at + 4.0, label(tick))?;
    }
    for &tick in &x.ticks {
        let at = x.pixel(tick);
        writeln!(svg, "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\"/>", bottom + 5.0)?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 20.0, label(tick))?;
    }
    writeln!(svg, "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>")?;
    let (middle, height) = ((left + right) / 2.0, (top + bottom) / 2.0);
    let below = bottom + 42.0;
    writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escape(&chart.x_label))?;
    let turn = format!("translate({side} {height}) rotate(-90)");
    writeln!(svg, "<text transform=\"{turn}\" text-anchor=\"middle\">{}</text>", escape(&chart.y_label))
}

/// An entry of a legend.
pub struct Key<'a> {
    name: &'a str,
    number: usize,
    at: f64,
    end: f64,
    /// The row that it stands in, from 0.
    pub row: usize,
}

/// Names from left to right in as many rows as they need, and whether one was enough.
pub fn keys<'a>(names: impl Iterator<Item = &'a str>, left: f64, right: f64) -> (Vec<Key<'a>>, bool) {
    let (mut at, mut row, mut keys) = (left, 0, Vec::new());
    for (number, name) in names.enumerate() {
        let width = 24.0 + name.chars().count() as f64 * LETTER;
        if at + width > right && at > left {
            (at, row) = (left, row + 1);
        }
        keys.push(Key { name, number, at, end: at + width + 20.0, row });
        at += width + 20.0;
    }
    (keys, row == 0)
}

/// Draws an entry of a legend.
pub fn legend(svg: &mut String, key: &Key, y: f64) -> std::fmt::Result {
    let (class, at) = (class(key.number), key.at);
    writeln!(
        svg,
        "<line class=\"key {class}\" x1=\"{at:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" transform=\"translate(0 -4)\"/>",
        at + 16.0
    )?;
    writeln!(svg, "<text x=\"{:.1}\" y=\"{y}\">{}</text>", at + 22.0, escape(key.name))
}

/// Colour and dashes of a line.
fn class(number: usize) -> String {
    let colour = number % COLOURS.len();
    match number / COLOURS.len() {
        0 => format!("c{colour}"),
        dashes => format!("c{colour} d{}", 1 + (dashes - 1) % 2),
    }
}

fn line(
    svg: &mut String,
    number: usize,
    series: &Series,
    points: &[(f64, f64)],
    dots: bool,
    x: &Axis,
    y: &Axis,
) -> std::fmt::Result {
    let (colour, own) = (number % COLOURS.len(), class(number));
    let mut draw = |class: &str, points: &[(f64, f64)]| {
        write!(svg, "<polyline class=\"{class}{own}\" points=\"")?;
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
    if (dots && points.len() <= 24) || points.len() == 1 {
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
