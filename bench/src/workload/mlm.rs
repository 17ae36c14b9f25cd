//! A masked language model: a training step with AdamW, and a pass forward.

use std::cell::RefCell;
use std::rc::Rc;

use wgrad::nn::{Build, Precision};
use wgrad::optim::{Adam, Group, LossScaler, Optimizer, Rule};
use wgrad::{CrossEntropy, DType, Device, Tensor, no_grad};

use super::Work;
use super::encoder::{Model, Norm, Sizes};
use crate::params::Params;
use crate::{Error, Result, check};

/// Operations up to which the reference does the whole batch; beyond, its first rows.
const MAX_CHECKED: f64 = 5e10;

/// A model with its optimizer.
struct Training {
    model: Model,
    optimizer: Optimizer,
    scaler: Option<LossScaler>,
}

impl Training {
    fn new(model: Model, precision: Precision) -> wgrad::Result<Self> {
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), 1e-4, Group::of(&model))?;
        Ok(Training { model, optimizer, scaler: precision.scaler() })
    }

    /// One step on `ids` and `targets` `[batch, length]`; reads the loss, as a training loop does.
    fn step(&mut self, ids: &Tensor, targets: &Tensor) -> wgrad::Result<f64> {
        let logits = self.model.forward(ids)?;
        let logits = if logits.dtype().is_half() { logits.cast(DType::F32)? } else { logits };
        let loss = logits.cross_entropy(targets, &CrossEntropy::default())?;
        match &mut self.scaler {
            Some(scaler) => {
                let gradients = scaler.backward(&loss)?;
                self.optimizer.step_scaled(&gradients, scaler)?
            }
            None => self.optimizer.step(&loss.backward()?)?,
        };
        loss.item()
    }
}

/// `b` rows of `l` tokens for `layers` blocks of width `d` with `h` heads and a norm: the batch and the model's sizes.
fn sizes(params: &mut Params) -> Result<(usize, Sizes)> {
    let (batch, length, width) = (params.size("b", 8)?, params.size("l", 128)?, params.size("d", 256)?);
    let (heads, layers, vocab) = (params.size("h", 4)?, params.size("layers", 4)?, params.size("vocab", 8192)?);
    let norm = match params.choice("norm", &["layer", "plain", "rms", "crms", "wide_crms"])? {
        "plain" => Norm::Plain,
        "rms" => Norm::Rms,
        "crms" => Norm::Crms,
        "wide_crms" => Norm::WideCrms,
        _ => Norm::Layer,
    };
    if width % heads != 0 {
        return Err(Error::new(format!("d={width} does not divide into {heads} heads")));
    }
    let sizes = Sizes { length, width, heads, layers, vocab, norm };
    if sizes.stream() == 0 {
        return Err(Error::new(format!("norm=crms leaves d - 1 elements, expected d from 2 on, got d={width}")));
    }
    Ok((batch, sizes))
}

fn tokens(batch: usize, sizes: Sizes, device: &Device) -> wgrad::Result<Tensor> {
    Tensor::randint(0, sizes.vocab as i64, &[batch, sizes.length], DType::U32, device)
}

/// How many rows the reference does, of a batch that takes so many operations.
fn checked_rows(batch: usize, flops: f64) -> usize {
    ((batch as f64 * MAX_CHECKED / flops) as usize).clamp(1, batch)
}

/// A step: forward, backward, optimizer; in halves with f32 master weights, of f16 with a scaled loss.
pub fn mlm_step(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (batch, sizes) = sizes(params)?;
    // Backward does twice as much as forward.
    let flops = 3.0 * sizes.operations(batch);
    let precision = match params.choice("dtype", &["f32", "f16", "bf16"])? {
        "f16" => Precision::F16,
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    };
    let build = Build::new(device).with_dtype(precision.dtype());
    let training = Rc::new(RefCell::new(Training::new(Model::new(sizes, &build)?, precision)?));
    let (ids, targets) = (tokens(batch, sizes, device)?, tokens(batch, sizes, device)?);
    let name = name.to_string();
    let (trained, x, y) = (training.clone(), ids.clone(), targets.clone());
    Ok(Work {
        flops: Some(flops),
        bytes: None,
        f32: precision == Precision::F32,
        wait: true,
        step: Box::new(move || {
            let loss = trained.borrow_mut().step(&x, &y)?;
            if !loss.is_finite() {
                return Err(Error::new(format!("the loss is {loss}")));
            }
            Ok(Vec::new())
        }),
        check: Box::new(move |_| {
            let rows = checked_rows(batch, flops);
            let (ids, targets) = (ids.narrow(0, 0, rows)?, targets.narrow(0, 0, rows)?);
            let mut training = training.borrow_mut();
            let mut reference = Training::new(training.model.reference()?, Precision::F32)?;
            let (wide_ids, wide_targets) = (check::to_reference(&ids)?, check::to_reference(&targets)?);
            // The second loss shows the first gradients and the optimizer's step.
            for step in ["first", "second"] {
                let (got, want) = (training.step(&ids, &targets)?, reference.step(&wide_ids, &wide_targets)?);
                let tolerance = if precision == Precision::F32 { 1e-4 } else { check::tolerance(precision.dtype()) };
                check::close(&format!("{name}, {step} loss"), &[got], &[want], tolerance)?;
            }
            Ok(())
        }),
    })
}

/// The logits alone, without a record for gradients.
pub fn mlm_forward(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (batch, sizes) = sizes(params)?;
    let flops = sizes.operations(batch);
    let model = Rc::new(Model::new(sizes, &Build::new(device))?.for_inference()?);
    let ids = tokens(batch, sizes, device)?;
    let name = name.to_string();
    let (run, x) = (model.clone(), ids.clone());
    Ok(Work {
        flops: Some(flops),
        bytes: None,
        f32: true,
        wait: true,
        step: Box::new(move || Ok(vec![no_grad(|| run.forward(&x))?])),
        check: Box::new(move |step| {
            let rows = checked_rows(batch, flops);
            let ids = check::to_reference(&ids.narrow(0, 0, rows)?)?;
            let want = no_grad(|| Ok::<_, Error>(model.reference()?.forward(&ids)?))?;
            for got in step()? {
                check::close_tensors(&name, &got.narrow(0, 0, rows)?, &want, check::tolerance(DType::F32))?;
            }
            Ok(())
        }),
    })
}
