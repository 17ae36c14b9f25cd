//! Masking rates that change over a run, as in "Dynamic Masking Rate Schedules for MLM Pretraining" (Ankner et al., 2023).

use crate::{Error, Result};

/// Share of tokens to predict as a function of the training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// The same at every step.
    Constant(f32),
    /// From one rate to another on a straight line.
    Linear {
        /// Rate at step 0.
        from: f32,
        /// Rate at step `steps` and after.
        to: f32,
        /// Length of the change in steps.
        steps: u64,
    },
    /// From one rate to another on half a cosine.
    Cosine {
        /// Rate at step 0.
        from: f32,
        /// Rate at step `steps` and after.
        to: f32,
        /// Length of the change in steps.
        steps: u64,
    },
    /// One rate, then from a step on another.
    Step {
        /// Rate before `at`.
        from: f32,
        /// Rate from `at` on.
        to: f32,
        /// Step of the change.
        at: u64,
    },
}

impl Rate {
    /// The rate at `step`.
    pub fn at(&self, step: u64) -> f32 {
        let progress = |steps: u64| if steps == 0 { 1.0 } else { step.min(steps) as f32 / steps as f32 };
        match *self {
            Rate::Constant(rate) => rate,
            Rate::Linear { from, to, steps } => from + (to - from) * progress(steps),
            Rate::Cosine { from, to, steps } => {
                to + (from - to) * 0.5 * (1.0 + (std::f32::consts::PI * progress(steps)).cos())
            }
            Rate::Step { from, to, at } => {
                if step < at {
                    from
                } else {
                    to
                }
            }
        }
    }

    /// An error unless every rate is a probability.
    pub fn check(&self) -> Result<()> {
        let (first, last) = match *self {
            Rate::Constant(rate) => (rate, rate),
            Rate::Linear { from, to, .. } | Rate::Cosine { from, to, .. } | Rate::Step { from, to, .. } => (from, to),
        };
        if (0.0..=1.0).contains(&first) && (0.0..=1.0).contains(&last) {
            return Ok(());
        }
        Err(Error::argument("masking rate", format!("{first} to {last} given, but a rate is between 0 and 1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_at_the_ends_and_between() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let linear = Rate::Linear { from: 0.3, to: 0.15, steps: 100 };
        near(linear.at(0), 0.3);
        near(linear.at(50), 0.225);
        near(linear.at(100), 0.15);
        near(linear.at(1000), 0.15);
        let cosine = Rate::Cosine { from: 0.3, to: 0.15, steps: 100 };
        near(cosine.at(0), 0.3);
        near(cosine.at(50), 0.225);
        near(cosine.at(100), 0.15);
        assert!(cosine.at(10) > linear.at(10));
        let step = Rate::Step { from: 0.3, to: 0.15, at: 10 };
        assert_eq!((step.at(9), step.at(10)), (0.3, 0.15));
        near(Rate::Linear { from: 0.3, to: 0.15, steps: 0 }.at(0), 0.15);
        assert!(Rate::Constant(1.5).check().is_err() && Rate::Constant(f32::NAN).check().is_err());
        assert!(linear.check().is_ok());
    }
}
