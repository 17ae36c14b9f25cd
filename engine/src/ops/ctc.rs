//! Connectionist temporal classification: recurrences over the states of each sample, in logarithms, forward and backward. What a class
//! gets of the states that bear its label is a product with one-hot labels: sums in a fixed order, without a sort.

use crate::autograd::record;
use crate::cpu::ctc as cpu;
use crate::device::Kind;
use crate::kernels::ctc as kernels;
use crate::ops::rows::wide;
use crate::{DType, Error, Reduction, Result, Tensor};

const OP: &str = "ctc_loss";
/// Stands for the logarithm of 0, as in `shaders/common/log_sum.wgsl`.
pub(crate) const LOWEST: f64 = -1e30;

/// Options of [`Tensor::ctc_loss`]. By default: blank 0, mean, infinite losses stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CtcLoss {
    /// The class that stands for no label.
    pub blank: usize,
    /// What becomes of the losses of the samples. The mean divides each by the number of its labels (at least 1) before.
    pub reduction: Reduction,
    /// Whether the loss of a sample whose labels do not fit its time is 0 rather than infinite.
    pub zero_infinity: bool,
}

/// What the recurrences work on: log-probabilities of the states `[samples, time, states]`, dense, f32 or f64.
pub(crate) struct States {
    pub emissions: Tensor,
    /// `[samples, states]`, u32.
    pub labels: Tensor,
    /// Times and number of labels of each sample.
    pub lengths: Vec<[usize; 2]>,
}

impl States {
    /// `[samples, time, states]`.
    pub fn sizes(&self) -> Result<[usize; 3]> {
        <[usize; 3]>::try_from(self.emissions.shape()).map_err(|_| Error::shape(OP, "states of another rank"))
    }

    /// Log-probabilities of all paths up to each state.
    fn forward(&self) -> Result<Tensor> {
        match self.emissions.device().kind() {
            Kind::Cpu(_) => cpu::forward(OP, self),
            Kind::Gpu(_) => kernels::forward(OP, self),
        }
    }

    /// The gradient of the emissions.
    fn backward(&self, alpha: &Tensor, total: &Tensor, dloss: &Tensor) -> Result<Tensor> {
        match self.emissions.device().kind() {
            Kind::Cpu(_) => cpu::backward(OP, self, alpha, total, dloss),
            Kind::Gpu(_) => kernels::backward(OP, self, alpha, total, dloss),
        }
    }

    /// The log-probability of each sample's labels, `[samples]`: of the paths that end in one of the last two states.
    fn total(&self, alpha: &Tensor) -> Result<Tensor> {
        let [samples, time, states] = self.sizes()?;
        let device = alpha.device();
        let last = |back: usize| {
            let at = |(n, &[times, labels]): (usize, &[usize; 2])| {
                let state = (2 * labels).saturating_sub(back);
                ((n * time + times.max(1) - 1) * states + state) as u32
            };
            let places: Vec<u32> = self.lengths.iter().enumerate().map(at).collect();
            alpha.flatten(0, -1)?.index_select(0, &Tensor::from_vec(places, &[samples], device)?)
        };
        let chosen = |f: &dyn Fn(&[usize; 2]) -> bool| -> Result<Option<Tensor>> {
            let some: Vec<bool> = self.lengths.iter().map(f).collect();
            match some.contains(&true) {
                true => Ok(Some(Tensor::from_vec(some, &[samples], device)?)),
                false => Ok(None),
            }
        };
        let mut label = last(1)?;
        if let Some(none) = chosen(&|&[_, labels]| labels == 0)? {
            label = label.masked_fill(&none, LOWEST)?;
        }
        let mut total = Tensor::stack(&[&last(0)?, &label], 1)?.logsumexp(&[1], false)?;
        // No time is enough for no label, and only for that.
        if let Some(empty) = chosen(&|&[times, labels]| times == 0 && labels == 0)? {
            total = total.masked_fill(&empty, 0.0)?;
        }
        if let Some(short) = chosen(&|&[times, labels]| times == 0 && labels > 0)? {
            total = total.masked_fill(&short, LOWEST)?;
        }
        Ok(total)
    }
}

/// Labels with blanks between and around them: `[samples, 2 labels + 1]`, blanks where a sample has no more.
fn states_of(targets: &Tensor, blank: usize, lengths: &[[usize; 2]]) -> Result<Tensor> {
    let &[samples, most] = targets.shape() else {
        return Err(Error::shape(OP, format!("targets of shape {:?}, expected [samples, labels]", targets.shape())));
    };
    let device = targets.device();
    let blanks = |n: usize| Tensor::full(blank as f64, &[samples, n], DType::I32, device);
    let past: Vec<bool> = lengths.iter().flat_map(|&[_, labels]| (0..most).map(move |i| i >= labels)).collect();
    let past = Tensor::from_vec(past, &[samples, most], device)?;
    let labels = Tensor::where_cond(&past, &blanks(most)?, &targets.detach().cast(DType::I32)?)?;
    let pairs = Tensor::stack(&[&blanks(most)?, &labels], 2)?.reshape(&[samples as isize, 2 * most as isize])?;
    Tensor::concat(&[&pairs, &blanks(1)?], 1)
}

