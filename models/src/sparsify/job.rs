//! A language model made sparse by any method, with its perplexity before and after.

use std::time::Instant;

use wgrad::nn::Module;
use wgrad::rng::Philox;
use wgrad::{DType, Device, Sparse24, SparseRows, Tensor, no_grad};

use super::one_shot::{blocks, expect_some};
use super::{Learner, MaskLlm, OneShot, Sparsity, one_shot};
use crate::progress::{Limit, Progress, Reading};
use crate::rows::{Rows, Split};
use crate::score::{Score, score};
use crate::weights::{Matrix, Pattern};
use crate::zoo::{Task, TextModel};
use crate::{Error, Result};

/// Held-out tokens that a model is measured on; a masked one looks at the whole row for each of them.
const SCORED: usize = 8192;
const SCORED_MASKED: usize = 1024;
/// Held-out rows of which hidden states are compared.
const COMPARED: usize = 8;
/// Steps between reports. Losses stay on the device in between.
const REPORT_EVERY: u64 = 10;

/// What learned masks start from.
#[derive(Clone)]
pub enum Prior {
    /// Chance.
    None,
    /// The masks of a method that does not learn.
    OneShot(OneShot),
    /// These, of another domain for instance, in the order of the model's matrices.
    Masks(Vec<Tensor>),
}

/// How weights are chosen.
#[derive(Clone)]
pub enum Method {
    /// At one look.
    OneShot(OneShot),
    /// By training gates for so many steps.
    MaskLlm(MaskLlm, Prior),
}

/// How a model is made sparse.
#[derive(Clone)]
pub struct Job {
    /// How weights are chosen.
    pub method: Method,
    /// What is kept of each matrix.
    pub sparsity: Sparsity,
    /// Rows of a batch.
    pub batch: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Rows that methods which do not learn look at.
    pub calibration: usize,
    /// Of the order of the text, of masked tokens and of gates.
    pub seed: u64,
    /// Steps of learned masks between looks at held-out text; none if nobody wants to know.
    pub look_every: Option<u64>,
    /// Whether matrices of 2:4 are packed, and those listed by rows of which no more is kept than pays there, before the model is measured
    /// again.
    pub pack: bool,
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How well it predicted held-out text before; nothing if it predicts no tokens, as an encoder without a head.
    pub before: Option<Score>,
    /// And after.
    pub after: Option<Score>,
    /// By how much its hidden states of held-out text changed, root mean square, over what they are.
    pub change: f64,
    /// Matrices made sparse.
    pub matrices: usize,
    /// Weights in them.
    pub weights: usize,
    /// Seconds that choosing the weights took.
    pub seconds: f64,
    /// Steps of learned masks, and the perplexity with hard ones before each, where that was wanted.
    pub course: Vec<(u64, f64)>,
}

impl Job {
    /// Makes the matrices of a model's blocks sparse, and leaves it ready to infer. `mask` is the token that hides one, which a masked language
    /// model needs. Encoders without a head can be made sparse by methods that do not learn.
    ///
    /// # Errors
    /// If masks are to be learned and the model predicts no text, the model has no blocks, the text is too short, or the device fails.
    pub fn run(&self, model: &dyn TextModel, text: Split, mask: Option<u32>, device: &Device) -> Result<Outcome> {
        if self.batch == 0 || self.calibration == 0 {
            return Err(Error::argument("batch", "there must be one row or more"));
        }
        if matches!(self.method, Method::MaskLlm(..)) && self.sparsity != Pattern::TWO_OF_FOUR.into() {
            return Err(Error::argument("pattern", format!("{}, but masks are learned for 2:4 alone", self.sparsity)));
        }
        let about = model.about();
        let rows = match about.task {
            Task::Encoder | Task::Detection if matches!(self.method, Method::OneShot(_)) => {
                Rows::unlabelled(model, self.length, device)?
            }
            _ => Rows::new(model, mask, self.length, device)?,
        };
        rows.fit(text)?;
        let work = Work { job: self, model, matrices: Matrix::of_blocks(model), rows, text, mask, device };
        expect_some(&work.matrices)?;
        model.train(false);
        let (before, dense) = (work.measure()?, work.hidden()?);
        let begun = Instant::now();
        let (masks, course) = match &self.method {
            Method::OneShot(method) => (work.look(*method)?, Vec::new()),
            Method::MaskLlm(settings, prior) => work.learn(settings, prior)?,
        };
        let seconds = begun.elapsed().as_secs_f64();
        finish(&work.matrices, &masks, self.sparsity, self.pack)?;
        let weights = masks.iter().map(Tensor::elements).sum();
        let moved = work.hidden()?.sub(&dense)?.square()?.mean_all()?.item()?;
        let change = (moved / dense.square()?.mean_all()?.item()?).sqrt();
        Ok(Outcome { before, after: work.measure()?, change, matrices: masks.len(), weights, seconds, course })
    }
}

