//! Timing: warm-up, repetition, statistics.

use std::time::Instant;

use wgrad::{Device, Tensor};

use crate::Result;

/// How often to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repeat {
    /// Timed runs; by default as many as fit about a second, from 3 to 100.
    pub iters: Option<usize>,
    /// Runs before them; by default two, and on until a fifth of a second has passed.
    pub warmup: Option<usize>,
    /// Runs between two waits, whose time is shared among them; by default one. Short work on a GPU is measured this way, as models run it:
    /// the wait costs tens of microseconds.
    pub batch: Option<usize>,
}

/// Seconds that the timed runs take by default, about.
const SECONDS: f64 = 1.0;
/// Seconds of warm-up by default: a GPU raises its clocks within that time.
const WARM_SECONDS: f64 = 0.2;

/// Times of single runs in seconds, ascending.
#[derive(Debug, Clone)]
pub struct Times(Vec<f64>);

impl Times {
    /// Sorts at least one time.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        debug_assert!(!seconds.is_empty());
        seconds.sort_by(f64::total_cmp);
        Times(seconds)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The shortest.
    pub fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The longest.
    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        median(&self.0)
    }
}

/// The median of ascending values.
pub fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        n => sorted[n / 2],
    }
}

/// Runs `step` and times it with all of its work done, results included until they are dropped.
///
/// # Errors
/// Those of the step and of the device.
pub fn time(
    device: &Device,
    repeat: Repeat,
    wait: bool,
    step: &mut dyn FnMut() -> Result<Vec<Tensor>>,
) -> Result<Times> {
    let batch = repeat.batch.unwrap_or(1).max(1);
    let mut once = || -> Result<f64> {
        device.sync()?;
        let begun = Instant::now();
        let mut results = step()?;
        for _ in 1..batch {
            drop(results);
            results = step()?;
        }
        if wait {
            device.sync()?;
        } else {
            device.flush()?;
        }
        drop(results);
        Ok(begun.elapsed().as_secs_f64() / batch as f64)
    };
    let begun = Instant::now();
    let mut last = f64::NAN;
    let mut warm = 0;
    while repeat.warmup.map_or_else(|| warm < 2 || begun.elapsed().as_secs_f64() < WARM_SECONDS, |n| warm < n) {
        last = once()?;
        warm += 1;
        // A step of seconds is warm after one run.
        if repeat.warmup.is_none() && last > SECONDS {
            break;
        }
    }
    if last.is_nan() && repeat.iters.is_none() {
        last = once()?;
    }
    let iters = repeat.iters.unwrap_or_else(|| ((SECONDS / (batch as f64 * last.max(1e-9))) as usize).clamp(3, 100));
    Ok(Times::new((0..iters.max(1)).map(|_| once()).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let times = Times::new(vec![3.0, 1.0, 2.0, 10.0]);
        assert_eq!((times.count(), times.min(), times.max(), times.median()), (4, 1.0, 10.0, 2.5));
        assert_eq!(Times::new(vec![5.0]).median(), 5.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn warm_up_is_not_counted() {
        let mut runs = 0;
        let repeat = Repeat { iters: Some(4), warmup: Some(3), batch: None };
        let times = time(&Device::cpu(), repeat, true, &mut || {
            runs += 1;
            if runs <= 3 {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
            Ok(Vec::new())
        });
        let times = times.unwrap();
        assert_eq!((runs, times.count()), (7, 4));
        assert!(times.median() < 0.02);
    }

    #[test]
    fn a_batch_shares_its_time() {
        let repeat = Repeat { iters: Some(2), warmup: Some(0), batch: Some(5) };
        let mut runs = 0;
        let times = time(&Device::cpu(), repeat, true, &mut || {
            runs += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
            Ok(Vec::new())
        });
        let median = times.unwrap().median();
        assert_eq!(runs, 10);
        assert!((0.002..0.01).contains(&median), "{median}");
    }
}
