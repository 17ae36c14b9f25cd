//! Masked language models on SYN-MARKOV, where the lowest possible loss is known: the bench on which systems that change
//! what is masked are checked.

use serde_json::json;
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::rng::Philox;
use wgrad::{DType, Device};

use crate::corrupt::mlm::{Mlm, Row};
use crate::data::Batch;
use crate::front::synthetic::MarkovChain;
use crate::systems::watch::Training;
use crate::train::{Targets, score, small_positions, small_range};
use crate::zoo::{Config, TextModel, Transformer, bert};
use crate::{Result, corrupt};

/// Symbols of the chain; `[MASK]` and padding follow them in the vocabulary.
const SYMBOLS: usize = 16;
/// Tokens in a row.
const LENGTH: usize = 32;
/// Width of the model.
const HIDDEN: usize = 64;
/// Rows in a batch.
const ROWS: usize = 64;
/// Batches that a trained model is measured on.
const MEASURED: u64 = 16;

/// A chain and the model that learns it.
pub struct MarkovLab {
    chain: MarkovChain,
    model: Transformer,
    device: Device,
    seed: u64,
}

impl MarkovLab {
    /// A new chain and a new model of two blocks of width 64.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(seed: u64, device: &Device) -> Result<Self> {
        device.set_seed(seed);
        let config = Config::new(json!({
            "vocab_size": SYMBOLS + 2,
            "hidden_size": HIDDEN,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 4 * HIDDEN,
            "max_position_embeddings": LENGTH,
            "type_vocab_size": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": small_range(HIDDEN),
            "pad_token_id": SYMBOLS + 1,
        }))?;
        let model = bert::new(&config, DType::F32, device)?;
        model.start_positions(small_positions(HIDDEN, LENGTH))?;
        Ok(MarkovLab { chain: MarkovChain::new(SYMBOLS, seed)?, model, device: device.clone(), seed })
    }

    /// BERT's policy over the symbols of the chain, but each chosen token becomes `[MASK]`: where a shown token may be a
    /// random one, the best prediction is not the chain's posterior.
    pub fn policy() -> Mlm {
        let bert = Mlm::bert(SYMBOLS as u32, SYMBOLS + 2);
        Mlm { random_ids: 0..SYMBOLS as u32, mask_share: 1.0, random_share: 0.0, ..bert }
    }

    /// Trains for `steps` steps under a policy. Returns the share of tokens that was masked in each step.
    ///
    /// # Errors
    /// If the policy is unsound or the device fails.
    pub fn train(&self, policy: &Mlm, steps: u64) -> Result<Vec<f64>> {
        let adam = Adam { weight_decay: 0.01, ..Adam::default() };
        let schedule = Schedule { peak: 3e-3, warmup: steps / 10, total: steps, floor: 0.0, decay: Decay::Linear };
        let groups = Group::of(&self.model);
        let mut optimizer = Optimizer::new(Rule::AdamW(adam), schedule.peak, groups)?.with_max_norm(1.0)?;
        let (mut rates, mut training) = (Vec::new(), Training::new(steps));
        for step in 0..steps {
            let targets = Targets::new(&self.batch(policy, step, 1)?.0, &self.device)?;
            rates.push(targets.count as f64 / (ROWS * LENGTH) as f64);
            let loss = self.model.loss(&targets.logits(&self.model)?, &targets.labels, None)?;
            optimizer.set_learning_rate(schedule.at(step))?;
            optimizer.step(&loss.backward()?)?;
            training.step(step + 1, &loss)?;
        }
        Ok(rates)
    }

    /// The model's cross-entropy over the lowest that any model can reach, on fresh rows in which `rate` of the tokens are
    /// `[MASK]`, all else shown as it is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn excess(&self, rate: f32) -> Result<f64> {
        let policy = Mlm { rate: corrupt::schedule::Rate::Constant(rate), ..Self::policy() };
        let (mut batches, mut lowest, mut count) = (Vec::new(), 0.0, 0);
        for number in 0..MEASURED {
            let (batch, rows) = self.batch(&policy, number, 2)?;
            for (row, labels) in rows.iter().zip(batch.labels.chunks(LENGTH)) {
                let hidden: Vec<bool> = labels.iter().map(|&label| label != corrupt::mlm::IGNORE).collect();
                let (loss, hidden) = self.chain.bayes_loss(row, &hidden);
                lowest += loss;
                count += hidden;
            }
            batches.push(batch);
        }
        Ok(score(&self.model, &batches, &self.device)?.loss / (lowest / count.max(1) as f64))
    }

    /// Corrupted rows and the rows as they were.
    fn batch(&self, policy: &Mlm, step: u64, stream: u64) -> Result<(Batch, Vec<Vec<u32>>)> {
        let mut rng = Philox::new(self.seed, stream << 32 | step);
        let mut batch =
            Batch { rows: ROWS, length: LENGTH, input_ids: vec![], labels: vec![], lengths: vec![LENGTH as u32; ROWS] };
        let mut rows = Vec::new();
        for _ in 0..ROWS {
            let ids = self.chain.sample(LENGTH, &mut rng);
            let row = Row { ids: &ids, special: &[false; LENGTH], word_start: &[true; LENGTH] };
            let corrupted = policy.corrupt(row, step, &mut rng)?;
            batch.input_ids.extend(corrupted.input_ids);
            batch.labels.extend(corrupted.labels);
            rows.push(ids);
        }
        Ok((batch, rows))
    }
}
