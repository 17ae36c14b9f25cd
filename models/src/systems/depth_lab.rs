//! Deep and thin language models on rows of symbols whose law changes along the way: the bench on which placements of norms are checked.

use wgrad::nn::Module;
use wgrad::optim::Schedule;
use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::lab::train_then;
use crate::Result;
use crate::depth::Probe;
use crate::front::synthetic::{MarkovChain, below};
use crate::initial::Scheme;
use crate::lm::{Lm, LmConfig};
use crate::placement::{Placement, Shape};

/// Symbols.
pub const SYMBOLS: usize = 8;
/// Chains that take turns.
const CHAINS: usize = 3;
/// Symbols that a chain draws in its turn, on average.
const TURN: usize = 24;
/// Models of which a mean is taken.
const SEEDS: u64 = 4;
/// Batches that a trained model is measured on.
const MEASURED: u64 = 8;

/// A deep and thin decoder.
pub fn shape(layers: usize, length: usize) -> Shape {
    Shape { vocab: SYMBOLS, hidden: 64, heads: 4, layers, length }
}

/// Rows in batches. Markov chains take turns, so that which one it is has to be told from the symbols before.
pub struct Rows {
    chains: Vec<MarkovChain>,
    rows: usize,
    length: usize,
    seed: u64,
    device: Device,
}

impl Rows {
    /// Chains of their own for the seed.
    ///
    /// # Errors
    /// Never: there are enough symbols.
    pub fn new([rows, length]: [usize; 2], seed: u64, device: &Device) -> Result<Self> {
        let chains = (0..CHAINS as u64).map(|n| MarkovChain::new(SYMBOLS, seed + n)).collect::<Result<_>>()?;
        Ok(Rows { chains, rows, length, seed, device: device.clone() })
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tokens and the tokens after them, `[rows, length]`, of batch `number` of a stream.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn batch(&self, stream: u64, number: u64) -> Result<(Tensor, Tensor)> {
        let mut rng = Philox::new(self.seed, stream << 32 | number);
        let rows: Vec<Vec<u32>> = (0..self.rows).map(|_| self.row(&mut rng)).collect();
        let tokens = |from: usize| {
            let ids = rows.iter().flat_map(|row| row[from..from + self.length].iter().map(|&id| id as i32)).collect();
            Tensor::from_vec(ids, &[self.rows, self.length], &self.device)
        };
        Ok((tokens(0)?, tokens(1)?))
    }

    fn row(&self, rng: &mut Philox) -> Vec<u32> {
        let mut row = Vec::with_capacity(self.length + 1);
        while row.len() <= self.length {
            let turn = 1 + below(2 * TURN, rng);
            let left = self.length + 1 - row.len();
            row.extend(self.chains[below(CHAINS, rng)].sample(turn.min(left), rng));
        }
        row
    }

    /// Trains a model by a schedule.
    ///
    /// # Errors
    /// If the device fails.
    pub fn train(&self, lm: &Lm, schedule: &Schedule) -> Result<()> {
        let unit = lm.unit_vectors();
        let loss = |step| {
            let (ids, labels) = self.batch(1, step)?;
            lm.loss(&ids, &labels)
        };
        train_then(lm, schedule, loss, || unit.as_ref().map_or(Ok(()), |unit| unit.apply()))?;
        Ok(())
    }

    /// The loss on fresh rows, of the model in evaluation.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(&self, lm: &Lm) -> Result<f64> {
        lm.train(false);
        let losses = (0..MEASURED).map(|number| {
            let (ids, labels) = self.batch(2, number)?;
            Ok(no_grad(|| lm.loss(&ids, &labels))?.item()?)
        });
        let loss = losses.sum::<Result<f64>>()? / MEASURED as f64;
        lm.train(true);
        Ok(loss)
    }
}

/// A new decoder of a placement with Xavier's initial values, which the theory of placements is about, and one pass through it.
///
/// # Errors
/// If the device fails.
pub fn fresh(placement: Placement, layers: usize, device: &Device, seed: u64) -> Result<Probe> {
    device.set_seed(seed);
    let config = LmConfig { scheme: Scheme::Xavier { gain: 1.0 }, ..shape(layers, 32).decoder(placement) };
    let lm = Lm::new(&config, device)?;
    let (ids, labels) = Rows::new([4, 32], seed, device)?.batch(0, 0)?;
    Probe::new(&lm, &ids, &labels)
}

/// What `of` gives for decoders of these depths, each the mean of some seeds.
///
/// # Errors
/// If the device fails.
pub fn by_depth(
    placement: Placement,
    depths: &[usize],
    device: &Device,
    seed: u64,
    of: impl Fn(&Probe) -> f64,
) -> Result<Vec<(f64, f64)>> {
    let mean = |&layers: &usize| {
        let one = |n| Ok::<_, crate::Error>(of(&fresh(placement, layers, device, SEEDS * seed + n)?));
        Ok((layers as f64, (0..SEEDS).map(one).sum::<Result<f64>>()? / SEEDS as f64))
    };
    depths.iter().map(mean).collect()
}

#[cfg(test)]
#[path = "depth_lab_tests.rs"]
mod tests;
