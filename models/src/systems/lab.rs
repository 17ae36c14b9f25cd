//! Small models around any mixer, and how they are trained and measured: the bench on which systems that change what moves information
//! between positions are checked.

use wgrad::nn::{Build, Embedding, Init, Module, Param, Visitor};
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::rng::Philox;
use wgrad::{Activation, Device, Mask, PadMode, Tensor, no_grad};

use crate::attention::{Attention, AttentionConfig, Bias, Pass, Project, Rotary, Stretch, Window};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::recall::Questions;
use crate::mixer::{Mixer, MixerBlock};
use crate::norm::{Norm, NormConfig};
use crate::systems::watch::Training;
use crate::weights::Form;
use crate::{Result, heads};

/// Added to the mean squares in norms.
const EPS: f64 = 1e-6;
/// Batches that a trained model is measured on.
pub const MEASURED: u64 = 8;

/// Sizes of a small model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
}

impl Sizes {
    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads.max(1)
    }

    /// The feed-forward part of all small models.
    pub fn feed_forward(&self) -> FeedForwardConfig {
        FeedForwardConfig {
            width: 2 * self.hidden,
            activation: Activation::Silu,
            inner: Inner::Gated { gate: "gate", up: "up", down: "down" },
            bias: [false; 2],
            form: Form::Rows,
            between: Between::default(),
            dropout: 0.0,
        }
    }

    /// Attention with rotary positions and no biases.
    pub fn attention(&self) -> AttentionConfig {
        let head_dim = self.head_dim();
        AttentionConfig {
            bias: Bias::all(false),
            rotary: Some(Rotary { theta: 10_000.0, dim: head_dim, interleaved: false, stretch: Stretch::None }),
            ..AttentionConfig::new(
                self.heads,
                head_dim,
                Project::Apart { query: "query", key: "key", value: "value" },
                "output",
            )
        }
    }

    /// A mixer of attention without positions.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn plain_mixer(&self, build: &Build) -> Result<Box<dyn Mixer>> {
        Ok(Box::new(Attention::new(AttentionConfig { rotary: None, ..self.attention() }, self.hidden, build)?))
    }

    /// A mixer of [`Sizes::attention`] in which a query sees the `window` tokens up to it, or all.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn attention_mixer(&self, window: Option<usize>, build: &Build) -> Result<Box<dyn Mixer>> {
        let window = window.map(|n| Window { left: n.max(1) - 1, right: 0 });
        Ok(Box::new(Attention::new(AttentionConfig { window, ..self.attention() }, self.hidden, build)?))
    }
}

/// A language model around any mixer: words, blocks, a norm, and the words once more.
pub struct Lab {
    embedding: Embedding,
    smear: Option<Param>,
    blocks: Vec<MixerBlock>,
    norm: Norm,
    windows: Vec<Option<Window>>,
}

