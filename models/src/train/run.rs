//! A training run: text in, a model folder out, resumable at any moment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use wgrad::io::{Checkpoint, Snapshot};
use wgrad::optim::{Adam, Decay, Group, LossScaler, Optimizer, Rule, Schedule};
use wgrad::{Device, Meter, Profile};

use super::evaluate::{Score, Targets, score};
use super::history::{History, Point};
use super::settings::{Settings, small_positions};
use super::text::Text;
use crate::corrupt::mlm::Mlm;
use crate::corrupt::schedule::Rate;
use crate::data::{Batch, Loader, Objective, Position};
use crate::progress::{Limit, Progress, Reading};
use crate::zoo::{self, Model, TextModel};
use crate::{Error, Result, heads};

/// Folder of the checkpoints in that of a run.
const CHECKPOINTS: &str = "checkpoints";
/// Steps between reports. Losses stay on the device in between, so that recording runs ahead of it.
const REPORT_EVERY: u64 = 10;
/// Held-out rows that are scored.
const HELD_OUT_ROWS: usize = 128;
/// Share of a run in which the learning rate rises.
const WARMUP: f64 = 0.1;
/// Share of tokens masked while training. It is measured at BERT's 15 %, but in a short run more predictions a step teach
/// more (Wettig et al., Should You Mask 15% in Masked Language Modeling?, 2022).
const TRAIN_RATE: f32 = 0.3;
/// Norm that gradients are clipped to.
const MAX_NORM: f64 = 1.0;

/// A run that is over.
pub struct Finished {
    /// The trained model.
    pub model: Model,
    /// The text it saw and its tokenizer.
    pub text: Text,
    /// Measurements along the way.
    pub history: History,
    /// Score on held-out text.
    pub held_out: Score,
    /// Share of the tokens asked for that always guessing the commonest token gets right.
    pub unigram_accuracy: f64,
    /// Steps done, those before a resumption included.
    pub steps: u64,
    /// Seconds of training, those before a resumption included.
    pub seconds: f64,
    /// Tokens in a second, in this process.
    pub tokens_per_s: f64,
    /// One step late in the run, if that was wanted.
    pub profile: Option<Profile>,
}

