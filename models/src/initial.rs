//! Initial values of the matrices of a language model, by what they are for.

use std::f64::consts::PI;

use wgrad::nn::Init;

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The table of words.
    Embedding,
    /// Projection to queries or keys.
    Match,
    /// Projection to values.
    Value,
    /// Projection of all heads back to the residual stream.
    Output,
    /// Layers of the feed-forward part that read the residual stream.
    Up,
    /// The layer that writes to it.
    Down,
    /// The readout.
    Head,
}

impl Role {
    /// The role of a parameter of [`crate::lm::Lm`] by its name, and its block; None for vectors.
    pub fn of(name: &str) -> Option<(Role, usize)> {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["embedding", "weight"] => Some((Role::Embedding, 0)),
            ["head", "weight"] => Some((Role::Head, 0)),
            ["blocks", number, part, "weight" | "inner"] => {
                let role = match part {
                    "query" | "key" => Role::Match,
                    "value" => Role::Value,
                    "output" => Role::Output,
                    "gate" | "up" => Role::Up,
                    "down" => Role::Down,
                    _ => return None,
                };
                Some((role, number.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// The distribution of matrices.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheme {
    /// Normal, of one standard deviation.
    Normal(f64),
    /// The same, but what writes to the residual stream of so many blocks is divided by the root of twice their number (Radford et al.,
    /// GPT-2, 2019).
    ScaledResidual(f64, usize),
    /// Glorot and Bengio's, with a gain for values, outputs and the feed-forward part (Wang et al., DeepNet, 2022, arXiv 2203.00555).
    Xavier {
        /// The gain; queries and keys have 1.
        gain: f64,
    },
    /// DeepScaleLM's (Kedia et al., 2024, arXiv 2403.09635, section 4), without dropout.
    DeepScale {
        /// Width of the residual stream.
        hidden: usize,
        /// The correlation between tokens at the input of each block, as [`correlations`] predicts it.
        correlations: Vec<f64>,
    },
}

impl Scheme {
    /// The initial values of a matrix in a block. Those of the table of words are the model's own.
    pub fn init(&self, role: Role, block: usize) -> Init {
        let normal = |std: f64| Init::Normal { mean: 0.0, std };
        let writes = matches!(role, Role::Output | Role::Down);
        match self {
            Scheme::Normal(std) => normal(*std),
            Scheme::ScaledResidual(std, layers) if writes => normal(std / (2.0 * *layers as f64).sqrt()),
            Scheme::ScaledResidual(std, _) => normal(*std),
            Scheme::Xavier { .. } if matches!(role, Role::Match | Role::Head) => Init::XavierNormal { gain: 1.0 },
            Scheme::Xavier { gain } => Init::XavierNormal { gain: *gain },
            Scheme::DeepScale { hidden, correlations } => {
                let variance = match role {
                    Role::Up | Role::Down => 0.5f64.sqrt(),
                    Role::Value | Role::Output => correlations.get(block).map_or(1.0, |r| r.recip().sqrt()),
                    _ => 1.0,
                };
                normal((variance / *hidden as f64).sqrt())
            }
        }
    }
}

/// The correlation between tokens at the input of each of `layers` blocks with residuals `sqrt(1 - add^2) x + add f(x)`, from `first` on. What
/// a token sees is the mean of about `keys` values, which keeps `1 / keys` of what they do not share (DeepScaleLM, appendix A: components).
pub fn correlations(layers: usize, add: f64, first: f64, keys: f64) -> Vec<f64> {
    let (keep, add) = (1.0 - add * add, add * add);
    let mut r = first;
    let mut seen = Vec::with_capacity(layers);
    for _ in 0..layers {
        seen.push(r + (1.0 - r) / keys);
        r = keep * r + add;
        let fed = r + ((1.0 - r * r).sqrt() - r * r.acos()) / PI;
        r = keep * r + add * fed;
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_name() {
        assert_eq!(Role::of("embedding.weight"), Some((Role::Embedding, 0)));
        assert_eq!(Role::of("blocks.12.key.weight"), Some((Role::Match, 12)));
        assert_eq!(Role::of("blocks.3.down.weight"), Some((Role::Down, 3)));
        for none in ["blocks.3.attention_norm.weight", "blocks.3.up.bias", "norm.weight", "blocks.x.up.weight"] {
            assert_eq!(Role::of(none), None, "{none}");
        }
    }

    #[test]
    fn correlations_rise_towards_one() {
        let r = correlations(96, (1.0f64 / 96.0).sqrt(), 0.221, f64::INFINITY);
        assert!(r[0] == 0.221 && r.windows(2).all(|pair| pair[0] < pair[1]) && r[95] < 1.0, "{r:?}");
        // One block by hand: 0.99 r + 0.01, and then what ReLUs do to it.
        let r = correlations(2, 0.1, 0.2, f64::INFINITY)[1];
        let a = 0.99 * 0.2 + 0.01f64;
        let want = 0.99 * a + 0.01 * (a + ((1.0 - a * a).sqrt() - a * a.acos()) / PI);
        assert!((r - want).abs() < 1e-12);
    }
}
