//! Learning rates as pure functions of the step.

use std::f64::consts::PI;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line to the floor at the last step.
    Linear,
    /// Along half a cosine to the floor at the last step.
    Cosine,
    /// With the inverse square root of the step; never ends.
    InverseSqrt,
}

/// A linear warm-up and then a decay. Nothing but the step goes in, so a resumed run needs no state.
///
/// ```
/// use wgrad::optim::{Decay, Schedule};
/// let schedule = Schedule { peak: 1e-3, warmup: 9, total: 110, floor: 0.0, decay: Decay::Linear };
/// assert!((schedule.at(0) - 1e-4).abs() < 1e-12);
/// assert_eq!(schedule.at(9), 1e-3);
/// assert_eq!(schedule.at(110), 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate, reached after the warm-up.
    pub peak: f64,
    /// Steps of warm-up; the first of them already learns a little.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// Where linear and cosine decay end, as a fraction of the peak.
    pub floor: f64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let start = self.warmup as f64 + 1.0;
        if step < self.warmup {
            return self.peak * (step as f64 + 1.0) / start;
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / span).min(1.0);
        let left = match self.decay {
            Decay::Constant => return self.peak,
            Decay::InverseSqrt => return self.peak * (start / (step as f64 + 1.0)).sqrt(),
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * left)
    }
}
