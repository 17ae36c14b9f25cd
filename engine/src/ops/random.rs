//! Random tensors. Element `i` is a pure function of the device's seed, the number of the draw, and `i`: the same bits on
//! every device, whatever the order in which threads run, and again when a state is restored.

use crate::autograd::record;
use crate::cpu::random as cpu;
use crate::device::{Kind, RngState};
use crate::kernels::random as kernels;
use crate::layout::Layout;
use crate::rng::Philox;
use crate::{DType, Device, Error, Result, Tensor};

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Law {
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        std: f64,
    },
    Gumbel,
    /// True with probability `threshold / 2^32`.
    Bernoulli {
        threshold: u64,
    },
    /// `low..low + range`.
    Integer {
        low: i64,
        range: u32,
    },
}

/// The random words of one tensor.
pub(crate) struct Noise {
    pub state: RngState,
    stream: Philox,
}

impl Noise {
    pub fn new(state: RngState) -> Self {
        Noise { state, stream: Philox::new(state.seed, state.draws) }
    }

    /// The word of an element that needs one.
    pub fn word(&self, i: usize) -> u32 {
        self.stream.at(i as u64 / 4)[i % 4]
    }

    /// The four words of four neighbouring elements that need one each.
    pub fn block(&self, block: usize) -> [u32; 4] {
        self.stream.at(block as u64)
    }

    /// The four words that two neighbouring elements share.
    pub fn pair(&self, i: usize) -> [u32; 4] {
        self.stream.at(i as u64 / 2)
    }
}

fn draw(op: &'static str, law: Law, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = Layout::contiguous(op, shape)?.shape;
    device.expect_room(op, shape.elements(), dtype)?;
    let noise = Noise::new(device.next_draw());
    match device.kind() {
        Kind::Cpu(_) => cpu::draw(op, law, &noise, shape, dtype, device),
        Kind::Gpu(_) => kernels::draw(op, law, &noise, shape, dtype, device),
    }
}

/// As [`draw`], for the laws over real numbers.
pub(crate) fn draw_float(op: &'static str, law: Law, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    if !dtype.is_float() {
        return Err(Error::DType { op, got: dtype, expected: "a float dtype" });
    }
    draw(op, law, shape, dtype, device)
}

/// `p * 2^32`, with which words are compared: words below are drawn with probability `p`.
fn threshold(op: &'static str, p: f64) -> Result<u64> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::argument(op, format!("probability {p} is not between 0 and 1")));
    }
    Ok((p * 2f64.powi(32)).round() as u64)
}

pub(crate) fn bernoulli(p: f64, shape: &[usize], device: &Device) -> Result<Tensor> {
    let op = "bernoulli";
    match threshold(op, p)? {
        // Every word is below 2^32.
        threshold if threshold > u64::from(u32::MAX) => Tensor::ones(shape, DType::Bool, device),
        threshold => draw(op, Law::Bernoulli { threshold }, shape, DType::Bool, device),
    }
}

pub(crate) fn uniform(low: f64, high: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let op = "uniform";
    let single = |x: f64| (x as f32).is_finite();
    if !single(low) || !single(high) || !single(high - low) || low as f32 >= high as f32 {
        return Err(Error::argument(op, format!("{low}..{high} is not a range of f32")));
    }
    draw_float(op, Law::Uniform { low, high }, shape, dtype, device)
}

pub(crate) fn normal(mean: f64, std: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let op = "normal";
    if !(mean as f32).is_finite() || !(std as f32).is_finite() || std < 0.0 {
        return Err(Error::argument(op, format!("mean {mean} and standard deviation {std} are not usable")));
    }
    draw_float(op, Law::Normal { mean, std }, shape, dtype, device)
}

pub(crate) fn randint(low: i64, high: i64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    let op = "randint";
    let (least, most) = match dtype {
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        _ => return Err(Error::DType { op, got: dtype, expected: "u32 or i32" }),
    };
    let range = high.checked_sub(low).and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    match range.filter(|_| low >= least && high - 1 <= most) {
        Some(range) => draw(op, Law::Integer { low, range }, shape, dtype, device),
        None => Err(Error::argument(op, format!("{low}..{high} is empty or not within {dtype}"))),
    }
}

/// Draws from the distribution of logits in the last dimension: the largest of `logit + Gumbel noise` (Gumbel and Lieblein 1954). The
/// noise has exact tails, so that rare classes come at their rate.
pub(crate) fn categorical(logits: &Tensor) -> Result<Tensor> {
    let op = "categorical";
    logits.expect_float(op)?;
    if logits.rank() == 0 || logits.shape()[logits.rank() - 1] == 0 {
        return Err(Error::shape(op, format!("{:?} has no classes in its last dimension", logits.shape())));
    }
    let logits = logits.detach();
    let logits = if logits.dtype().is_half() { logits.cast(DType::F32)? } else { logits };
    let noise = draw_float(op, Law::Gumbel, logits.shape(), logits.dtype(), logits.device())?;
    logits.add(&noise)?.argmax(-1, false)
}

/// Dropout: an element, counted in row-major order, falls if its word of the draw is below the threshold; the others are scaled up.
/// The mask is not stored but drawn again.
#[derive(Clone, Copy)]
pub(crate) struct Dropout {
    pub state: RngState,
    pub threshold: u32,
    pub scale: f64,
}

impl Dropout {
    /// Draws the mask; None where there is nothing to draw: `p` is 0 or 1.
    pub fn draw(op: &'static str, p: f64, device: &Device) -> Result<Option<Self>> {
        let threshold = u32::try_from(threshold(op, p)?).unwrap_or(u32::MAX);
        if p == 0.0 || p == 1.0 {
            return Ok(None);
        }
        Ok(Some(Dropout { state: device.next_draw(), threshold, scale: 1.0 / (1.0 - p) }))
    }

    /// Of a detached tensor.
    pub fn apply(&self, op: &'static str, x: &Tensor) -> Result<Tensor> {
        let x = x.detach().contiguous()?;
        let noise = Noise::new(self.state);
        let threshold = u64::from(self.threshold);
        match x.device().kind() {
            Kind::Cpu(_) => cpu::dropout(op, &x, threshold, self.scale, &noise),
            Kind::Gpu(_) => kernels::dropout(op, &x, threshold, self.scale, &noise),
        }
    }

    /// As kernels take it: seed and draw, lower words first, threshold, and the scale's bits.
    pub fn words(&self) -> [u32; 6] {
        let (seed, draws) = (self.state.seed, self.state.draws);
        let [seed_high, draws_high] = [seed, draws].map(|x| (x >> 32) as u32);
        [seed as u32, seed_high, draws as u32, draws_high, self.threshold, (self.scale as f32).to_bits()]
    }
}

pub(crate) fn dropout(x: &Tensor, p: f64) -> Result<Tensor> {
    let op = "dropout";
    x.expect_float(op)?;
    let Some(dropout) = Dropout::draw(op, p, x.device())? else {
        if p == 0.0 {
            return Ok(x.clone());
        }
        return Ok(record(op, x.zeros_like()?, &[x], |dy, _| Ok(vec![Some(dy.zeros_like()?)])));
    };
    let out = dropout.apply(op, x)?;
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(dropout.apply(op, dy)?)])))
}
