//! SEA: Sparse Linear Attention with Estimated Attention Mask (Lee et al., 2023, arXiv 2310.01777).

use std::collections::HashMap;

use wgrad::nn::loss::{kl_div, mse};
use wgrad::nn::{Build, Module};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Reduction, Tensor, no_grad};

use super::lab::{Course, Lab, Sizes, answers, loss, train};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::attention::{Lessons, Losses, Pass};
use crate::front::recall::Recall;
use crate::mixer::{Direction, Estimated, EstimatedConfig, Mixer};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "sea",
    title: "SEA: Sparse Linear Attention with Estimated Attention Mask",
    paper: "2310.01777",
    shows: "distilled from full attention, it answers alike from a third of the keys, in memory linear in the length",
    check,
};

const TASK: Recall = Recall { keys: 8, pairs: 4, questions: 24, length: 48, gap: 0 };
const SIZES: Sizes = Sizes { vocab: 17, hidden: 64, heads: 4, layers: 2 };
const KEYS: usize = TASK.length / 3;

/// The paper's loss of a student (as for causal models): the layers' own in the mean, 5 times the squared differences of states, 0.2 times the
/// divergence of the answers, and a tenth of the task's.
fn distillation(
    [student, teacher]: [&Lab; 2],
    [own, taught]: [&[Tensor]; 2],
    labels: &[i32],
    of_layers: &Tensor,
) -> Result<Tensor> {
    let layers = own.len() - 1;
    let mut sum = of_layers.mul_scalar(1.0 / layers as f64)?;
    for (own, taught) in own.iter().zip(taught) {
        sum = sum.add(&mse(own, &taught.detach(), Reduction::Mean)?.mul_scalar(5.0 / (layers + 1) as f64)?)?;
    }
    let (logits, wanted) = (student.logits(&own[layers])?, no_grad(|| teacher.logits(&taught[layers]))?);
    let divergence = kl_div(&logits.log_softmax(-1)?, &wanted.softmax(-1)?, false, Reduction::Sum)?;
    let rows = (wanted.elements() / wanted.size(-1)?) as f64;
    sum = sum.add(&divergence.mul_scalar(0.2 / rows)?)?;
    Ok(sum.add(&loss(&logits, labels)?.mul_scalar(0.1)?)?)
}

