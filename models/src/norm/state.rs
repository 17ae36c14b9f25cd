//! What norms with state share. The state is kept in parameters that do not train, so that it is saved and loaded with the others,
//! and moves on the device: no step waits for a number.

use std::sync::{Mutex, PoisonError};

use wgrad::nn::{Build, Init, Param};
use wgrad::{DType, Tensor, autograd};

use crate::{Error, Result};

/// A state of this shape, in f32 where parameters are halves.
pub(super) fn state(shape: &[usize], value: f64, build: &Build) -> Result<Param> {
    let dtype = if build.dtype.is_half() { DType::F32 } else { build.dtype };
    let param = build.clone().with_dtype(dtype).param(shape, Init::Constant(value))?;
    param.set_trainable(false);
    Ok(param)
}

/// `keep * old + (1 - keep) * new`.
pub(super) fn blend(old: &Tensor, new: &Tensor, keep: f64) -> wgrad::Result<Tensor> {
    old.mul_scalar(keep)?.add(&new.mul_scalar(1.0 - keep)?)
}

/// Whether the number of steps, `[1]`, is at most `n`.
pub(super) fn at_most(steps: &Tensor, n: usize) -> wgrad::Result<Tensor> {
    steps.le(&Tensor::full(n as f64, &[1], steps.dtype(), steps.device())?)
}

/// Rows of channels, and which of them count in statistics.
pub(super) struct Rows {
    /// `[rows, channels]`.
    pub x: Tensor,
    /// `[rows, 1]` of zeros and ones; all count if absent.
    pub valid: Option<Tensor>,
}

impl Rows {
    /// Of `x [.., channels]`, where `valid [..]` says with ones and zeros, or as bools, which positions count.
    pub fn new(name: &'static str, x: &Tensor, valid: Option<&Tensor>, channels: usize) -> Result<Self> {
        let (shape, lead) = (x.shape(), x.rank().saturating_sub(1));
        if shape.last() != Some(&channels) || lead == 0 {
            return Err(Error::argument(name, format!("x of shape {shape:?}, expected [.., {channels}]")));
        }
        if let Some(valid) = valid
            && valid.shape() != &shape[..lead]
        {
            let (got, want) = (valid.shape(), &shape[..lead]);
            return Err(Error::argument(name, format!("valid of shape {got:?}, expected {want:?}")));
        }
        let column = |valid: &Tensor| valid.detach().cast(x.dtype())?.reshape(&[-1, 1]);
        Ok(Rows { x: x.reshape(&[-1, channels as isize])?, valid: valid.map(column).transpose()? })
    }

    /// What a function of rows takes, before its parameters.
    pub fn inputs(&self) -> Vec<&Tensor> {
        std::iter::once(&self.x).chain(&self.valid).collect()
    }
}

/// The mean of rows that count, `[channels]`; zeros where none does.
pub(super) fn mean(x: &Tensor, valid: Option<&Tensor>) -> wgrad::Result<Tensor> {
    let sum = match valid {
        None if x.shape()[0] > 0 => return x.mean(&[0], false),
        None => return x.sum(&[0], false),
        Some(valid) => x.mul(&valid.cast(x.dtype())?)?.sum(&[0], false)?,
    };
    let count = valid.map_or_else(|| sum.ones_like(), |valid| valid.cast(x.dtype())?.sum_all())?;
    sum.div(&count.clamp(Some(1.0), None)?)
}

/// In f32, if it is a half.
pub(super) fn wide(x: &Tensor) -> wgrad::Result<Tensor> {
    if x.dtype().is_half() { x.cast(DType::F32) } else { Ok(x.clone()) }
}

/// What the last forward pass in training divided by. A checkpoint that runs the pass again divides by the same, and moves no state.
#[derive(Default)]
pub(super) struct Latest(Mutex<Option<Vec<Tensor>>>);

impl Latest {
    /// What `advance` makes of the state, or what it made last.
    pub fn or_advance(&self, advance: impl FnOnce() -> wgrad::Result<Vec<Tensor>>) -> wgrad::Result<Vec<Tensor>> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if autograd::is_backward()
            && let Some(latest) = &*latest
        {
            return Ok(latest.clone());
        }
        Ok(latest.insert(advance()?).clone())
    }
}