/// Checks that matrices are as sparse as their masks say, and packs or lists them.
fn finish(matrices: &[(String, Matrix)], masks: &[Tensor], sparsity: Sparsity, pack: bool) -> Result<()> {
    for ((name, matrix), mask) in matrices.iter().zip(masks) {
        let rows = matrix.rows()?.detach();
        sparsity.check(name, &rows, mask)?;
        match sparsity {
            Sparsity::Groups(Pattern::TWO_OF_FOUR) if pack => matrix.param.set_packed(&Sparse24::from_dense(&rows)?)?,
            Sparsity::Share(_) if pack && mask.mean_all()?.item()? <= SparseRows::FAST => {
                matrix.param.set_sparse_rows(&SparseRows::from_dense(&rows)?)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes the matrices of any model's blocks sparse by their magnitudes, for which it need not run: of images, sounds or whatever. Returns how
/// many there are, and how many weights.
///
/// # Errors
/// If the model has no blocks, or memory is exhausted.
pub fn by_magnitude(model: &(impl Module + ?Sized), sparsity: Sparsity, pack: bool) -> Result<[usize; 2]> {
    let matrices = Matrix::of_blocks(model);
    let masks = one_shot(model, &matrices, OneShot::Magnitude, sparsity, &mut || Ok(()))?;
    finish(&matrices, &masks, sparsity, pack)?;
    Ok([masks.len(), masks.iter().map(Tensor::elements).sum()])
}

/// A model and a text that a job is about.
struct Work<'a> {
    job: &'a Job,
    model: &'a dyn TextModel,
    matrices: Vec<(String, Matrix)>,
    rows: Rows<'a>,
    text: Split<'a>,
    mask: Option<u32>,
    device: &'a Device,
}

fn steps(steps: usize) -> Progress {
    Progress::new(Limit { steps: Some(steps as u64), time: None }, 0)
}

/// Masks, and what was seen of them on the way.
type Learned = (Vec<Tensor>, Vec<(u64, f64)>);

impl Work<'_> {
    /// How well the model predicts the text that is held out.
    fn measure(&self) -> Result<Option<Score>> {
        let most = match self.model.about().task {
            Task::CausalLm | Task::Seq2Seq => SCORED,
            Task::MaskedLm => SCORED_MASKED,
            _ => return Ok(None),
        };
        let ids = &self.text.held_out[..self.text.held_out.len().min(most)];
        let windows = [self.job.length, self.job.length / 2];
        let mut progress = steps(ids.len());
        let mut seen =
            |tokens: usize| progress.tell(tokens as u64, &format!("held out: {tokens} of {} tokens", ids.len()));
        let score = score(self.model, ids, &vec![true; ids.len()], self.mask, windows, self.device, &mut seen)?;
        progress.end();
        Ok(Some(score))
    }

    /// Hidden states of some of the text that is held out.
    fn hidden(&self) -> Result<Tensor> {
        let starts = self.rows.spread(self.text.held_out, COMPARED);
        no_grad(|| Ok(self.rows.read(self.model, self.text.held_out, &starts)?.cast(DType::F32)?))
    }

    fn look(&self, method: OneShot) -> Result<Vec<Tensor>> {
        let Work { job, model, rows, text, .. } = self;
        let blocks = blocks(&self.matrices).count();
        let mut progress = steps(blocks * job.calibration);
        let mut block = 0;
        let masks = one_shot(*model, &self.matrices, method, job.sparsity, &mut || {
            // The same rows each time, so that all blocks learn from the same text.
            let mut rng = Philox::new(job.seed, 2);
            let mut seen = 0;
            while seen < job.calibration {
                let count = (job.calibration - seen).min(job.batch);
                let starts = rows.draw(text.train, count, &mut rng);
                rows.states(*model, text.train, &starts, Some((&mut rng, 0)))?;
                seen += count;
                let what =
                    format!("{}: block {} of {blocks}, {seen} of {} rows", method.name(), block + 1, job.calibration);
                progress.tell((block * job.calibration + seen) as u64, &what);
            }
            block += 1;
            Ok(())
        })?;
        progress.end();
        Ok(masks)
    }

    fn learn(&self, settings: &MaskLlm, prior: &Prior) -> Result<Learned> {
        let Work { job, model, matrices, rows, text, .. } = self;
        let priors = match prior {
            Prior::None => None,
            Prior::Masks(masks) => Some(masks.clone()),
            Prior::OneShot(method) => {
                // The masks alone: what was done to the weights is taken back.
                let before: Vec<Tensor> = matrices.iter().map(|(_, matrix)| matrix.param.leaf().detach()).collect();
                let masks = self.look(*method);
                matrices.iter().zip(&before).try_for_each(|((_, matrix), value)| matrix.param.set(value))?;
                Some(masks?)
            }
        };
        let mut rng = Philox::new(job.seed, 3);
        let mut learner = Learner::new(*settings, *model, matrices, priors.as_deref())?;
        let mut progress = steps(settings.steps as usize);
        let begun = Instant::now();
        let mut course = Vec::new();
        for step in 0..settings.steps {
            if job.look_every.is_some_and(|every| step % every == 0) {
                learner.harden()?;
                course.extend(self.measure()?.map(|score| (step, score.perplexity)));
            }
            let starts = rows.draw(text.train, job.batch, &mut rng);
            let loss = learner.step(step, || rows.loss(*model, text.train, starts, &mut rng, step))?;
            let step = step + 1;
            if step % REPORT_EVERY == 0 || step == settings.steps {
                let tokens = step * (job.batch * job.length) as u64;
                let tokens_per_s = tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                progress.show(Reading { step, loss: loss.item()?, accuracy: None, tokens_per_s });
            }
        }
        progress.end();
        Ok((learner.finish()?, course))
    }
}