fn check(x: &Tensor, targets: &Tensor, times: &[usize], labels: &[usize], options: &CtcLoss) -> Result<[usize; 3]> {
    x.expect_float(OP)?;
    targets.expect_int(OP)?;
    x.expect_same_device(OP, targets)?;
    let (&[time, samples, classes], &[rows, most]) = (x.shape(), targets.shape()) else {
        let (x, targets) = (x.shape(), targets.shape());
        let message = format!(
            "log-probabilities of shape {x:?} and targets of shape {targets:?}, expected [time, samples, classes] and [samples, labels]"
        );
        return Err(Error::shape(OP, message));
    };
    if rows != samples || times.len() != samples || labels.len() != samples {
        let message = format!(
            "{samples} samples with targets of {rows}, {} input lengths and {} target lengths, expected as many",
            times.len(),
            labels.len()
        );
        return Err(Error::shape(OP, message));
    }
    if options.blank >= classes {
        return Err(Error::argument(OP, format!("blank is class {} of {classes}", options.blank)));
    }
    for (name, lengths, most) in [("input", times, time), ("target", labels, most)] {
        if let Some(length) = lengths.iter().find(|&&n| n > most) {
            return Err(Error::argument(OP, format!("an {name} length is {length}, expected at most {most}")));
        }
    }
    Ok([time, samples, classes])
}

/// See [`Tensor::ctc_loss`].
pub(crate) fn ctc_loss(
    log_probs: &Tensor,
    targets: &Tensor,
    input_lengths: &[usize],
    target_lengths: &[usize],
    options: &CtcLoss,
) -> Result<Tensor> {
    let [time, samples, _] = check(log_probs, targets, input_lengths, target_lengths, options)?;
    let lengths: Vec<[usize; 2]> = input_lengths.iter().zip(target_lengths).map(|(&t, &l)| [t, l]).collect();
    if log_probs.dtype().is_half() {
        let wide = log_probs.cast(DType::F32)?;
        return ctc_loss(&wide, targets, input_lengths, target_lengths, options)?.cast(log_probs.dtype());
    }
    let losses = if samples == 0 || time == 0 {
        let known = lengths.iter().map(|&[_, labels]| if labels == 0 { 0.0 } else { -LOWEST as f32 }).collect();
        let zeros = log_probs.sum(&[0, 2], false)?.mul_scalar(0.0)?;
        zeros.add(&Tensor::from_vec(known, &[samples], log_probs.device())?.cast(log_probs.dtype())?)?
    } else {
        samples_losses(log_probs, targets, lengths, options.blank)?
    };
    reduced(&losses, target_lengths, options)
}

/// The losses of the samples, `-LOWEST` or more where no path exists: there the gradient is 0.
fn samples_losses(log_probs: &Tensor, targets: &Tensor, lengths: Vec<[usize; 2]>, blank: usize) -> Result<Tensor> {
    let &[time, samples, classes] = log_probs.shape() else {
        return Err(Error::shape(OP, format!("log-probabilities of shape {:?}", log_probs.shape())));
    };
    let labels = states_of(targets, blank, &lengths)?;
    let count = labels.shape()[1];
    log_probs.device().expect_room(OP, samples.saturating_mul(time).saturating_mul(count), log_probs.dtype())?;
    let index = labels.unsqueeze(1)?.expand(&[samples, time, count])?;
    let emissions = wide(log_probs)?.permute(&[1, 0, 2])?.gather(2, &index)?;
    let labels = labels.cast(DType::U32)?;
    let states = States { emissions, labels, lengths };
    let alpha = states.forward()?;
    let total = states.total(&alpha)?;
    let losses = total.neg()?;
    Ok(record(OP, losses, &[log_probs], move |dy, _| {
        let gradient = states.backward(&alpha, &total, &dy.contiguous()?)?;
        let hot = states.labels.one_hot(classes)?.cast(gradient.dtype())?;
        Ok(vec![Some(gradient.matmul(&hot)?.permute(&[1, 0, 2])?)])
    }))
}

fn reduced(losses: &Tensor, target_lengths: &[usize], options: &CtcLoss) -> Result<Tensor> {
    let limit = Tensor::scalar(-0.1 * LOWEST, losses.dtype(), losses.device())?;
    let instead = if options.zero_infinity { 0.0 } else { f64::INFINITY };
    let losses = losses.masked_fill(&losses.gt(&limit)?, instead)?;
    match options.reduction {
        Reduction::None => Ok(losses),
        Reduction::Sum => losses.sum_all(),
        Reduction::Mean => {
            let share: Vec<f32> = target_lengths.iter().map(|&n| 1.0 / n.max(1) as f32).collect();
            let share = Tensor::from_vec(share, &[target_lengths.len()], losses.device())?.cast(losses.dtype())?;
            losses.mul(&share)?.mean_all()
        }
    }
}
