//! From values to pixels, and where the ticks stand.

/// An axis: a range of values over a range of pixels.
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pixels: (f64, f64),
    /// Values with a grid line and a label.
    pub ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds all `values` over `pixels`, with about `wanted` ticks. A linear axis ends at ticks if `to_ticks`.
    pub fn new(
        values: impl Iterator<Item = f64>,
        pixels: (f64, f64),
        wanted: usize,
        log: bool,
        to_ticks: bool,
    ) -> Self {
        let (mut low, mut high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        // One value alone gets some room around it.
        if high - low <= f64::EPSILON * high.abs().max(low.abs()) {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
            (low, high) = (low - if log { low * 0.5 } else { room }, high + room);
        }
        let mut ticks = if log { log_ticks(low, high) } else { Vec::new() };
        if ticks.len() < 3 {
            let step = nice_step((high - low) / wanted.max(1) as f64);
            if to_ticks && !log {
                (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
            }
            let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
            ticks = (first..=last).map(|n| n as f64 * step).collect();
        }
        Self { low, high, log, pixels, ticks }
    }

    /// The pixel at which `value` stands.
    pub fn pixel(&self, value: f64) -> f64 {
        let to = |v: f64| if self.log { v.ln() } else { v };
        let share = (to(value) - to(self.low)) / (to(self.high) - to(self.low));
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }
}

/// The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// 1, 2 and 5 times powers of ten within the range; powers alone where these would be many.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let many = high / low > 1e4;
    let factors: &[f64] = if many { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A number as one writes it beside an axis: 0.25, 1500 as 1.5k, 2000000 as 2M.
pub fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e15 || (size > 0.0 && size < 1e-4) => return format!("{value:.1e}"),
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = format!("{scaled:.4}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::new([0.3, 7.7].into_iter(), (100.0, 0.0), 5, false, true);
        assert_eq!(axis.ticks, [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!((axis.pixel(0.0), axis.pixel(8.0), axis.pixel(4.0)), (100.0, 0.0, 50.0));
        let tight = Axis::new([0.0, 499.0].into_iter(), (0.0, 499.0), 8, false, false);
        assert_eq!((tight.ticks.len(), tight.ticks[1], tight.pixel(499.0)), (5, 100.0, 499.0));
        let log = Axis::new([0.9, 110.0].into_iter(), (0.0, 1.0), 5, true, true);
        assert_eq!(log.ticks, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert!((log.pixel(10.0) - 0.5).abs() < 0.01);
        let narrow = Axis::new([3.1, 3.9].into_iter(), (0.0, 1.0), 5, true, true);
        assert!(narrow.ticks.len() >= 3, "{:?}", narrow.ticks);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.25, -3.0, 1500.0, 12_500.0, 2e6, 3e9, 1e-6].map(label);
        assert_eq!(labels, ["0", "0.25", "-3", "1500", "12.5k", "2M", "3G", "1.0e-6"]);
    }
}