/// Of a model of estimated attention, made of a trained one of full attention: the share of questions to which it gives that one's answers, and to
/// which it gives the right ones.
fn distilled(direction: Direction, device: &Device, seed: u64) -> Result<[f64; 2]> {
    let sizes = SIZES;
    // In both directions questions of one key see each other: with many of them the teacher does not find the pairs.
    let task = if direction == Direction::Both { Recall { questions: 8, ..TASK } } else { TASK };
    let config = EstimatedConfig { columns: 32, keys: KEYS, features: 48, direction };
    let (mask, steps) = if direction == Direction::Both { (Mask::all(), 1000) } else { (Mask::causal(0), 400) };
    device.set_seed(seed);
    let places = Tensor::normal(0.0, 0.3, &[1, TASK.length, sizes.hidden], DType::F32, device)?;
    let course = Course { steps, rows: 32, length: TASK.length, peak: 4e-3, seed };
    let teacher = Lab::new(&sizes, device, |_, build| sizes.plain_mixer(build))?.smeared()?;
    let run = |lab: &Lab, ids: &Tensor, pass: &Pass| lab.logits(&lab.states(lab.embed(ids)?.add(&places)?, pass)?);
    let draw = |stream: u64, number: u64| {
        let drawn = task.sample(course.rows, &mut Philox::new(seed, stream << 32 | number))?;
        Ok::<_, crate::Error>((Tensor::from_vec(drawn.ids, &[course.rows, TASK.length], device)?, drawn.labels))
    };
    let pass = teacher.pass(&mask, [course.rows, TASK.length], None, device)?;
    train(&teacher, course.steps, course.peak, |step| {
        let (ids, labels) = draw(1, step)?;
        loss(&run(&teacher, &ids, &pass)?, &labels)
    })?;
    let (ids, labels) = draw(2, 0)?;
    let learned = answers(&no_grad(|| run(&teacher, &ids, &pass))?, &labels)?;
    ensure(learned > 0.8, || format!("{learned:.2} of the teacher's answers are right: it has not learned its task"))?;
    let student = Lab::new(&sizes, device, |_, build| {
        Ok(Box::new(Estimated::new(config, &sizes.attention(), sizes.hidden, build)?))
    })?
    .smeared()?;
    // The student begins as the teacher, with estimators that know nothing.
    let known: HashMap<_, _> = teacher.named_parameters().into_iter().collect();
    for (name, param) in student.named_parameters() {
        if let Some(taught) = known.get(&name) {
            param.set(&taught.tensor().detach())?;
        }
    }
    train(&student, 300, 3e-3, |step| {
        let (ids, labels) = draw(3, step)?;
        let lessons = Lessons::default();
        let x = |lab: &Lab| Ok::<_, crate::Error>(lab.embed(&ids)?.add(&places)?);
        let (mut shown, mut heard) = (pass.clone(), pass.clone());
        shown.lessons = Some(lessons.clone());
        let taught = no_grad(|| teacher.trace(x(&teacher)?, &shown))?;
        let losses = Losses::of(lessons);
        heard.losses = Some(losses.clone());
        let own = student.trace(x(&student)?, &heard)?;
        distillation([&student, &teacher], [&own, &taught], &labels, &losses.sum()?)
    })?;
    let (mut alike, mut right) = (0.0, 0.0);
    for number in 0..8 {
        let (ids, labels) = draw(2, number)?;
        let (own, taught) =
            no_grad(|| Ok::<_, crate::Error>((run(&student, &ids, &pass)?, run(&teacher, &ids, &pass)?)))?;
        let taught = taught.argmax(-1, false)?.to_vec::<u32>()?;
        let taught: Vec<i32> =
            labels.iter().zip(taught).map(|(&label, taught)| if label < 0 { label } else { taught as i32 }).collect();
        alike += answers(&own, &taught)? / 8.0;
        right += answers(&own, &labels)? / 8.0;
    }
    Ok([alike, right])
}

fn check(device: &Device, seed: u64) -> Result<Report> {
    let [causal, both] = [Direction::Causal { longest: TASK.length }, Direction::Both]
        .map(|direction| distilled(direction, device, seed));
    let ([causal, causal_right], [both, both_right]) = (causal?, both?);
    let growth = growth(device)?;
    ensure(growth < 1.2, || format!("the memory of a layer grows with the {growth:.2}th power of the length"))?;
    Ok(Report {
        property: format!(
            "answers as full attention gives them, from {KEYS} of {} keys: {:.1} % causal, {:.1} % in both directions (right {:.1} % and {:.1} %; \
             memory grows with the length to the {growth:.2})",
            TASK.length,
            100.0 * causal,
            100.0 * both,
            100.0 * causal_right,
            100.0 * both_right,
        ),
        measured: causal.min(both),
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}

/// The exponent with which the peak memory of a layer grows with the length.
fn growth(device: &Device) -> Result<f64> {
    let peak = |length: usize| {
        let config =
            EstimatedConfig { columns: 32, keys: 16, features: 48, direction: Direction::Causal { longest: length } };
        let layer = Estimated::new(config, &SIZES.attention(), SIZES.hidden, &Build::new(device))?;
        let x = Tensor::normal(0.0, 1.0, &[1, length, SIZES.hidden], DType::F32, device)?;
        device.reset_peaks();
        no_grad(|| layer.mix(&x, &Pass::default()))?.sum_all()?.item()?;
        Ok::<_, crate::Error>(device.memory().peak_bytes as f64)
    };
    Ok((peak(2048)? / peak(512)?).log2() / 2.0)
}