impl Lab {
    /// A model with new weights; `mixer` makes that of each layer.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(
        sizes: &Sizes,
        device: &Device,
        mixer: impl Fn(usize, &Build) -> Result<Box<dyn Mixer>>,
    ) -> Result<Self> {
        Self::of(sizes, NormConfig::rms(EPS), sizes.feed_forward(), device, mixer)
    }

    /// The same with other norms and another feed-forward part.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn of(
        sizes: &Sizes,
        norm: NormConfig,
        feed_forward: FeedForwardConfig,
        device: &Device,
        mixer: impl Fn(usize, &Build) -> Result<Box<dyn Mixer>>,
    ) -> Result<Self> {
        let &Sizes { vocab, hidden, layers, .. } = sizes;
        let build = Build::new(device).with_init(Init::Normal { mean: 0.0, std: 0.7 / (hidden as f64).sqrt() });
        let block = |layer| MixerBlock::new(mixer(layer, &build)?, feed_forward, norm, hidden, &build);
        let blocks = (0..layers).map(block).collect::<Result<Vec<_>>>()?;
        Ok(Lab {
            embedding: Embedding::new(vocab, hidden, None, &build)?,
            smear: None,
            windows: blocks.iter().map(MixerBlock::window).collect(),
            blocks,
            norm: Norm::new(norm, hidden, &build)?,
        })
    }

    /// The same model, but the vector of a token has a share of the one before it, which is learned for each channel (after the smeared
    /// keys of Olsson et al., "In-context learning and induction heads", 2022). To recall what followed a token then takes one layer
    /// rather than two that have to find each other first, which shortens the training on memory tasks many times.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn smeared(mut self) -> Result<Self> {
        let vectors = self.embedding.weight.tensor();
        self.smear = Some(Build::new(vectors.device()).param(&[vectors.size(1)?], Init::Constant(0.5))?);
        Ok(self)
    }

    /// What the layers are told of rows of `length` tokens under a mask, at positions that count from 0 or those given.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn pass(
        &self,
        mask: &Mask,
        [batch, length]: [usize; 2],
        positions: Option<&Tensor>,
        device: &Device,
    ) -> Result<Pass> {
        let mut pass = Pass::new(mask, 0, self.windows.iter().copied());
        pass.positions = Some(match positions {
            Some(positions) => positions.clone(),
            None => {
                Tensor::arange(0, length as i64, wgrad::DType::I32, device)?.unsqueeze(0)?.expand(&[batch, length])?
            }
        });
        Ok(pass)
    }

    /// The vectors of tokens `[batch, length]`.
    ///
    /// # Errors
    /// If an id is outside the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let x = self.embedding.forward(ids)?;
        let Some(smear) = &self.smear else { return Ok(x) };
        let before = x.pad(&[(0, 0), (1, -1), (0, 0)], PadMode::Constant(0.0))?;
        Ok(x.add(&before.mul(&smear.tensor())?)?)
    }

    /// The states `[batch, length, hidden]` of vectors that went through all blocks.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn states(&self, x: Tensor, pass: &Pass) -> Result<Tensor> {
        self.states_by(x, |_| pass)
    }

    /// The same, where each layer may be told something else.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn states_by<'a>(&self, mut x: Tensor, pass: impl Fn(usize) -> &'a Pass) -> Result<Tensor> {
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass(layer))?;
        }
        self.norm.forward(&x)
    }

    /// The states after each block, and the last ones normalised.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn trace(&self, mut x: Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut states = Vec::with_capacity(self.blocks.len() + 1);
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
            states.push(x.clone());
        }
        states.push(self.norm.forward(&x)?);
        Ok(states)
    }

    /// Logits `[.., vocab]` of states.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, states: &Tensor) -> Result<Tensor> {
        Ok(states.linear(&self.embedding.weight.tensor(), None)?)
    }

    /// Logits of tokens under a mask.
    ///
    /// # Errors
    /// If shapes do not fit, or an id is outside the vocabulary.
    pub fn forward(&self, ids: &Tensor, mask: &Mask) -> Result<Tensor> {
        let pass = self.pass(mask, [ids.size(0)?, ids.size(1)?], None, ids.device())?;
        self.logits(&self.states(self.embed(ids)?, &pass)?)
    }
}

impl Module for Lab {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("embedding", &self.embedding);
        if let Some(smear) = &self.smear {
            v.param("smear", smear);
        }
        v.modules("blocks", &self.blocks);
        v.module("norm", &self.norm);
    }
}

/// Two modules as one, where a check trains something beside the model.
pub struct Both<A, B>(pub A, pub B);

impl<A: Module, B: Module> Module for Both<A, B> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("first", &self.0);
        v.module("second", &self.1);
    }
}

/// Trains all parameters of a model with AdamW: `loss` gives that of a step. Returns the mean of the last tenth of the losses.
///
/// # Errors
/// If the device fails.
pub fn train(model: &dyn Module, steps: u64, peak: f64, loss: impl FnMut(u64) -> Result<Tensor>) -> Result<f64> {
    train_then(model, &usual(steps, peak), loss, || Ok(()))
}

/// A tenth of warm-up, then half a cosine.
pub fn usual(steps: u64, peak: f64) -> Schedule {
    Schedule { peak, warmup: steps / 10, total: steps, floor: 0.05, decay: Decay::Cosine }
}

