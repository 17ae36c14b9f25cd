//! Showing how a training run goes: a bar in a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where there is no terminal, a line appears so often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A bar of a run that asks what is [`Progress::due`] moves so often.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// What one report shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Steps done so far.
    pub step: u64,
    /// Loss in nats for each predicted token.
    pub loss: f64,
    /// Share of the masked tokens predicted rightly, where tokens are masked.
    pub accuracy: Option<f64>,
    /// Tokens processed in a second; 0 where nobody counts them.
    pub tokens_per_s: f64,
}

/// How far the run is, by whichever of its limits comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Steps to do, if they are limited.
    pub steps: Option<u64>,
    /// Time to take, if it is limited.
    pub time: Option<Duration>,
}

impl Limit {
    /// The share done, between 0 and 1, after `step` steps, `elapsed` after the begin of this process.
    fn share(&self, step: u64, elapsed: Duration) -> f64 {
        let by_steps = self.steps.map_or(0.0, |steps| if steps == 0 { 1.0 } else { step as f64 / steps as f64 });
        let by_time =
            self.time.map_or(0.0, |time| if time.is_zero() { 1.0 } else { elapsed.as_secs_f64() / time.as_secs_f64() });
        by_steps.max(by_time).min(1.0)
    }

    /// Time left: the least of what each limit leaves.
    fn left(&self, done_here: u64, step: u64, elapsed: Duration) -> Option<Duration> {
        let each = (done_here > 0).then(|| elapsed.as_secs_f64() / done_here as f64);
        let by_steps =
            self.steps.zip(each).map(|(steps, each)| Duration::from_secs_f64(steps.saturating_sub(step) as f64 * each));
        let by_time = self.time.map(|time| time.saturating_sub(elapsed));
        by_steps.into_iter().chain(by_time).min()
    }
}

/// The progress of one run on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    limit: Limit,
    first_step: u64,
    begun: Instant,
    last_line: Option<Instant>,
    label: String,
}

/// The bar counts in thousandths, so that a limit of time moves it as well as one of steps.
const BAR_LENGTH: u64 = 1000;

impl Progress {
    /// Begins at `first_step`, which is not 0 in a resumed run.
    pub fn new(limit: Limit, first_step: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:28.cyan/dim} {percent:>3}%  {msg}");
            let bar = ProgressBar::new(BAR_LENGTH);
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("\u{2501}\u{2578}\u{2500}"),
            );
            bar
        });
        Self { bar, limit, first_step, begun: Instant::now(), last_line: None, label: String::new() }
    }

    /// The progress of one of many short runs: with a label before each line, and nothing to see of a run that is over before its
    /// first line is due.
    pub fn labelled(label: String, limit: Limit) -> Self {
        Self { label, last_line: Some(Instant::now()), ..Self::new(limit, 0) }
    }

    /// Whether it is time to show something again, for runs in which a reading costs time.
    pub fn due(&self) -> bool {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        self.last_line.is_none_or(|last| last.elapsed() >= every)
    }

    /// Shows a reading: at once in a terminal, elsewhere if the last line is old enough.
    pub fn show(&mut self, reading: Reading) {
        let line = format!("{}{}", self.label, line(reading, self.limit.steps, self.left(reading.step)));
        self.show_line(reading.step, line);
    }

    /// Shows how far work without a loss is, in the same way, but no line before the first is due.
    pub fn tell(&mut self, step: u64, what: &str) {
        if self.bar.is_none() && self.begun.elapsed() < LINE_EVERY {
            return;
        }
        let left = self.left(step).map_or(String::new(), |left| format!("  {} left", clock(left)));
        self.show_line(step, format!("{what}{left}"));
    }

    fn left(&self, step: u64) -> Option<Duration> {
        self.limit.left(step.saturating_sub(self.first_step), step, self.begun.elapsed())
    }

    fn show_line(&mut self, step: u64, line: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position((self.limit.share(step, self.begun.elapsed()) * BAR_LENGTH as f64) as u64);
                bar.set_message(line);
            }
            None if self.due() => eprintln!("{line}"),
            None => return,
        }
        self.last_line = Some(Instant::now());
    }

    /// Prints a line above the bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Ends with a last reading, which is always shown.
    pub fn finish(mut self, reading: Reading) {
        self.last_line = None;
        self.show(reading);
        self.end();
    }

    /// Ends with what was shown last.
    pub fn end(self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    /// Ends and leaves nothing to see of the bar.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(reading: Reading, steps: Option<u64>, left: Option<Duration>) -> String {
    let Reading { step, loss, accuracy, tokens_per_s } = reading;
    let of = steps.map_or(String::new(), |steps| format!("/{steps}"));
    let left = left.map_or(String::new(), |left| format!("  {} left", clock(left)));
    let right = accuracy.map_or(String::new(), |share| format!("  masked accuracy {:.1} %", share * 100.0));
    let speed = if tokens_per_s > 0.0 { format!("  {} tokens/s", thousands(tokens_per_s)) } else { String::new() };
    format!("step {step}{of}  loss {loss:.3}{right}{speed}{left}")
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// 12 345 tokens as 12.3k.
fn thousands(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{:.1}M", count / 1e6),
        count if count >= 1e4 => format!("{:.1}k", count / 1e3),
        count => format!("{count:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_says_all_there_is() {
        let reading = Reading { step: 120, loss: 3.20449, accuracy: Some(0.4167), tokens_per_s: 12_345.0 };
        let shown = line(reading, Some(600), Some(75 * SECOND));
        assert_eq!(shown, "step 120/600  loss 3.204  masked accuracy 41.7 %  12.3k tokens/s  1:15 left");
        assert_eq!(line(reading, None, None), "step 120  loss 3.204  masked accuracy 41.7 %  12.3k tokens/s");
        let uncounted = Reading { tokens_per_s: 0.0, accuracy: None, ..reading };
        assert_eq!(line(uncounted, Some(600), Some(75 * SECOND)), "step 120/600  loss 3.204  1:15 left");
        assert_eq!(clock(3725 * SECOND), "1:02:05");
    }

    #[test]
    fn the_nearer_limit_counts() {
        let limit = Limit { steps: Some(100), time: Some(60 * SECOND) };
        assert_eq!(limit.share(50, 6 * SECOND), 0.5);
        assert_eq!(limit.share(10, 45 * SECOND), 0.75);
        assert_eq!(limit.left(50, 50, 10 * SECOND), Some(10 * SECOND));
        // A resumed run at step 50 that did 10 steps in 10 s needs 50 s for the rest; 45 s of the time are left.
        assert_eq!(limit.left(10, 60, 15 * SECOND), Some(45 * SECOND));
        assert_eq!(Limit { steps: None, time: None }.left(5, 5, SECOND), None);
        assert_eq!(Limit { steps: Some(0), time: None }.share(0, SECOND), 1.0);
    }
}