/// Runs, or goes on with, the training in `folder` on this text. If a file is given, one step late in the run is profiled and its
/// trace written there.
///
/// # Errors
/// If settings or files are unusable, or the device fails.
pub fn run(
    settings: &Settings,
    text: Text,
    folder: &Path,
    device: &Device,
    mut trace: Option<&Path>,
) -> Result<Finished> {
    if let Some(file) = trace {
        // What cannot be profiled or written should not be found out after hours.
        device.profile(|| ())?.1.save_trace(file)?;
    }
    let special = text.tokenizer.special();
    device.set_seed(settings.seed);
    let precision = settings.precision()?;
    let whole = zoo::new(&settings.model(&text.tokenizer)?, precision.dtype(), device)?;
    if let Model::Transformer(bert) = &whole
        && !settings.decoder
    {
        bert.start_positions(small_positions(settings.hidden, settings.length))?;
    }
    let model = whole.text()?;
    let rule = Rule::AdamW(Adam { beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.01 });
    let mut optimizer = Optimizer::new(rule, settings.lr, Group::of(model))?.with_max_norm(MAX_NORM)?;
    let mut scaler = precision.scaler();
    let [learned, asked] = match settings.decoder {
        true => [Objective::Next, Objective::Next],
        false => {
            let full = Mlm::bert(special.mask, text.tokenizer.vocab_size());
            [Mlm { rate: Rate::Constant(TRAIN_RATE), ..full.clone() }, full].map(Objective::Masked)
        }
    };
    let held_out = text.held_out.fixed_batches(&asked, settings.batch, HELD_OUT_ROWS, settings.seed)?;

    let checkpoints = folder.join(CHECKPOINTS);
    let mut state = State::default();
    if let Some(found) = Checkpoint::latest(&checkpoints)? {
        found.restore(model, &mut optimizer)?;
        state = State::read(&found)?;
        scaler = state.scaler.as_ref().map(LossScaler::from_state).transpose()?;
        log::info!("going on from step {}", state.step);
    }
    let mut loader = Loader::new(&text.train, learned, settings.batch, settings.seed, state.position)?;
    describe(model, &text, settings);

    let begun = Instant::now();
    let before = state.seconds;
    let limit = Limit { steps: settings.steps, time: settings.seconds.map(Duration::from_secs) };
    let schedule = Course::new(settings);
    let mut progress = Progress::new(limit, state.step);
    let mut pending = Pending::new(device)?;
    let mut saved = None;
    let mut profile = None;
    let first = state.step;
    let rate =
        |steps: u64, seconds: f64| (steps as usize * settings.batch * settings.length) as f64 / seconds.max(1e-9);
    model.train(true);
    while !schedule.is_over(state.step, state.seconds) {
        let batch = loader.next_batch(state.step)?;
        let report = (state.step + 1) % REPORT_EVERY == 0;
        optimizer.set_learning_rate(schedule.lr(state.step, state.seconds))?;
        let mut once = || step(model, &mut optimizer, scaler.as_mut(), &batch, device, &mut pending);
        match trace.take_if(|_| schedule.is_late(state.step, state.seconds)) {
            None => once()?,
            Some(file) => {
                device.rates()?;
                let (done, seen) = device.profile(once)?;
                seen.save_trace(file)?;
                profile = Some(seen);
                done?;
            }
        }
        state.step += 1;
        state.seconds = before + begun.elapsed().as_secs_f64();
        let save = state.step % settings.save_every == 0;
        if report || save || schedule.is_over(state.step, state.seconds) {
            state.history.take(&mut pending, state.step)?;
            let tokens_per_s = rate(state.step - first, state.seconds - before);
            progress.show(reading(&state, settings, tokens_per_s));
        }
        if save {
            let now = score(model, &held_out, device)?;
            state.history.held_out.push(Point { step: state.step, loss: now.loss, accuracy: now.accuracy });
            state.stand_at(loader.position(), scaler.as_ref())?;
            save_checkpoint(&checkpoints, model, &optimizer, &state)?;
            saved = Some(state.step);
        }
    }
    state.history.take(&mut pending, state.step)?;
    let tokens_per_s = rate(state.step - first, begun.elapsed().as_secs_f64());
    progress.finish(reading(&state, settings, tokens_per_s));
    let final_score = score(model, &held_out, device)?;
    if state.history.held_out.last().map(|p| p.step) != Some(state.step) {
        let Score { loss, accuracy } = final_score;
        state.history.held_out.push(Point { step: state.step, loss, accuracy });
    }
    if saved != Some(state.step) {
        state.stand_at(loader.position(), scaler.as_ref())?;
        save_checkpoint(&checkpoints, model, &optimizer, &state)?;
    }
    let commonest = text.train.unigrams(1).first().map_or(special.unk, |&(id, _)| id);
    Ok(Finished {
        held_out: final_score,
        unigram_accuracy: Batch::accuracy_of_guess(&held_out, commonest),
        steps: state.step,
        seconds: state.seconds,
        tokens_per_s,
        profile,
        history: state.history,
        model: whole,
        text,
    })
}

/// What steps leave on the device until it is read.
pub(super) struct Pending {
    /// Loss and hits of each step.
    scalars: Meter,
    /// How many labels each step had.
    counts: Vec<usize>,
}

impl Pending {
    fn new(device: &Device) -> Result<Self> {
        Ok(Pending { scalars: Meter::new(device, 2 * REPORT_EVERY as usize)?, counts: Vec::new() })
    }

    /// Waits, and takes out loss, hits and labels of each step.
    pub fn take(&mut self) -> Result<Vec<(f64, f64, usize)>> {
        let scalars = self.scalars.take()?;
        let steps = scalars.chunks_exact(2).zip(self.counts.drain(..));
        Ok(steps.map(|(pair, count)| (pair[0], pair[1], count)).collect())
    }
}

