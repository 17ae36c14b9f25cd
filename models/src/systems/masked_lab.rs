//! Bidirectional models on rows of which a part is hidden, where the lowest possible loss is known.

use wgrad::nn::Module;
use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::lab::{MEASURED, loss, train};
use crate::Result;
use crate::corrupt::mlm::IGNORE;
use crate::front::synthetic::MarkovChain;

/// Rows of SYN-MARKOV of which a fifth is hidden: the bench of bidirectional models.
pub struct Masked {
    chain: MarkovChain,
    symbols: usize,
    rows: usize,
    length: usize,
    seed: u64,
}

impl Masked {
    /// A chain of its own for the seed. Symbols are tokens from 0 on, and the token after the last is the mask.
    ///
    /// # Errors
    /// If there are fewer than two symbols.
    pub fn new(symbols: usize, [rows, length]: [usize; 2], seed: u64) -> Result<Self> {
        Ok(Masked { chain: MarkovChain::new(symbols, seed)?, symbols, rows, length, seed })
    }

    /// Trains a model, which `logits` runs on tokens `[rows, length]`, and returns its loss on fresh rows over the lowest possible.
    ///
    /// # Errors
    /// If the device fails.
    pub fn excess(
        &self,
        model: &dyn Module,
        steps: u64,
        peak: f64,
        device: &Device,
        logits: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<f64> {
        let score = |(rows, hidden): &(Vec<Vec<u32>>, Vec<Vec<bool>>)| {
            let pairs = || rows.iter().flatten().zip(hidden.iter().flatten());
            let ids = pairs().map(|(&id, &hidden)| if hidden { self.symbols as u32 } else { id }).collect();
            let labels: Vec<i32> = pairs().map(|(&id, &hidden)| if hidden { id as i32 } else { IGNORE }).collect();
            loss(&logits(&Tensor::from_vec(ids, &[self.rows, self.length], device)?)?, &labels)
        };
        train(model, steps, peak, |step| score(&self.draw([1, step])))?;
        let (mut own, mut lowest) = (0.0, 0.0);
        for number in 0..MEASURED {
            let drawn = self.draw([2, number]);
            let counted = drawn.0.iter().zip(&drawn.1).map(|(row, hidden)| self.chain.bayes_loss(row, hidden));
            let (sum, count) = counted.fold((0.0, 0), |(sum, count), (loss, hidden)| (sum + loss, count + hidden));
            own += no_grad(|| score(&drawn))?.item()? * count as f64;
            lowest += sum;
        }
        Ok(own / lowest)
    }

    fn draw(&self, [stream, number]: [u64; 2]) -> (Vec<Vec<u32>>, Vec<Vec<bool>>) {
        let mut rng = Philox::new(self.seed, stream << 32 | number);
        let rows: Vec<Vec<u32>> = (0..self.rows).map(|_| self.chain.sample(self.length, &mut rng)).collect();
        let hide = |row: &Vec<u32>| row.iter().map(|_| rng.next_u32() < u32::MAX / 5).collect();
        let hidden = rows.iter().map(hide).collect();
        (rows, hidden)
    }
}
