//! Measurements along a run.

use serde::{Deserialize, Serialize};

use super::run::Pending;
use crate::Result;
use crate::plot::{Chart, Series};

/// Loss and accuracy at one step.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Point {
    /// The step, counted from 1.
    pub step: u64,
    /// Mean cross-entropy of the tokens asked for in nats.
    pub loss: f64,
    /// Share of those tokens predicted rightly.
    pub accuracy: f64,
}

/// Losses and accuracies of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// Of every training step.
    pub train: Vec<Point>,
    /// On held-out text, whenever a checkpoint was written.
    pub held_out: Vec<Point>,
}

impl History {
    /// Reads what waits on the device; the last of it belongs to `step`.
    pub(super) fn take(&mut self, pending: &mut Pending, step: u64) -> Result<()> {
        let steps = pending.take()?;
        let first = step + 1 - steps.len() as u64;
        for (step, (loss, hits, count)) in (first..).zip(steps) {
            if !loss.is_finite() {
                return Err(crate::Error::argument(
                    "lr",
                    format!("the loss is {loss} at step {step}: try a lower rate"),
                ));
            }
            let accuracy = hits / count.max(1) as f64;
            self.train.push(Point { step, loss, accuracy });
        }
        Ok(())
    }

    /// Means over the last `count` training steps.
    pub fn recent(&self, count: usize) -> Point {
        let tail = &self.train[self.train.len().saturating_sub(count)..];
        let mean = |f: fn(&Point) -> f64| tail.iter().map(f).sum::<f64>() / tail.len().max(1) as f64;
        let step = tail.last().map_or(0, |p| p.step);
        Point { step, loss: mean(|p| p.loss), accuracy: mean(|p| p.accuracy) }
    }

    /// The loss curve.
    pub fn chart(&self, title: &str) -> Chart {
        let line = |points: &[Point]| points.iter().map(|p| (p.step as f64, p.loss)).collect();
        let mut chart = Chart::new(title, "step", "loss (nats per predicted token)");
        chart = chart.with(Series::new("training", line(&self.train)).smooth());
        if self.held_out.len() > 1 {
            chart = chart.with(Series::new("held out", line(&self.held_out)));
        }
        chart
    }

    /// All measurements as comma-separated values.
    pub fn csv(&self) -> String {
        let mut text = String::from("set,step,loss,accuracy\n");
        for (set, points) in [("train", &self.train), ("held_out", &self.held_out)] {
            for Point { step, loss, accuracy } in points {
                text.push_str(&format!("{set},{step},{loss},{accuracy}\n"));
            }
        }
        text
    }
}
