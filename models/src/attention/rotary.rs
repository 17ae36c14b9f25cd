//! Rotary positions, and the ways in which trained ones are stretched to longer texts.

use std::f64::consts::PI;

use wgrad::Rope;

use crate::Result;

/// Rotary positions (Su et al., RoFormer, 2021) of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Elements of a head that are turned.
    pub dim: usize,
    /// Whether the pairs are neighbours, or lie half of `dim` apart.
    pub interleaved: bool,
    /// How the wavelengths were stretched.
    pub stretch: Stretch,
}

/// How the wavelengths of a trained model are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Stretch {
    /// Not at all.
    #[default]
    None,
    /// All by one factor (Chen et al., Positional interpolation, 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Those longer than `original / low` by the factor, those shorter than `original / high` not at all, the others in between (Llama 3.1).
    ByLength {
        /// The factor.
        factor: f64,
        /// Turns of the longest waves over the original length that are not stretched to the full.
        low: f64,
        /// Turns of the longest waves that are not stretched.
        high: f64,
        /// Positions that the model was trained on first.
        original: f64,
    },
    /// The same with bounds among the pairs, and a factor of what is turned (Peng et al., YaRN, 2023).
    Yarn {
        /// The factor.
        factor: f64,
        /// Turns over the original length from which on waves are not stretched.
        fast: f64,
        /// Turns up to which they are stretched to the full.
        slow: f64,
        /// Positions that the model was trained on first.
        original: f64,
        /// Of queries and keys.
        magnitude: f64,
    },
}

impl Rotary {
    /// The engine's angles.
    ///
    /// # Errors
    /// If a number is outside its domain.
    pub fn rope(&self) -> Result<Rope> {
        let &Rotary { theta, dim, interleaved, stretch } = self;
        let frequencies = (0..dim / 2).map(|k| stretch.apply(theta.powf(-2.0 * k as f64 / dim as f64), k, self));
        let rope = Rope::with_frequencies(frequencies.collect())?;
        let rope = if interleaved { rope.interleaved() } else { rope };
        Ok(match stretch {
            Stretch::Yarn { magnitude, .. } => rope.with_magnitude(magnitude),
            _ => rope,
        })
    }
}

impl Stretch {
    /// The frequency of pair `k` after stretching.
    fn apply(self, frequency: f64, k: usize, rotary: &Rotary) -> f64 {
        // What of the frequency stays, from nothing to all.
        let (factor, kept) = match self {
            Stretch::None => return frequency,
            Stretch::Linear { factor } => (factor, 0.0),
            Stretch::ByLength { factor, low, high, original } => {
                let turns = original * frequency / (2.0 * PI);
                (factor, (turns - low) / (high - low))
            }
            Stretch::Yarn { factor, fast, slow, original, .. } => {
                let pair =
                    |turns: f64| rotary.dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * rotary.theta.ln());
                let first = pair(fast).floor().max(0.0);
                let last = pair(slow).ceil().min(rotary.dim as f64 - 1.0);
                (factor, 1.0 - (k as f64 - first) / (last - first).max(0.001))
            }
        };
        let kept = kept.clamp(0.0, 1.0);
        frequency * (kept + (1.0 - kept) / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(stretch: Stretch) -> Vec<f64> {
        let rotary = Rotary { theta: 500_000.0, dim: 128, interleaved: false, stretch };
        (0..64).map(|k| stretch.apply(rotary.theta.powf(-2.0 * k as f64 / 128.0), k, &rotary)).collect()
    }

    #[test]
    fn short_waves_stay_and_long_ones_are_stretched() {
        let plain = frequencies(Stretch::None);
        let llama = frequencies(Stretch::ByLength { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 });
        let yarn = Stretch::Yarn { factor: 8.0, fast: 32.0, slow: 1.0, original: 8192.0, magnitude: 1.2 };
        let yarn = frequencies(yarn);
        for stretched in [llama.clone(), yarn] {
            assert_eq!(stretched[..4], plain[..4]);
            for k in 0..64 {
                let share = stretched[k] / plain[k];
                assert!((0.125 - 1e-12..=1.0).contains(&share), "pair {k}: {share}");
            }
            assert!(stretched[58..].iter().zip(&plain[58..]).all(|(s, p)| (s / p - 0.125).abs() < 1e-12));
            // The order stays.
            assert!(stretched.windows(2).all(|pair| pair[0] > pair[1]));
        }
        // Waves of 8192 / 4 positions are the longest that stay.
        for (k, (stretched, plain)) in llama.iter().zip(&plain).enumerate() {
            assert_eq!(stretched == plain, 2.0 * PI / plain <= 2048.0, "pair {k}");
        }
        let linear = frequencies(Stretch::Linear { factor: 4.0 });
        assert!(linear.iter().zip(&plain).all(|(s, p)| (s * 4.0 / p - 1.0).abs() < 1e-12));
    }
}
