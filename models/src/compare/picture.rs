//! A comparison as a picture and as a table.

use serde::Serialize;

use super::{Course, Settings};
use crate::Result;
use crate::depth::{exponent, spread, variation};
use crate::plot::{Chart, Figure, Series};

/// Points of a loss curve, each the mean of as many steps.
const POINTS: usize = 40;

/// Loss over steps; gradient, activation and step over depth, late in the training.
pub fn draw(settings: &Settings, courses: &[Course]) -> Result<Figure> {
    let chart = |title: &str, x: &str, y: &str, points: &dyn Fn(&Course) -> Vec<(f64, f64)>| {
        // Zeros have no place on a logarithmic axis.
        let positive = |course| points(course).into_iter().filter(|(_, y)| *y > 0.0).collect();
        let lines = courses.iter().map(|course| Series::new(course.placement.as_str(), positive(course)));
        lines.fold(Chart::new(title, x, y).log_y(), Chart::with)
    };
    let by_block = |first: usize, values: Vec<f64>| -> Vec<(f64, f64)> {
        values.into_iter().enumerate().map(|(n, value)| ((n + first) as f64, value)).collect()
    };
    let loss = |course: &Course| {
        let each = course.losses.len().div_ceil(POINTS).max(1);
        let mean = |(n, losses): (usize, &[f64])| {
            let step = (n * each) as f64 + losses.len() as f64 / 2.0;
            (step, losses.iter().sum::<f64>() / losses.len() as f64)
        };
        course.losses.chunks(each).enumerate().map(mean).collect()
    };
    let title = format!("Placements of norms in {} blocks of width {}", settings.layers, settings.hidden);
    Ok(Figure {
        title,
        charts: vec![
            Chart { log_y: false, ..chart("Loss", "step", "nats for each byte", &loss) },
            chart("Gradient of a block", "block", "norm", &|course| by_block(1, course.late(|probe| &probe.gradients))),
            chart("Activation", "after block", "mean square", &|course| {
                by_block(0, course.late(|probe| &probe.squares))
            }),
            chart("Step of a block", "block", "share of the weights", &|course| {
                by_block(1, course.late(|probe| &probe.updates))
            }),
        ],
    })
}

/// The figures of one placement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    placement: String,
    /// Loss on held-out text, in nats for each byte.
    held_out: Option<f64>,
    /// Mean square of the residual stream at the end of the depth.
    activation: f64,
    /// Exponents with which that follows the number of blocks before.
    growth: Growth,
    /// The largest gradient of a block over the smallest.
    gradient_spread: f64,
    /// The deviation of gradients of blocks over their mean.
    gradient_variation: f64,
}

/// Exponents of the growth of the residual stream's mean square over depth.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Growth {
    before_training: f64,
    after_training: f64,
}

impl Figures {
    /// Those of a course; but for the growth before, as the last quarter of the training saw them.
    pub fn of(course: &Course) -> Self {
        let squares = course.late(|probe| &probe.squares);
        let gradients = course.late(|probe| &probe.gradients);
        Figures {
            placement: course.placement.clone(),
            held_out: course.held_out,
            activation: squares.last().copied().unwrap_or(f64::NAN),
            growth: Growth {
                before_training: course.probes.first().map_or(f64::NAN, |probe| growth(&probe.squares)),
                after_training: growth(&squares),
            },
            gradient_spread: spread(&gradients),
            gradient_variation: variation(&gradients),
        }
    }
}

/// The figures of each placement, a line each.
pub fn table(figures: &[Figures]) -> String {
    let mut lines = format!(
        "{:<18} {:>9}  {:>13} {:>19}  {:>16} {:>9}\n{:<18} {:>9}  {:>13} {:>19}  {:>16} {:>9}\n",
        "placement",
        "held out",
        "activation at",
        "exponent over depth",
        "gradients of",
        "",
        "",
        "nats",
        "the end",
        "untrained, trained",
        "blocks, largest",
        "variation"
    );
    for figures in figures {
        let Growth { before_training, after_training } = figures.growth;
        let growth = format!("{before_training:.2}, {after_training:.2}");
        lines += &format!(
            "{:<18} {:>9.3}  {:>13.2} {:>19}  {:>16.1} {:>9.2}\n",
            figures.placement,
            figures.held_out.unwrap_or(f64::NAN),
            figures.activation,
            growth,
            figures.gradient_spread,
            figures.gradient_variation
        );
    }
    lines
}

/// The exponent with which the stream's mean square follows the number of blocks before.
fn growth(squares: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = squares.iter().enumerate().skip(1).map(|(n, &square)| (n as f64, square)).collect();
    exponent(&points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Probe;

    /// A stream that grows with the square of the depth at first, and in proportion to it once trained.
    #[test]
    fn exponents_before_and_after_training() {
        let probe = |step: u64, power: i32| {
            let squares = (0..5).map(|block| 3.0 * f64::from(block.max(1)).powi(power)).collect();
            Probe { step, gradients: vec![1.0, 2.0, 4.0, 1.0], squares, updates: vec![0.1; 4] }
        };
        let course = Course {
            placement: "pre".into(),
            losses: vec![2.0],
            probes: vec![probe(0, 2), probe(1, 0), probe(2, 0), probe(3, 1)],
            held_out: Some(1.5),
        };
        let figures = Figures::of(&course);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(figures.growth.before_training, 2.0) && near(figures.growth.after_training, 1.0), "{figures:?}");
        assert_eq!((figures.activation, figures.gradient_spread), (12.0, 4.0));
        assert!(table(&[figures]).contains("2.00, 1.00"));
    }
}