/// The same by any schedule, with something to do after each step.
///
/// # Errors
/// If the device fails.
pub fn train_then(
    model: &dyn Module,
    schedule: &Schedule,
    loss: impl FnMut(u64) -> Result<Tensor>,
    then: impl FnMut() -> Result<()>,
) -> Result<f64> {
    train_by(model, Adam { weight_decay: 0.01, beta2: 0.98, ..Adam::default() }, schedule, loss, then)
}

/// The same by other numbers of AdamW.
///
/// # Errors
/// If the device fails.
pub fn train_by(
    model: &dyn Module,
    adam: Adam,
    schedule: &Schedule,
    mut loss: impl FnMut(u64) -> Result<Tensor>,
    mut then: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let &Schedule { peak, total: steps, .. } = schedule;
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), peak, Group::of(model))?.with_max_norm(1.0)?;
    let (mut last, mut training) = (Vec::new(), Training::new(steps));
    for step in 0..steps {
        let loss = loss(step)?;
        optimizer.set_learning_rate(schedule.at(step))?;
        optimizer.step(&loss.backward()?)?;
        then()?;
        training.step(step + 1, &loss)?;
        if step >= steps - steps.div_ceil(10) {
            last.push(loss.detach());
        }
    }
    let last = last.iter().map(Tensor::item).collect::<std::result::Result<Vec<f64>, _>>()?;
    Ok(last.iter().sum::<f64>() / last.len().max(1) as f64)
}

/// The share of right answers among the labels that are not ignored: the largest of `logits [.., classes]`.
///
/// # Errors
/// If shapes do not fit.
pub fn answers(logits: &Tensor, labels: &[i32]) -> Result<f64> {
    let best = logits.argmax(-1, false)?.to_vec::<u32>()?;
    let asked = labels.iter().zip(&best).filter(|(label, _)| **label >= 0);
    let (right, all) =
        asked.fold((0, 0), |(right, all), (&label, &best)| (right + usize::from(label as u32 == best), all + 1));
    Ok(right as f64 / all.max(1) as f64)
}

/// Mean cross-entropy over labels that are not ignored.
///
/// # Errors
/// If shapes do not fit, or a label is no class.
pub fn loss(logits: &Tensor, labels: &[i32]) -> Result<Tensor> {
    let sizes = &logits.shape()[..logits.rank() - 1];
    heads::cross_entropy(logits, &Tensor::from_slice(labels, sizes, logits.device())?)
}

/// Rows of a memory task.
pub type Task<'a> = &'a dyn Fn(usize, &mut Philox) -> Result<Questions>;

/// How a model is trained on a memory task, and measured.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Steps of training.
    pub steps: u64,
    /// Rows of a step.
    pub rows: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Highest learning rate.
    pub peak: f64,
    /// What rows are drawn from.
    pub seed: u64,
}

impl Course {
    /// Trains a causal model on a task.
    ///
    /// # Errors
    /// If the device fails, or the task has no room.
    pub fn train(&self, lab: &Lab, task: Task, device: &Device) -> Result<f64> {
        train(lab, self.steps, self.peak, |step| {
            let (logits, labels) = self.answer(lab, task, [1, step], device)?;
            loss(&logits, &labels)
        })
    }

    /// The share of right answers on fresh rows.
    ///
    /// # Errors
    /// As [`Course::train`].
    pub fn measure(&self, lab: &Lab, task: Task, device: &Device) -> Result<f64> {
        let shares = (0..MEASURED).map(|number| {
            let (logits, labels) = no_grad(|| self.answer(lab, task, [2, number], device))?;
            answers(&logits, &labels)
        });
        Ok(shares.sum::<Result<f64>>()? / MEASURED as f64)
    }

    fn answer(&self, lab: &Lab, task: Task, [stream, number]: [u64; 2], device: &Device) -> Result<(Tensor, Vec<i32>)> {
        let Questions { ids, labels } = task(self.rows, &mut Philox::new(self.seed, stream << 32 | number))?;
        let ids = Tensor::from_vec(ids, &[self.rows, self.length], device)?;
        Ok((lab.forward(&ids, &Mask::causal(0))?, labels))
    }
}