/// One training step: forward, backward, update.
fn step(
    model: &dyn TextModel,
    optimizer: &mut Optimizer,
    scaler: Option<&mut LossScaler>,
    batch: &Batch,
    device: &Device,
    pending: &mut Pending,
) -> Result<()> {
    let targets = Targets::new(batch, device)?;
    let logits = targets.logits(model)?;
    let loss = heads::cross_entropy(&logits, &targets.labels)?;
    let hits = targets.hits(&logits)?;
    drop(logits);
    match scaler {
        None => optimizer.step(&loss.backward()?)?,
        Some(scaler) => optimizer.step_scaled(&scaler.backward(&loss)?, scaler)?,
    };
    pending.scalars.push(&loss)?;
    pending.scalars.push(&hits)?;
    pending.counts.push(targets.count);
    Ok(())
}

/// The learning rate along a run that ends by steps or by time.
struct Course {
    steps: Option<u64>,
    seconds: Option<u64>,
    lr: f64,
}

impl Course {
    fn new(settings: &Settings) -> Self {
        Course { steps: settings.steps, seconds: settings.seconds, lr: settings.lr }
    }

    fn is_over(&self, step: u64, seconds: f64) -> bool {
        self.steps.is_some_and(|most| step >= most) || self.seconds.is_some_and(|most| seconds >= most as f64)
    }

    /// Whether the last tenth has begun. A run of few steps has one in its last.
    fn is_late(&self, step: u64, seconds: f64) -> bool {
        self.is_over(step + 1 + self.steps.map_or(0, |most| most / 10), seconds / 0.9)
    }

    /// By steps alone where they are the only limit: the same course on every machine.
    fn lr(&self, step: u64, seconds: f64) -> f64 {
        const FINE: u64 = 1 << 20;
        let by_time = self.seconds.map_or(0.0, |most| seconds / most as f64);
        let schedule = |total: u64| Schedule {
            peak: self.lr,
            warmup: (total as f64 * WARMUP) as u64,
            total,
            floor: 0.0,
            decay: Decay::Linear,
        };
        match self.steps {
            Some(steps) if step as f64 / steps as f64 >= by_time => schedule(steps).at(step),
            _ => schedule(FINE).at((by_time * FINE as f64) as u64),
        }
    }
}

/// What of a run is neither parameter nor optimizer.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct State {
    step: u64,
    seconds: f64,
    position: Position,
    history: History,
    /// The state of the loss scaler, where there is one.
    scaler: Option<serde_json::Value>,
}

impl State {
    fn stand_at(&mut self, position: Position, scaler: Option<&LossScaler>) -> Result<()> {
        self.position = position;
        self.scaler = scaler.map(LossScaler::state).transpose()?;
        Ok(())
    }

    fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let broken = |e| Error::file(checkpoint.folder(), format!("the state of the run is damaged: {e}"));
        serde_json::from_value(checkpoint.extra().clone()).map_err(broken)
    }
}

fn save_checkpoint(folder: &Path, model: &dyn TextModel, optimizer: &Optimizer, state: &State) -> Result<PathBuf> {
    let extra = serde_json::to_value(state).map_err(|e| Error::file(folder, e))?;
    let snapshot = Snapshot { step: state.step, module: model, optimizer, extra, files: &[] };
    Ok(snapshot.save(folder, 2)?)
}

fn reading(state: &State, settings: &Settings, tokens_per_s: f64) -> Reading {
    let last = state.history.recent(REPORT_EVERY as usize);
    let accuracy = (!settings.decoder).then_some(last.accuracy);
    Reading { step: state.step, loss: last.loss, accuracy, tokens_per_s }
}

fn describe(model: &dyn TextModel, text: &Text, settings: &Settings) {
    let parameters = model.parameter_count() as f64 / 1e6;
    let limit = match (settings.steps, settings.seconds) {
        (Some(steps), None) => format!("{steps} steps"),
        (None, Some(seconds)) => format!("{seconds} s"),
        (steps, seconds) => json!({ "steps": steps, "seconds": seconds }).to_string(),
    };
    log::info!(
        "text: {} tokens to learn, {} held out, {} pieces",
        text.train.len(),
        text.held_out.len(),
        text.tokenizer.vocab_size()
    );
    log::info!(
        "model: {parameters:.2}M parameters, {} blocks of width {}; {limit} of {} rows of {} tokens",
        settings.layers,
        settings.hidden,
        settings.batch,
        settings.length
    );
}
