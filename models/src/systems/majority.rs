//! The majority task of Brody et al. (2023, arXiv 2305.02582): each token of a row is to tell which token the row has most of, for which
//! attention has to see all keys alike. One block of one head with norms before its parts, as the authors train it.

use wgrad::nn::{Build, Embedding, Linear, Module, Visitor};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::lab::{answers, loss};
use super::watch::Training;
use crate::Result;
use crate::front::synthetic::below;

/// Kinds of tokens.
const CLASSES: usize = 4;
/// Width of the model, small so that keys crowd.
pub const WIDTH: usize = 8;
const ROWS: usize = 64;
/// Least and greatest length of a row.
const LENGTHS: [usize; 2] = [20, 50];
/// Steps after which a model that has not learned it is given up.
const MOST: u64 = 3000;
/// Steps between two looks at how far it is.
const EVERY: u64 = 50;
/// The share of right answers at which it counts as learned.
pub const LEARNED: f64 = 0.99;
/// Added to mean squares, against rows of zeros alone.
const EPS: f64 = 1e-12;

/// The norms of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// A layer norm without gain and bias: projection and scaling.
    Both,
    /// Scaling alone, to the same lengths.
    Scaling,
    /// Scaling alone as the authors' code has it: to a length of `1 / sqrt(width)` rather than `sqrt(width)`, which makes all that follows
    /// smaller, and learning slower, for a reason that is not the missing projection.
    AuthorsScaling,
}

impl Halves {
    fn of(self, x: &Tensor) -> wgrad::Result<Tensor> {
        match self {
            Halves::Both => x.layer_norm(None, None, EPS),
            Halves::Scaling => x.rms_norm(None, EPS),
            Halves::AuthorsScaling => x.rms_norm(None, EPS)?.mul_scalar((WIDTH as f64).recip()),
        }
    }
}

struct Model {
    halves: Halves,
    embedding: Embedding,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    up: Linear,
    down: Linear,
    head: Linear,
}

impl Model {
    fn new(halves: Halves, build: &Build) -> Result<Self> {
        let square = |bias| Linear::new(WIDTH, WIDTH, bias, build);
        Ok(Model {
            halves,
            embedding: Embedding::new(CLASSES, WIDTH, None, build)?,
            query: square(false)?,
            key: square(false)?,
            value: square(false)?,
            output: square(true)?,
            up: square(true)?,
            down: square(true)?,
            head: Linear::new(WIDTH, CLASSES, true, build)?,
        })
    }

    fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        let x = self.embedding.forward(ids)?;
        let normed = self.halves.of(&x)?;
        let scores = self.query.forward(&normed)?.matmul(&self.key.forward(&normed)?.transpose(1, 2)?)?;
        let shares = scores.mul_scalar((WIDTH as f64).sqrt().recip())?.softmax(-1)?;
        let x = x.add(&self.output.forward(&shares.matmul(&self.value.forward(&normed)?)?)?)?;
        let inside = self.up.forward(&self.halves.of(&x)?)?.relu()?;
        let x = x.add(&self.down.forward(&inside)?)?;
        Ok(self.head.forward(&self.halves.of(&x)?)?)
    }

    /// The mean angle in degrees between what the queries look for among normed vectors and the vector of ones, or its opposite.
    fn angle(&self) -> Result<f64> {
        let normed = self.halves.of(&self.embedding.weight.tensor())?;
        let sought = self.query.forward(&normed)?.matmul(&self.key.weight.tensor())?;
        let lengths = sought.norm(2.0, &[-1], false)?.mul_scalar((WIDTH as f64).sqrt())?;
        let cosines = sought.sum(&[-1], false)?.div(&lengths)?.abs()?.to_f64_vec()?;
        Ok(cosines.iter().map(|cosine| cosine.min(1.0).acos().to_degrees()).sum::<f64>() / cosines.len() as f64)
    }
}

impl Module for Model {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("embedding", &self.embedding);
        let layers = [&self.query, &self.key, &self.value, &self.output, &self.up, &self.down, &self.head];
        for (name, layer) in ["query", "key", "value", "output", "up", "down", "head"].iter().zip(layers) {
            v.module(name, layer);
        }
    }
}

