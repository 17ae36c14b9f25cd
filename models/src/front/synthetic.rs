//! Synthetic corpora whose best possible predictor is known, so that a claim about learning can be checked.

use wgrad::rng::Philox;

use crate::{Error, Result};

/// SYN-MARKOV: sequences of an order-1 Markov chain with random transition probabilities. For any set of hidden
/// positions the exact posterior follows from one forward and one backward sweep, and with it the lowest cross-entropy
/// that any model can reach.
pub struct MarkovChain {
    symbols: usize,
    /// Row-stochastic, `transition[i * symbols + j] = p(j after i)`.
    transition: Vec<f64>,
    start: Vec<f64>,
}

/// Concentration of the Dirichlet distribution of each row: small, so that a symbol has few likely successors.
const CONCENTRATION: f64 = 0.3;

impl MarkovChain {
    /// A chain over `symbols` symbols; each row of its transition matrix is drawn from a Dirichlet distribution.
    ///
    /// # Errors
    /// If there are fewer than two symbols.
    pub fn new(symbols: usize, seed: u64) -> Result<Self> {
        if symbols < 2 {
            return Err(Error::argument("symbols", format!("{symbols} given, at least 2 expected")));
        }
        let mut rng = Philox::new(seed, 0);
        let mut transition = Vec::with_capacity(symbols * symbols);
        for _ in 0..symbols {
            // A floor keeps every transition possible, and the chain ergodic.
            let row: Vec<f64> = (0..symbols).map(|_| gamma(CONCENTRATION, &mut rng) + 1e-4).collect();
            let sum: f64 = row.iter().sum();
            transition.extend(row.iter().map(|v| v / sum));
        }
        let mut chain = MarkovChain { symbols, transition, start: vec![1.0 / symbols as f64; symbols] };
        for _ in 0..2000 {
            chain.start = chain.step(&chain.start);
        }
        Ok(chain)
    }

    /// How many symbols there are.
    pub fn symbols(&self) -> usize {
        self.symbols
    }

    /// The law of the next symbol, given the law of this one.
    fn step(&self, law: &[f64]) -> Vec<f64> {
        let k = self.symbols;
        (0..k).map(|j| (0..k).map(|i| law[i] * self.transition[i * k + j]).sum()).collect()
    }

    /// The likelihood of what follows, one symbol back.
    fn step_back(&self, likelihood: &[f64]) -> Vec<f64> {
        let k = self.symbols;
        (0..k).map(|i| (0..k).map(|j| self.transition[i * k + j] * likelihood[j]).sum()).collect()
    }

    /// A sequence from the stationary chain.
    pub fn sample(&self, length: usize, rng: &mut Philox) -> Vec<u32> {
        let mut law = self.start.clone();
        (0..length)
            .map(|_| {
                let symbol = draw(&law, rng);
                law = self.transition[symbol * self.symbols..(symbol + 1) * self.symbols].to_vec();
                symbol as u32
            })
            .collect()
    }

    /// The exact law of the symbol at each position, given the shown ones (None is hidden).
    pub fn posterior(&self, shown: &[Option<u32>]) -> Vec<Vec<f64>> {
        let k = self.symbols;
        let evidence = |at: usize| -> Vec<f64> {
            (0..k).map(|s| if shown[at].is_none_or(|v| v as usize == s) { 1.0 } else { 0.0 }).collect()
        };
        let mut before = Vec::with_capacity(shown.len());
        let mut law = self.start.clone();
        for at in 0..shown.len() {
            before.push(law.clone());
            law = self.step(&normalised(product(&law, &evidence(at))));
        }
        let mut after = vec![1.0; k];
        let mut out = vec![Vec::new(); shown.len()];
        for at in (0..shown.len()).rev() {
            let here = evidence(at);
            out[at] = normalised(product(&product(&before[at], &here), &after));
            after = normalised(self.step_back(&product(&here, &after)));
        }
        out
    }

