//! A comparison as a picture and as a table.

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

/// The figures of each placement, a line each.
pub fn table(courses: &[Course]) -> String {
    let mut lines = format!(
        "{:<18} {:>9}  {:>13} {:>13}  {:>16} {:>9}\n{:<18} {:>9}  {:>13} {:>13}  {:>16} {:>9}\n",
        "placement",
        "held out",
        "activation at",
        "exponent over",
        "gradients of",
        "",
        "",
        "nats",
        "the end",
        "depth, before",
        "blocks, largest",
        "variation"
    );
    for course in courses {
        let squares = course.late(|probe| &probe.squares);
        let gradients = course.late(|probe| &probe.gradients);
        let growth = course.probes.first().map_or(f64::NAN, |probe| growth(&probe.squares));
        let shown = format!("{growth:.2}, then {:.2}", self::growth(&squares));
        lines += &format!(
            "{:<18} {:>9.3}  {:>13.2} {:>13}  {:>16.1} {:>9.2}\n",
            course.placement,
            course.held_out.unwrap_or(f64::NAN),
            squares.last().copied().unwrap_or(f64::NAN),
            shown,
            spread(&gradients),
            variation(&gradients)
        );
    }
    lines
}

/// The exponent with which the stream's mean square follows the number of blocks before.
fn growth(squares: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = squares.iter().enumerate().skip(1).map(|(n, &square)| (n as f64, square)).collect();
    exponent(&points)
}