/// Rows of one length, and which token each has most of.
fn rows(device: &Device, seed: u64, [stream, number]: [u64; 2]) -> Result<(Tensor, Vec<i32>)> {
    let mut rng = Philox::new(seed, stream << 32 | number);
    let length = LENGTHS[0] + below(LENGTHS[1] - LENGTHS[0] + 1, &mut rng);
    let (mut ids, mut labels) = (Vec::new(), Vec::new());
    while labels.len() < ROWS * length {
        let row: Vec<u32> = (0..length).map(|_| below(CLASSES, &mut rng) as u32).collect();
        let mut counts = [0; CLASSES];
        row.iter().for_each(|&id| counts[id as usize] += 1);
        let most = counts.iter().max().copied().unwrap_or(0);
        let mut winners = (0..CLASSES).filter(|&class| counts[class] == most);
        // Rows without a winner are drawn anew.
        if let (Some(winner), None) = (winners.next(), winners.next()) {
            ids.extend(row);
            labels.resize(labels.len() + length, winner as i32);
        }
    }
    Ok((Tensor::from_vec(ids, &[ROWS, length], device)?, labels))
}

/// What one training came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Steps until the share of right answers was [`LEARNED`], if it ever was.
    pub steps: Option<u64>,
    /// The share at the end.
    pub share: f64,
    /// The angle of the queries with the vector of ones at the end, in degrees.
    pub angle: f64,
}

/// Trains a model until it has learned the task, and half as long again so that the angle settles.
///
/// # Errors
/// If the device fails.
pub fn train(halves: Halves, device: &Device, seed: u64) -> Result<Outcome> {
    device.set_seed(seed);
    let model = Model::new(halves, &Build::new(device))?;
    let rule = Rule::Adam(Adam { weight_decay: 0.0, ..Adam::default() });
    let mut optimizer = Optimizer::new(rule, 1e-3, Group::of(&model))?;
    let mut training = Training::new(MOST);
    let (mut reached, mut share) = (None, 0.0);
    for step in 1..=MOST {
        let (ids, labels) = rows(device, seed, [1, step])?;
        let loss = loss(&model.logits(&ids)?, &labels)?;
        optimizer.step(&loss.backward()?)?;
        training.step(step, &loss)?;
        if step % EVERY == 0 {
            share = no_grad(|| measure(&model, device, seed))?;
            if share >= LEARNED && reached.is_none() {
                reached = Some(step);
            }
        }
        if reached.is_some_and(|reached| step >= reached + reached / 2) {
            break;
        }
    }
    Ok(Outcome { steps: reached, share, angle: no_grad(|| model.angle())? })
}

fn measure(model: &Model, device: &Device, seed: u64) -> Result<f64> {
    let each = (0..8).map(|number| {
        let (ids, labels) = rows(device, seed, [2, number])?;
        answers(&model.logits(&ids)?, &labels)
    });
    Ok(each.sum::<Result<f64>>()? / 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_one_winner_and_norms_their_lengths() {
        let device = Device::new_cpu();
        let (ids, labels) = rows(&device, 1, [1, 5]).unwrap();
        let length = ids.size(1).unwrap();
        assert!((LENGTHS[0]..=LENGTHS[1]).contains(&length));
        for (row, labels) in ids.to_vec::<u32>().unwrap().chunks(length).zip(labels.chunks(length)) {
            let count = |class: u32| row.iter().filter(|&&id| id == class).count();
            let won = count(labels[0] as u32);
            assert!((0..CLASSES as u32).all(|class| class as i32 == labels[0] || count(class) < won));
            assert!(labels.iter().all(|label| *label == labels[0]));
        }
        let x = Tensor::from_slice(&[3.0f32, 1.0, -2.0, 0.5, 4.0, 0.0, 1.0, -1.0], &[1, 8], &device).unwrap();
        let length = |halves: Halves| halves.of(&x).unwrap().norm(2.0, &[], false).unwrap().item().unwrap();
        let root = (WIDTH as f64).sqrt();
        for (halves, want) in [(Halves::Both, root), (Halves::Scaling, root), (Halves::AuthorsScaling, root.recip())] {
            assert!((length(halves) - want).abs() < 1e-5, "{halves:?}");
        }
        assert!(Halves::Both.of(&x).unwrap().sum_all().unwrap().item().unwrap().abs() < 1e-5);
    }
}
