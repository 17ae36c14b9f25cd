//! Softmax and its logarithm along one dimension, fused both ways.

use crate::autograd::record;
use crate::cpu::softmax as cpu;
use crate::device::Kind;
use crate::kernels::{rows, softmax as kernels, window};
use crate::ops::rows::{along, prepared};
use crate::{DType, Error, Result, Tensor};

/// Softmax along `dim`, or with `log` its logarithm.
pub(crate) fn softmax(op: &'static str, log: bool, x: &Tensor, dim: isize) -> Result<Tensor> {
    x.expect_float(op)?;
    if x.rank() == 0 {
        return Err(Error::Dim { op, dim, rank: 0 });
    }
    let dim = x.dim(op, dim)?;
    if x.elements() == 0 {
        return Ok(record(op, x.detach(), &[x], |dy, _| Ok(vec![Some(dy.clone())])));
    }
    let out = along(dim, &[&x.detach()], prepared, |inputs, rows, cols| match x.device().kind() {
        Kind::Cpu(_) => cpu::forward(op, log, &inputs[0], rows, cols),
        Kind::Gpu(_) => pieces(op, inputs, &|x| kernels::forward(op, log, &x[0], None, 1.0, cols)),
    })?;
    let y = out.clone();
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(gradient(op, log, &y, dy, 1.0, dim)?)])))
}

/// Runs a kernel on rows, in pieces where a binding does not hold all of them.
fn pieces(op: &'static str, inputs: &[Tensor], kernel: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Result<Tensor> {
    let seen: Vec<&Tensor> = inputs.iter().collect();
    let (first, last) = (&inputs[0], inputs[0].rank() - 1);
    let output = (rows::padded_shape(first.dims()), first.dtype());
    let y = window::piecewise(op, &seen, output, last, &|x| Ok(rows::padded(&kernel(x)?)))?;
    Ok(window::slice(&y, last, 0, first.shape()[last]))
}

fn gradient(op: &'static str, log: bool, y: &Tensor, dy: &Tensor, scale: f64, dim: usize) -> Result<Tensor> {
    along(dim, &[y, &dy.detach()], prepared, |inputs, rows, cols| match y.device().kind() {
        Kind::Cpu(_) => cpu::backward(op, log, &inputs[0], &inputs[1], scale, rows, cols),
        Kind::Gpu(_) => pieces(op, inputs, &|x| kernels::backward(op, log, &x[0], &x[1], scale, cols)),
    })
}

/// Softmax of `scale * x` along the last dimension among the elements where `mask`, which broadcasts to x, is true.
pub(crate) fn masked_softmax(x: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let op = "masked_softmax";
    x.expect_float(op)?;
    let dim = x.dim(op, -1)?;
    if !scale.is_finite() {
        return Err(Error::argument(op, format!("scale is {scale}, expected a finite number")));
    }
    let mask = match mask {
        Some(mask) => {
            mask.expect_dtype(op, DType::Bool, "a bool mask, true where an element counts")?;
            x.expect_same_device(op, mask)?;
            Some(mask.with_layout(mask.layout().broadcast_to(op, x.shape())?))
        }
        None => None,
    };
    if x.elements() == 0 {
        return Ok(record(op, x.detach(), &[x], |dy, _| Ok(vec![Some(dy.clone())])));
    }
    let out = along(dim, &[&x.detach()], prepared, |inputs, _, cols| match x.device().kind() {
        Kind::Cpu(_) => cpu::masked(op, &inputs[0], mask.as_ref(), scale, cols),
        Kind::Gpu(_) => {
            let inputs: Vec<Tensor> = inputs.iter().cloned().chain(mask.clone()).collect();
            pieces(op, &inputs, &|x| kernels::forward(op, false, &x[0], x.get(1), scale, cols))
        }
    })?;
    let y = out.clone();
    // What is masked has y = 0, and so no gradient.
    Ok(record(op, out, &[x], move |dy, _| Ok(vec![Some(gradient(op, false, &y, dy, scale, dim)?)])))
}

/// [`Tensor::masked_softmax`] from primitive operations.
///
/// # Errors
/// As [`Tensor::masked_softmax`].
pub fn masked_reference(x: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let scores = x.mul_scalar(scale)?;
    match mask {
        // Filled again after the softmax: a row with nothing allowed is uniform until then.
        Some(mask) => {
            let hidden = mask.logical_not()?;
            reference(false, &scores.masked_fill(&hidden, -1e30)?, -1)?.masked_fill(&hidden, 0.0)
        }
        None => reference(false, &scores, -1),
    }
}

/// [`Tensor::softmax`] (with `log`, [`Tensor::log_softmax`]) from primitive operations, which is what the kernels are tested
/// against. Not for rows of -inf.
///
/// # Errors
/// As [`Tensor::softmax`].
pub fn reference(log: bool, x: &Tensor, dim: isize) -> Result<Tensor> {
    let shifted = x.sub(&x.detach().max(&[dim], true)?)?;
    if log {
        return shifted.sub(&shifted.exp()?.sum(&[dim], true)?.log()?);
    }
    let e = shifted.exp()?;
    e.div(&e.sum(&[dim], true)?)
}
