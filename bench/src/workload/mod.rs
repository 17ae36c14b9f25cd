//! The workloads: what is run, what it must give, how much arithmetic and memory traffic it needs at least.

mod attention;
mod conv;
mod encoder;
mod linear;
mod lm;
mod matmul;
mod memory;
mod mlm;
mod rows;
mod sparse;
mod sparse24;

use serde_json::{Map, Value};
use wgrad::{DType, Device, Tensor};

use crate::measure::{self, Repeat, Times};
use crate::params::Params;
use crate::record::{Record, rounded};
use crate::{Error, Result, check};

/// Runs the workload once and hands its results back.
pub type Step = Box<dyn FnMut() -> Result<Vec<Tensor>>>;

/// A workload on its device, with its inputs, ready to run.
pub struct Work {
    /// Floating-point operations of one run, for workloads that are about them.
    pub flops: Option<f64>,
    /// Bytes that the best implementation reads and writes in one run, for workloads that are about them.
    pub bytes: Option<f64>,
    /// Whether the arithmetic is in f32, whose limit can be measured on any device.
    pub f32: bool,
    /// Whether a timing waits for the device. Not where the cost of the calls alone is asked for.
    pub wait: bool,
    /// One run.
    pub step: Step,
    /// Runs once (or, where optimizers step, twice) and compares with a reference.
    pub check: Box<dyn FnOnce(&mut Step) -> Result<()>>,
}

type Prepare = fn(&str, &mut Params, &Device) -> Result<Work>;

/// Names of all workloads, and what makes them ready.
const ALL: [(&str, Prepare); 45] = [
    ("matmul", matmul::matmul),
    ("softmax", rows::softmax),
    ("layer_norm", rows::layer_norm),
    ("layer_norm_bwd", rows::layer_norm),
    ("rms_norm", rows::rms_norm),
    ("rms_norm_bwd", rows::rms_norm),
    ("l2_norm", rows::l2_norm),
    ("l2_norm_bwd", rows::l2_norm),
    ("add_rms_norm", rows::add_rms_norm),
    ("add_rms_norm_bwd", rows::add_rms_norm),
    ("cross_entropy", rows::cross_entropy),
    ("cross_entropy_bwd", rows::cross_entropy),
    ("attention", attention::attention),
    ("attention_bwd", attention::attention),
    ("sparse_attention", sparse::sparse_attention),
    ("sparse_attention_bwd", sparse::sparse_attention),
    ("topk_attention", sparse::topk_attention),
    ("topk_attention_bwd", sparse::topk_attention),
    ("dynamic_attention", sparse::dynamic_attention),
    ("dynamic_attention_bwd", sparse::dynamic_attention),
    ("chosen_attention", sparse::chosen_attention),
    ("chosen_attention_bwd", sparse::chosen_attention),
    ("sparse24", sparse24::sparse24),
    ("sparse24_bwd", sparse24::sparse24),
    ("sparse_rows", sparse24::sparse_rows),
    ("conv1d", conv::conv1d),
    ("conv1d_bwd", conv::conv1d),
    ("varlen", sparse::varlen),
    ("varlen_bwd", sparse::varlen),
    ("decode", linear::decode),
    ("linear_attention", linear::linear_attention),
    ("linear_attention_bwd", linear::linear_attention),
    ("mlm_step", mlm::mlm_step),
    ("mlm_forward", mlm::mlm_forward),
    ("lm_prefill", lm::prefill),
    ("lm_decode", lm::decode),
    ("elementwise", memory::elementwise),
    ("elementwise_bwd", memory::elementwise),
    ("embedding", memory::embedding),
    ("embedding_bwd", memory::embedding),
    ("reduce", memory::reduce),
    ("adamw", memory::adamw),
    ("copy", memory::copy),
    ("fill", memory::fill),
    ("dispatch", memory::dispatch),
];

/// Names of all workloads.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Makes a workload ready: random inputs on the device.
///
/// # Errors
/// If there is no such workload, it does not have these keys, or memory is exhausted.
pub fn prepare(name: &str, mut params: Params, device: &Device) -> Result<(Work, Map<String, Value>)> {
    let Some((_, prepare)) = ALL.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = names().collect();
        return Err(Error::new(format!("no workload {name:?}; there are {}", known.join(", "))));
    };
    device.set_seed(1);
    let work = prepare(name, &mut params, device)?;
    Ok((work, params.finish(name)?))
}

