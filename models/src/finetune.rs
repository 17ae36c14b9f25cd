//! Training a language model further on a text: a causal one on the next token, a masked one on masked tokens, one that writes a text for another
//! on how a text goes on.

use wgrad::nn::Module;
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::rng::Philox;
use wgrad::{Device, no_grad};

use crate::rows::{Rows, Split};
use crate::weights::Views;
use crate::zoo::TextModel;
use crate::{Error, Result};

/// Rows of held-out text that are scored.
const HELD_OUT_ROWS: usize = 32;

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
/// needs. Of packed matrices the kept values are trained. With `views` over matrices of the model, their parameters alone are trained, and are shown at the end; else all of the model.
/// Each step's number and loss are handed to `seen` every now and then.
///
/// # Errors
/// If the model predicts no text, the text is too short, or the device fails.
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
    if batch == 0 {
        return Err(Error::argument("batch", "rows of a batch must be 1 or more"));
    }
    let rows = Rows::new(model, mask, length, device)?;
    let split = Split::last_tenth(ids);
    rows.fit(split)?;
    let Split { train: text, held_out } = split;
    let score = || {
        let starts = rows.spread(held_out, HELD_OUT_ROWS);
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
        let starts = rows.draw(text, batch, &mut rng);
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
