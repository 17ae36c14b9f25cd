//! Training a language model further on a text: a causal one on the next token, a masked one on masked tokens.

use wgrad::nn::Module;
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::corrupt::mlm::{Mlm, Row};
use crate::front::embeddings::TextInput;
use crate::weights::Views;
use crate::zoo::{Task, TextModel};
use crate::{Error, Result};

/// Rows of held-out text that are scored.
const HELD_OUT_ROWS: usize = 32;
/// Share of the text that is held out.
const HELD_OUT: usize = 10;

/// How a model is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Steps.
    pub steps: u64,
    /// Rows of a batch.
    pub batch: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Of the order of the text and of the masks.
    pub seed: u64,
}

/// Losses on held-out text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Before the training.
    pub before: f64,
    /// After it.
    pub after: f64,
}

/// Trains on the tokens `ids`, of which the last tenth is held out. `mask` is the token that hides one, which a masked language model
/// needs. With `views` over matrices of the model, their parameters alone are trained, and are shown at the end; else all of the model.
/// Each step's number and loss are handed to `seen` every now and then.
///
/// # Errors
/// If the model is not a language model, the text is too short, or the device fails.
pub fn finetune(
    model: &dyn TextModel,
    views: Option<&Views>,
    ids: &[u32],
    mask: Option<u32>,
    settings: &Settings,
    device: &Device,
    seen: &mut dyn FnMut(u64, f64),
) -> Result<Losses> {
    let &Settings { steps, batch, length, lr, seed } = settings;
    let about = model.about();
    let masking = match (about.task, mask) {
        (Task::CausalLm, _) => None,
        (Task::MaskedLm, Some(mask)) => Some(Mlm::bert(mask, about.vocab)),
        (Task::MaskedLm, None) => {
            return Err(Error::config("training takes a tokenizer with a token [MASK] or <mask>"));
        }
        _ => return Err(about.config.error("only causal and masked language models can be trained further")),
    };
    if about.longest.is_some_and(|longest| length > longest) {
        return Err(Error::argument("length", format!("{length} tokens, but the model has fewer positions")));
    }
    let (text, held_out) = ids.split_at(ids.len() - ids.len() / HELD_OUT);
    if batch == 0 || length < 2 || held_out.len() <= length {
        let message = format!("{} tokens, too few for rows of {length} of which a tenth is held out", ids.len());
        return Err(Error::text(message));
    }
    let rows = Rows { masking, length, device };
    let score = || {
        let starts = (0..HELD_OUT_ROWS).map(|row| row * (held_out.len() - length) / HELD_OUT_ROWS).collect();
        no_grad(|| Ok::<_, Error>(rows.loss(model, held_out, starts, &mut Philox::new(seed, 1), 0)?.item()?))
    };
    let train = |training| {
        model.train(training);
        let Some(views) = views else { return Ok(()) };
        views.train(training);
        views.show()
    };
    train(false)?;
    let before = score()?;
    let groups = views.map_or_else(|| Group::of(model), Group::of);
    let adam = Adam { weight_decay: 0.01, ..Adam::default() };
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), lr, groups)?.with_max_norm(1.0)?;
    let schedule = Schedule { peak: lr, warmup: steps / 10, total: steps, floor: 0.0, decay: Decay::Linear };
    let mut rng = Philox::new(seed, 0);
    train(true)?;
    for step in 0..steps {
        let starts = (0..batch).map(|_| rng.below((text.len() - length) as u32 + 1) as usize).collect();
        let loss = rows.loss(model, text, starts, &mut rng, step)?;
        optimizer.set_learning_rate(schedule.at(step))?;
        optimizer.step(&loss.backward()?)?;
        views.map_or(Ok(()), Views::show)?;
        if step % 10 == 0 || step + 1 == steps {
            seen(step, loss.item()?);
        }
    }
    train(false)?;
    Ok(Losses { before, after: score()? })
}

/// Rows of a text as batches.
struct Rows<'a> {
    masking: Option<Mlm>,
    length: usize,
    device: &'a Device,
}

impl Rows<'_> {
    /// The loss of the rows that begin at `starts`.
    fn loss(
        &self,
        model: &dyn TextModel,
        text: &[u32],
        starts: Vec<usize>,
        rng: &mut Philox,
        step: u64,
    ) -> Result<Tensor> {
        let shape = [starts.len(), self.length];
        let (mut ids, mut labels): (Vec<u32>, Vec<i32>) = Default::default();
        for start in starts {
            let row = &text[start..start + self.length];
            match &self.masking {
                None => {
                    ids.extend(row);
                    labels.extend(row.iter().map(|&id| id as i32));
                }
                Some(mlm) => {
                    let (special, word_start) = (vec![false; row.len()], vec![true; row.len()]);
                    let corrupted =
                        mlm.corrupt(Row { ids: row, special: &special, word_start: &word_start }, step, rng)?;
                    ids.extend(corrupted.input_ids);
                    labels.extend(corrupted.labels);
                }
            }
        }
        let ids = Tensor::from_vec(ids, &shape, self.device)?;
        let labels = Tensor::from_vec(labels, &shape, self.device)?;
        let logits = model.logits(&model.encode(&TextInput::new(&ids))?)?.cast(DType::F32)?;
        model.loss(&logits, &labels, None)
    }
}
