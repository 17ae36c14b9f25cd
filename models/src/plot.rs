//! Line charts as SVG, readable on light and on dark pages.

mod figure;
mod scale;
mod svg;

use std::path::Path;

use crate::{Error, Result};

pub use figure::Figure;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in the order of their x. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Draws the points faintly and over them their trend, for noisy measures such as a training loss.
    pub smooth: bool,
}

impl Series {
    /// A line through the points as they are.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, smooth: false }
    }

    /// The same with a trend over faint points.
    pub fn smooth(self) -> Self {
        Self { smooth: true, ..self }
    }
}

/// A chart with one or more lines over common axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Title above the chart.
    pub title: String,
    /// What stands on the horizontal axis, with its unit.
    pub x_label: String,
    /// What stands on the vertical axis, with its unit.
    pub y_label: String,
    /// Logarithmic vertical axis; all values must be positive then.
    pub log_y: bool,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// An empty chart with linear axes.
    pub fn new(title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), log_y: false, series: Vec::new() }
    }

    /// Adds a line.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// With a logarithmic vertical axis.
    pub fn log_y(self) -> Self {
        Self { log_y: true, ..self }
    }

    /// The chart as an SVG document.
    pub fn to_svg(&self) -> Result<String> {
        self.check()?;
        Ok(svg::document(self))
    }

    /// Errs if there is nothing to draw, or something that cannot be.
    fn check(&self) -> Result<()> {
        let points = || self.series.iter().flat_map(|series| finite(&series.points));
        if points().next().is_none() {
            return Err(Error::argument("plot", format!("\"{}\" has no finite point to draw", self.title)));
        }
        if self.log_y
            && let Some((_, y)) = points().find(|&(_, y)| y <= 0.0)
        {
            return Err(Error::argument("plot", format!("\"{}\" has {y} on a logarithmic axis", self.title)));
        }
        Ok(())
    }

    /// Writes the SVG atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::fsx::write(path, self.to_svg()?.as_bytes())
    }
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// The trend of `points`: at some of them the value of the straight line that fits the neighbours within 3 % of all points to
/// either side best. Unlike a running mean it neither lags behind a fall nor bends at the ends.
fn trend(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let count = points.len();
    let half = (count * 3 / 100).max(1);
    let last = count.saturating_sub(1);
    let places = (0..last).step_by((count / 240).max(1)).chain((count > 0).then_some(last));
    let fit = |at: usize| {
        let near = &points[at.saturating_sub(half)..count.min(at + half + 1)];
        let mean = |field: fn(&(f64, f64)) -> f64| near.iter().map(field).sum::<f64>() / near.len() as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (over, under) =
            near.iter().fold((0.0, 0.0), |(over, under), (a, b)| (over + (a - x) * (b - y), under + (a - x) * (a - x)));
        let slope = if under > 0.0 { over / under } else { 0.0 };
        (points[at].0, y + slope * (points[at].0 - x))
    };
    places.map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(count: usize) -> Vec<(f64, f64)> {
        let noise = |n: usize| (n as f64 * 12.9898).sin() * 0.35;
        (0..count).map(|n| (n as f64, 2.3 + 5.4 * (-(n as f64) / 120.0).exp() + noise(n))).collect()
    }

    #[test]
    fn draws_every_series_and_escapes_text() {
        let chart = Chart::new("Loss of <BERT> & more", "step", "loss in nats")
            .with(Series::new("train", loss(500)).smooth())
            .with(Series::new("held out", vec![(0.0, 7.6), (250.0, 3.0), (499.0, 2.4)]));
        let svg = chart.to_svg().unwrap();
        // A smoothed series is two lines.
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("Loss of &lt;BERT&gt; &amp; more") && !svg.contains("<BERT>"));
        assert!(svg.contains("held out") && svg.contains("prefers-color-scheme: dark"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg, chart.to_svg().unwrap());
    }

    #[test]
    fn odd_data_is_drawn_or_refused() {
        let with = |points| Chart::new("t", "x", "y").with(Series::new("s", points));
        for points in [vec![(0.0, 1.0)], vec![(3.0, 2.0), (3.0, 2.0)], vec![(0.0, 0.0), (1e-9, 1e12)]] {
            let svg = with(points).to_svg().unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(with(vec![(0.0, f64::NAN), (1.0, 4.0)]).to_svg().is_ok());
        assert!(with(vec![]).to_svg().is_err());
        assert!(with(vec![(0.0, 0.0)]).log_y().to_svg().unwrap_err().to_string().contains("logarithmic"));
    }

    #[test]
    fn trend_keeps_a_line_and_quiets_noise() {
        let straight: Vec<_> = (0..50).map(|n| (n as f64, 4.0 - 0.5 * n as f64)).collect();
        assert!(trend(&straight).iter().zip(&straight).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9));
        let noisy = trend(&loss(2000));
        assert!(noisy.len() < 260 && noisy.last().unwrap().0 == 1999.0);
        let off = |&(x, y): &(f64, f64)| (y - 2.3 - 5.4 * (-x / 120.0).exp()).abs();
        assert!(noisy.iter().all(|point| off(point) < 0.15));
        assert_eq!((trend(&[]), trend(&[(1.0, 2.0)])), (vec![], vec![(1.0, 2.0)]));
    }
}
