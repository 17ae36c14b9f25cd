//! Measuring a language model: loss and accuracy on the tokens that it is asked for.

use wgrad::{CrossEntropy, DType, Device, Reduction, Tensor, no_grad};

use crate::Result;
use crate::corrupt::mlm::IGNORE;
use crate::data::Batch;
use crate::front::embeddings::TextInput;
use crate::zoo::TextModel;

/// The positions of a batch where something is asked for, the only ones that the head has to look at.
pub struct Targets {
    /// Token ids `[rows, length]`.
    pub ids: Tensor,
    /// False for padding, `[rows, length]`; None if there is none.
    pub real: Option<Tensor>,
    /// Where something is to be predicted, as indices into the flattened batch.
    pub positions: Tensor,
    /// What is to be predicted there; [`IGNORE`] where positions are only there to fill up.
    pub labels: Tensor,
    /// How many labels count.
    pub count: usize,
}

/// Numbers of positions are rounded up to a multiple of this, so that the shapes of a run are few and memory is reused.
const ROUND: usize = 32;

impl Targets {
    /// Moves a batch to a device.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(batch: &Batch, device: &Device) -> Result<Self> {
        let &Batch { rows, length, .. } = batch;
        let (mut positions, mut labels): (Vec<u32>, Vec<i32>) =
            (0u32..).zip(batch.labels.iter().copied()).filter(|&(_, label)| label != IGNORE).unzip();
        let count = positions.len();
        let filled = count.next_multiple_of(ROUND).max(ROUND);
        positions.resize(filled, 0);
        labels.resize(filled, IGNORE);
        let padded = batch.lengths.iter().any(|&n| (n as usize) < length);
        let real: Option<Vec<bool>> =
            padded.then(|| batch.lengths.iter().flat_map(|&n| (0..length).map(move |i| i < n as usize)).collect());
        Ok(Targets {
            ids: Tensor::from_slice(&batch.input_ids, &[rows, length], device)?,
            real: real.map(|real| Tensor::from_vec(real, &[rows, length], device)).transpose()?,
            positions: Tensor::from_vec(positions, &[filled], device)?,
            labels: Tensor::from_vec(labels, &[filled], device)?,
            count,
        })
    }

    /// Logits `[positions, vocabulary]` in f32 of these positions alone.
    ///
    /// # Errors
    /// If an id is outside the vocabulary or the rows are too long for the model.
    pub fn logits(&self, model: &dyn TextModel) -> Result<Tensor> {
        let input = TextInput { real: self.real.as_ref(), ..TextInput::new(&self.ids) };
        let hidden = model.encode(&input)?.flatten(0, 1)?;
        Ok(model.logits(&hidden.index_select(0, &self.positions)?)?.cast(DType::F32)?)
    }

    /// How many labels the logits predict rightly, as a scalar on the device.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn hits(&self, logits: &Tensor) -> Result<Tensor> {
        let guess = logits.detach().argmax(-1, false)?.cast(self.labels.dtype())?;
        Ok(guess.eq(&self.labels)?.cast(DType::F32)?.sum_all()?)
    }
}

/// Loss and accuracy on the tokens asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of the tokens predicted rightly.
    pub accuracy: f64,
}

/// Scores a model on fixed batches.
///
/// # Errors
/// If a batch does not fit the model.
pub fn score(model: &dyn TextModel, batches: &[Batch], device: &Device) -> Result<Score> {
    let options =
        CrossEntropy { ignore_index: Some(i64::from(IGNORE)), reduction: Reduction::Sum, ..CrossEntropy::default() };
    let (mut loss, mut hits, mut count) = (0.0, 0.0, 0);
    no_grad(|| {
        for batch in batches {
            let targets = Targets::new(batch, device)?;
            let logits = targets.logits(model)?;
            loss += logits.cross_entropy(&targets.labels, &options)?.item()?;
            hits += targets.hits(&logits)?.item()?;
            count += targets.count;
        }
        Ok::<(), crate::Error>(())
    })?;
    let count = count.max(1) as f64;
    Ok(Score { loss: loss / count, accuracy: hits / count })
}
