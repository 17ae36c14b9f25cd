//! The training runs of a comparison, each resumable at any moment.

use std::path::Path;
use std::time::Instant;

use wgrad::io::{Checkpoint, Snapshot};
use wgrad::nn::{Module, Param};
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::{Device, Tensor, no_grad};

use super::text::{Bytes, Part};
use super::{Course, Probe, Settings};
use crate::depth;
use crate::lm::Lm;
use crate::placement::Placement;
use crate::progress::{Limit, Progress, Reading};
use crate::train::write_json;
use crate::{Error, Result, fsx};

/// Times that a run is looked into.
const PROBES: u64 = 24;
/// Steps between checkpoints.
const SAVE_EVERY: u64 = 50;
/// Held-out batches.
const HELD_OUT: u64 = 16;
/// Share of a run in which the learning rate rises: long, for the sake of Post-LN.
const WARMUP: f64 = 0.4;
/// nGPT wants larger steps than others, and no warm-up (section 2.6 of its paper).
const SPHERE_LR: f64 = 5.0;

/// All placements, one after the other. What is done already is read from the folder.
pub fn all(
    settings: &Settings,
    placements: &[Placement],
    text: &Bytes,
    folder: &Path,
    device: &Device,
) -> Result<Vec<Course>> {
    let mut runs = Vec::new();
    for placement in placements {
        let path = folder.join(format!("{placement}.json"));
        let done = if path.exists() { Some(read(&path)?) } else { None };
        runs.push((placement, path, done));
    }
    let total = settings.steps * placements.len() as u64;
    let mut done = settings.steps * runs.iter().filter(|(_, _, course)| course.is_some()).count() as u64;
    let mut progress = Progress::new(Limit { steps: Some(total), time: None }, done);
    let begun = (Instant::now(), done);
    let mut last = Reading { step: done, loss: 0.0, accuracy: None, tokens_per_s: 0.0 };
    let mut courses = Vec::new();
    for (placement, path, course) in runs {
        let course = match course {
            Some(course) => course,
            None => {
                let checkpoints = folder.join(format!("{placement}.checkpoints"));
                let course = train(*placement, settings, text, &checkpoints, device, |step, loss| {
                    let step = done + step;
                    let tokens = (step - begun.1) as f64 * (settings.rows * settings.length) as f64;
                    let tokens_per_s = tokens / begun.0.elapsed().as_secs_f64().max(1e-9);
                    last = Reading { step, loss, accuracy: None, tokens_per_s };
                    progress.show(last);
                })?;
                write_json(&path, &course)?;
                // What there is to go on with is in the file now.
                std::fs::remove_dir_all(&checkpoints).map_err(|error| Error::io(&checkpoints, &error))?;
                done += settings.steps;
                course
            }
        };
        progress.note(&format!("{placement}: {:.3} nats for each held-out byte", course.held_out.unwrap_or(f64::NAN)));
        courses.push(course);
    }
    progress.finish(last);
    Ok(courses)
}

fn read(path: &Path) -> Result<Course> {
    serde_json::from_str(&fsx::read_text(path)?)
        .map_err(|e| Error::file(path, format!("not a course of training: {e}")))
}

fn train(
    placement: Placement,
    settings: &Settings,
    text: &Bytes,
    checkpoints: &Path,
    device: &Device,
    mut show: impl FnMut(u64, f64),
) -> Result<Course> {
    let &Settings { rows, length, steps, seed, .. } = settings;
    device.set_seed(seed);
    let sphere = placement == Placement::Sphere;
    let lm = Lm::new(&settings.shape().decoder(placement), device)?;
    let (warmup, peak) =
        if sphere { (0, settings.lr * SPHERE_LR) } else { ((steps as f64 * WARMUP) as u64, settings.lr) };
    let schedule = Schedule { peak, warmup, total: steps, floor: 0.05, decay: Decay::Cosine };
    let weight_decay = if sphere { 0.0 } else { 0.1 };
    let rule = Rule::AdamW(Adam { weight_decay, beta2: 0.95, ..Adam::default() });
    let mut optimizer = Optimizer::new(rule, peak, Group::of(&lm))?.with_max_norm(1.0)?;
    let mut course = Course { placement: placement.to_string(), ..Course::default() };
    if let Some(found) = Checkpoint::latest(checkpoints)? {
        found.restore(&lm, &mut optimizer)?;
        let broken = |e| Error::file(found.folder(), format!("the state of the run is damaged: {e}"));
        course = serde_json::from_value(found.extra().clone()).map_err(broken)?;
    }
    let unit = lm.unit_vectors();
    let every = (steps / PROBES).max(1);
    for step in course.losses.len() as u64..steps {
        let (ids, labels) = text.batch(Part::Train, [rows, length], seed, step, device)?;
        optimizer.set_learning_rate(schedule.at(step))?;
        let mut update = |gradients: &wgrad::Gradients| {
            optimizer.step(gradients)?;
            unit.as_ref().map_or(Ok(()), |unit| unit.apply())
        };
        if step % every == 0 {
            let seen = depth::Probe::new(&lm, &ids, &labels)?;
            let before: Vec<(Param, Tensor)> =
                lm.named_parameters().into_iter().map(|(_, param)| (param.clone(), param.tensor().detach())).collect();
            update(&seen.gradients)?;
            let updates = moved(&lm, &before)?;
            course.losses.push(seen.loss);
            course.probes.push(Probe { step, gradients: seen.blocks, squares: seen.squares, updates });
        } else {
            let loss = lm.loss(&ids, &labels)?;
            update(&loss.backward()?)?;
            course.losses.push(loss.item()?);
        }
        show(step + 1, course.losses.last().copied().unwrap_or(0.0));
        if (step + 1) % SAVE_EVERY == 0 || step + 1 == steps {
            let extra = serde_json::to_value(&course).map_err(|e| Error::file(checkpoints, e))?;
            Snapshot { step: step + 1, module: &lm, optimizer: &optimizer, extra, files: &[] }.save(checkpoints, 1)?;
        }
    }
    let mut held_out = 0.0;
    for number in 0..HELD_OUT {
        let (ids, labels) = text.batch(Part::HeldOut, [rows, length], seed, number, device)?;
        held_out += no_grad(|| lm.loss(&ids, &labels))?.item()? / HELD_OUT as f64;
    }
    Ok(Course { held_out: Some(held_out), ..course })
}

/// How far each block's matrices moved, over their norms.
fn moved(lm: &Lm, before: &[(Param, Tensor)]) -> Result<Vec<f64>> {
    let old = |param: &Param| before.iter().find(|(known, _)| known.is(param)).map(|(_, value)| value);
    let steps = depth::block_norms(lm, |param| match old(param) {
        Some(old) => Ok(Some(param.tensor().detach().sub(old)?)),
        None => Ok(None),
    })?;
    let sizes = depth::block_norms(lm, |param| Ok(old(param).cloned()))?;
    Ok(steps.iter().zip(sizes).map(|(step, size)| step / size.max(1e-30)).collect())
}