/// How to run a workload.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// How often.
    pub repeat: Repeat,
    /// Whether to compare the results with the reference.
    pub check: bool,
    /// Whether to measure the limits of the device and say which fraction was reached.
    pub limits: bool,
}

impl Run {
    /// Takes the keys `iters`, `warmup`, `batch`, `check` and `limits` out of the parameters.
    ///
    /// # Errors
    /// If one has no such value.
    pub fn take(params: &mut Params) -> Result<Self> {
        let repeat = Repeat {
            iters: params.take_number("iters", 1)?,
            warmup: params.take_number("warmup", 0)?,
            batch: params.take_number("batch", 1)?,
        };
        Ok(Run { repeat, check: params.take_flag("check", true)?, limits: params.take_flag("limits", true)? })
    }
}

/// Checks, warms up and measures a workload.
///
/// # Errors
/// As [`prepare`]; if the results are wrong; and whatever fails on the device.
pub fn run(name: &str, params: Params, device: &Device, run: Run) -> Result<Record> {
    let (work, params) = prepare(name, params, device)?;
    let Work { flops, bytes, f32, wait, mut step, check } = work;
    if run.check {
        check(&mut step)?;
    }
    let times = measure::time(device, run.repeat, wait, &mut step)?;
    drop(step);
    let mut record = Record::new(name, params, device.to_string(), &times);
    let rate = |work: Option<f64>| work.map(|work| work / times.median());
    record.gflops = rate(flops).map(|rate| rounded(rate / 1e9));
    record.gbps = rate(bytes).map(|rate| rounded(rate / 1e9));
    // Beyond f32 the arithmetic may run on units whose limit no portable kernel shows.
    if run.limits && (f32 || flops.is_none()) {
        record.limit_fraction = limit_fraction(device, flops, bytes, &times)?;
    }
    Ok(record)
}

/// The time that the device takes at least, by its measured rates of arithmetic and of memory, over the median; None where
/// nothing is known of the work. Above 1 where the work stays in caches.
fn limit_fraction(device: &Device, flops: Option<f64>, bytes: Option<f64>, times: &Times) -> Result<Option<f64>> {
    if flops.is_none() && bytes.is_none() {
        return Ok(None);
    }
    let rates = device.rates()?;
    let least = (flops.unwrap_or(0.0) / rates.operations_per_s).max(bytes.unwrap_or(0.0) / rates.bytes_per_s);
    Ok(Some(rounded(least / times.median())))
}

/// A workload that is a function of tensors, checked by the same function in f64 on the CPU device.
fn function(
    name: &str,
    inputs: Vec<Tensor>,
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> wgrad::Result<Vec<Tensor>> + 'static,
) -> Work {
    let name = name.to_string();
    let f = std::rc::Rc::new(f);
    let (run, inputs) = (f.clone(), std::rc::Rc::new(inputs));
    let given = inputs.clone();
    Work {
        flops: None,
        bytes: None,
        f32: true,
        wait: true,
        step: Box::new(move || Ok(run(&given)?)),
        check: Box::new(move |step| {
            let wide: Vec<Tensor> = inputs.iter().map(check::to_reference).collect::<Result<_>>()?;
            compare(&name, &step()?, &f(&wide)?, tolerance)
        }),
    }
}

fn compare(name: &str, got: &[Tensor], want: &[Tensor], tolerance: f64) -> Result<()> {
    let mut all = got.iter().zip(want).enumerate();
    all.try_for_each(|(i, (got, want))| check::close_tensors(&format!("{name}, result {i}"), got, want, tolerance))
}

/// Gradients of `sum(y * dy)` with respect to `leaves`, after `y` itself.
fn with_gradients(y: &Tensor, dy: &Tensor, leaves: &[&Tensor]) -> wgrad::Result<Vec<Tensor>> {
    let gradients = y.mul(dy)?.sum_all()?.backward()?;
    let gradient = |leaf: &&Tensor| match gradients.get(leaf) {
        Some(gradient) => Ok(gradient.clone()),
        None => leaf.zeros_like(),
    };
    std::iter::once(Ok(y.detach())).chain(leaves.iter().map(gradient)).collect()
}

/// Standard normal numbers.
fn normal(shape: &[usize], dtype: DType, device: &Device) -> wgrad::Result<Tensor> {
    Tensor::normal(0.0, 1.0, shape, dtype, device)
}

/// The key `dtype`: f32 unless it is said.
fn dtype(params: &mut Params) -> Result<DType> {
    Ok(match params.choice("dtype", &["f32", "f16", "bf16"])? {
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        _ => DType::F32,
    })
}
