//! Several charts of the same lines in one picture, under one legend.

use std::fmt::Write;
use std::path::Path;

use super::Chart;
use super::svg::{self, Frame};
use crate::{Error, Result};

/// Charts side by side, two in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Title above all.
    pub title: String,
    /// The charts. All have lines of the same names in the same order.
    pub charts: Vec<Chart>,
}

const COLUMN: f64 = 480.0;
const ROW: f64 = 340.0;
/// Room around the lines of a chart: left, right, top, bottom.
const ROOM: [f64; 4] = [80.0, 20.0, 40.0, 56.0];
const LEGEND_ROW: f64 = 20.0;

impl Figure {
    /// The figure as an SVG document.
    ///
    /// # Errors
    /// If a chart has nothing to draw, or a value that is not positive on a logarithmic axis.
    pub fn to_svg(&self) -> Result<String> {
        let Some(first) = self.charts.first() else {
            return Err(Error::argument("plot", format!("\"{}\" has no charts", self.title)));
        };
        self.charts.iter().try_for_each(Chart::check)?;
        let [left, right, top, bottom] = ROOM;
        let width = 2.0 * COLUMN;
        let names = first.series.iter().map(|series| series.name.as_str());
        let (keys, _) = svg::keys(names, left, width - right);
        let head = 62.0 + LEGEND_ROW * keys.last().map_or(0, |key| key.row + 1) as f64;
        let height = head + ROW * self.charts.len().div_ceil(2) as f64;
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = svg::head(&mut out, &self.title, [width, height])
            .and_then(|()| svg::title(&mut out, &self.title, [left, 36.0]))
            .and_then(|()| {
                keys.iter().try_for_each(|key| svg::legend(&mut out, key, 62.0 + LEGEND_ROW * key.row as f64))
            })
            .and_then(|()| {
                self.charts.iter().enumerate().try_for_each(|(n, chart)| {
                    let (x, y) = (COLUMN * (n % 2) as f64, head + ROW * (n / 2) as f64);
                    writeln!(out, "<g>")?;
                    svg::title(&mut out, &chart.title, [x + left, y + 22.0])?;
                    let (right, bottom) = (x + COLUMN - right, y + ROW - bottom);
                    let frame = Frame { left: x + left, right, top: y + top, bottom, side: x + 20.0 };
                    svg::draw(&mut out, chart, frame)?;
                    writeln!(out, "</g>")
                })
            });
        out.push_str("</svg>\n");
        Ok(out)
    }

    /// Writes the SVG atomically.
    ///
    /// # Errors
    /// As [`Figure::to_svg`], or if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::fsx::write(path, self.to_svg()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Series;

    #[test]
    fn all_charts_and_names_are_there() {
        let chart = |title: &str| {
            let line = |n: usize| Series::new(format!("line {n}"), vec![(0.0, 1.0 + n as f64), (5.0, 2.0), (9.0, 4.0)]);
            (0..14).map(line).fold(Chart::new(title, "x", "y"), Chart::with)
        };
        let figure = Figure { title: "All of it".into(), charts: vec![chart("one"), chart("two"), chart("three")] };
        let svg = figure.to_svg().unwrap();
        assert_eq!(svg.matches("<polyline").count(), 42);
        assert!((0..14).all(|n| svg.matches(&format!(">line {n}</text>")).count() == 1));
        assert!(["All of it", "one", "two", "three"].iter().all(|title| svg.contains(&format!(">{title}</text>"))));
        // Lines of one colour differ by their dashes.
        assert!(svg.contains("\"c1 d1\"") && svg.contains("\"c1 d2\""));
        assert!(Figure { title: "t".into(), charts: vec![] }.to_svg().is_err());
        assert!(Figure { title: "t".into(), charts: vec![Chart::new("empty", "x", "y")] }.to_svg().is_err());
    }
}
