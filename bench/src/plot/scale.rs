//! Logarithmic axes.

/// A range of positive values over a range of pixels.
pub struct Axis {
    low: f64,
    high: f64,
    pixels: (f64, f64),
}

impl Axis {
    /// An axis that holds all of the positive `values`, with a tenth of its length as room at both ends.
    pub fn new(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
        let low = low.min(high);
        let room = (high / low).powf(0.1).max(1.3);
        Axis { low: low / room, high: high * room, pixels }
    }

    /// The pixel at which `value` stands.
    pub fn pixel(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// The ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Values to mark: powers of ten, with 2 and 5 times these if they are few.
    pub fn ticks(&self) -> Vec<f64> {
        let factors: &[f64] = if self.high / self.low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// A tick as one writes it: 0.5, 20, 5k.
pub fn label(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = format!("{scaled:.4}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_inside() {
        let axis = Axis::new([2.0, 300.0].into_iter(), (100.0, 500.0));
        assert!(axis.pixel(2.0) > 100.0 && axis.pixel(300.0) < 500.0);
        assert_eq!(axis.ticks(), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        let middle = axis.pixel(600f64.sqrt());
        assert!((middle - 300.0).abs() < 1e-9, "{middle}");
        let one = Axis::new([7.0].into_iter(), (0.0, 100.0));
        assert!((one.pixel(7.0) - 50.0).abs() < 1e-9);
        assert!(Axis::new([1.0, 1e6].into_iter(), (0.0, 1.0)).ticks().len() <= 8);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.002, 0.5, 20.0, 5000.0, 2e4, 1e6].map(label), ["0.002", "0.5", "20", "5000", "20k", "1M"]);
    }
}