    /// Sum of `-ln p(truth | shown)` over the hidden positions, and their number: the Bayes cross-entropy in nats.
    pub fn bayes_loss(&self, truth: &[u32], hidden: &[bool]) -> (f64, usize) {
        let shown: Vec<Option<u32>> = truth.iter().zip(hidden).map(|(&t, &h)| (!h).then_some(t)).collect();
        let posterior = self.posterior(&shown);
        let losses = (0..truth.len()).filter(|&i| hidden[i]).map(|i| -posterior[i][truth[i] as usize].ln());
        (losses.sum(), hidden.iter().filter(|&&h| h).count())
    }

    /// Sum of `-ln p` of each symbol after the first, given the one before: the lowest loss of a model of the next symbol.
    pub fn surprise(&self, sequence: &[u32]) -> f64 {
        let cost = |pair: &[u32]| -self.transition[pair[0] as usize * self.symbols + pair[1] as usize].ln();
        sequence.windows(2).map(cost).sum()
    }
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| x * y).collect()
}

fn normalised(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
    values
}

/// An index drawn with the given probabilities.
fn draw(law: &[f64], rng: &mut Philox) -> usize {
    let mut left = uniform(rng);
    for (i, p) in law.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            return i;
        }
    }
    law.len() - 1
}

/// A whole number below `n`, all equally probable.
pub(crate) fn below(n: usize, rng: &mut Philox) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// Uniform in (0, 1).
fn uniform(rng: &mut Philox) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

/// A standard normal variate, by Box and Muller's method (1958).
pub(crate) fn normal(rng: &mut Philox) -> f64 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// A gamma variate of the given shape below 1, by Marsaglia and Tsang's method with their boost for small shapes
/// (A simple method for generating gamma variables, 2000).
fn gamma(shape: f64, rng: &mut Philox) -> f64 {
    let d = shape + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = normal(rng);
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && uniform(rng).ln() < 0.5 * normal * normal + d * (1.0 - v + v.ln()) {
            return d * v * uniform(rng).powf(1.0 / shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_laws_and_the_start_is_stationary() {
        let chain = MarkovChain::new(16, 3).unwrap();
        for row in chain.transition.chunks(16) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let next = chain.step(&chain.start);
        assert!(next.iter().zip(&chain.start).all(|(a, b)| (a - b).abs() < 1e-9));
    }

    #[test]
    fn posterior_agrees_with_enumeration() {
        let chain = MarkovChain::new(4, 7).unwrap();
        let shown = [None, Some(2), None, None, Some(1)];
        let posterior = chain.posterior(&shown);
        let mut exact = vec![vec![0.0; 4]; 5];
        let mut total = 0.0;
        for code in 0..4usize.pow(5) {
            let s: Vec<usize> = (0..5).map(|i| code / 4usize.pow(i as u32) % 4).collect();
            if shown.iter().zip(&s).any(|(v, &x)| v.is_some_and(|v| v as usize != x)) {
                continue;
            }
            let p = s.windows(2).fold(chain.start[s[0]], |p, w| p * chain.transition[w[0] * 4 + w[1]]);
            total += p;
            s.iter().enumerate().for_each(|(i, &x)| exact[i][x] += p);
        }
        for (row, want) in posterior.iter().zip(&exact) {
            assert!(row.iter().zip(want).all(|(a, b)| (a - b / total).abs() < 1e-12));
        }
    }

    #[test]
    fn sampled_pairs_follow_the_matrix() {
        let chain = MarkovChain::new(4, 1).unwrap();
        let sequence = chain.sample(200_000, &mut Philox::new(5, 1));
        let from0: Vec<u32> = sequence.windows(2).filter(|w| w[0] == 0).map(|w| w[1]).collect();
        for j in 0..4 {
            let p = chain.transition[j];
            let seen = from0.iter().filter(|&&x| x as usize == j).count() as f64 / from0.len() as f64;
            assert!((seen - p).abs() < 4.0 * (p * (1.0 - p) / from0.len() as f64).sqrt() + 1e-3);
        }
    }
}
