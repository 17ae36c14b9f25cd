//! Small decoders that learn the project's sources byte by byte: the bench on which sparse weights are checked.

use wgrad::nn::{Module, Param};
use wgrad::optim::{Adam, Group, Optimizer, Rule, Schedule};
use wgrad::{Device, Tensor, no_grad};

use super::lab::answers;
use super::watch::Training;
use crate::Result;
use crate::compare::{Bytes, Part};
use crate::front::corpus::Corpus;
use crate::lm::{Lm, LmConfig};
use crate::placement::{Placement, Shape};
use crate::weights::{Fixed, Matrix, View, Views};

/// Bytes of a row, and rows of a batch.
const LENGTH: usize = 64;
const ROWS: usize = 16;
/// Batches that a model is measured on.
const MEASURED: u64 = 16;

/// Text to learn from.
pub struct SparseLab {
    text: Bytes,
    seed: u64,
    device: Device,
}

impl SparseLab {
    /// The project's files with these endings.
    ///
    /// # Errors
    /// If there is no clone of the project.
    pub fn new(extensions: &[&str], seed: u64, device: &Device) -> Result<Self> {
        let text = Bytes::of(&Corpus::of_project_files(extensions)?, LENGTH)?;
        Ok(SparseLab { text, seed, device: device.clone() })
    }

    /// A new decoder of bytes; the same for each call.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn decoder(&self, hidden: usize, layers: usize) -> Result<Lm> {
        self.device.set_seed(self.seed);
        Lm::new(&shape(hidden, layers), &self.device)
    }

    /// The loss of a model on batch `number` of the text to learn.
    ///
    /// # Errors
    /// If the device fails.
    pub fn loss(&self, lm: &Lm, number: u64) -> Result<Tensor> {
        let (ids, labels) = self.text.batch(Part::Train, [ROWS, LENGTH], self.seed, number, &self.device)?;
        lm.loss(&ids, &labels)
    }

    /// Trains a model by a schedule; `before` is told of each step before it is done. Returns the optimizer.
    ///
    /// # Errors
    /// If the device fails.
    pub fn train(
        &self,
        lm: &Lm,
        schedule: &Schedule,
        mut before: impl FnMut(u64) -> Result<Option<Tensor>>,
    ) -> Result<Optimizer> {
        let rule = Rule::AdamW(Adam { weight_decay: 0.01, beta2: 0.98, ..Adam::default() });
        let mut optimizer = Optimizer::new(rule, schedule.peak, Group::of(lm))?.with_max_norm(1.0)?;
        let mut training = Training::new(schedule.total);
        for step in 0..schedule.total {
            let penalty = before(step)?;
            let mut loss = self.loss(lm, step)?;
            if let Some(penalty) = penalty {
                loss = loss.add(&penalty)?;
            }
            optimizer.set_learning_rate(schedule.at(step))?;
            optimizer.step(&loss.backward()?)?;
            training.step(step + 1, &loss)?;
        }
        Ok(optimizer)
    }

    /// The same under views, which are shown anew before each step.
    ///
    /// # Errors
    /// If a view does not fit, or the device fails.
    pub fn train_under(&self, lm: &Lm, schedule: &Schedule, views: &Views) -> Result<Optimizer> {
        self.train(lm, schedule, |_| {
            views.show()?;
            views.penalty()
        })
    }

    /// Nats a byte on text that is held out.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(&self, lm: &Lm) -> Result<f64> {
        self.held_out(|ids, labels| Ok(lm.loss(ids, labels)?.item()?))
    }

    /// The share of bytes that it tells rightly.
    ///
    /// # Errors
    /// If the device fails.
    pub fn accuracy(&self, lm: &Lm) -> Result<f64> {
        self.held_out(|ids, labels| answers(&lm.logits(ids)?, &labels.to_vec()?))
    }

    /// The mean over batches of what `of` gives.
    fn held_out(&self, of: impl Fn(&Tensor, &Tensor) -> Result<f64>) -> Result<f64> {
        let each = (0..MEASURED).map(|number| {
            let (ids, labels) = self.text.batch(Part::HeldOut, [ROWS, LENGTH], self.seed, number, &self.device)?;
            no_grad(|| of(&ids, &labels))
        });
        Ok(each.sum::<Result<f64>>()? / MEASURED as f64)
    }
}

/// A decoder of bytes with RMS norms before its parts.
fn shape(hidden: usize, layers: usize) -> LmConfig {
    Shape { vocab: 256, hidden, heads: 4, layers, length: LENGTH }.decoder(Placement::Pre)
}

/// The values of a model's parameters, to go back to.
pub struct Saved(Vec<(Param, Tensor)>);

impl Saved {
    /// Those that a model has now.
    pub fn of(model: &dyn Module) -> Self {
        let params = model.named_parameters().into_iter();
        Saved(params.map(|(_, param)| (param.clone(), param.leaf().detach())).collect())
    }

    /// Goes back.
    ///
    /// # Errors
    /// Never: the values are the parameters' own.
    pub fn restore(&self) -> Result<()> {
        Ok(self.0.iter().try_for_each(|(param, value)| param.set(value))?)
    }
}

/// Views that show matrices under these masks, in their order.
///
/// # Errors
/// If two of the matrices are one.
pub fn masked(matrices: &[(String, Matrix)], masks: &[Tensor]) -> Result<Views> {
    let mut masks = masks.iter();
    Views::new(matrices.to_vec(), |_, _| Ok(masks.next().map(|mask| Box::new(Fixed::new(mask)) as Box<dyn View>)))
}
