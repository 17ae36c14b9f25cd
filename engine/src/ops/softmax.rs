//! Softmax and its logarithm along one dimension, fused both ways.

use crate::autograd::record;
use crate::cpu::softmax as cpu;
use crate::device::Kind;
use crate::kernels::{softmax as kernels, window};
use crate::ops::rows::along;
use crate::{Error, Result, Tensor};

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
    let out = along(dim, &[&x.detach()], |inputs, rows, cols| match x.device().kind() {
        Kind::Cpu(_) => cpu::forward(op, log, &inputs[0], rows, cols),
        Kind::Gpu(_) => {
            let x = window::rows_of(op, &inputs[0], rows, cols)?;
            let forward = |x: &[Tensor]| kernels::forward(op, log, &x[0], x[0].shape()[0], cols);
            Ok(window::shaped(&window::piecewise(op, &[&x], (x.dims(), x.dtype()), 1, &forward)?, inputs[0].dims()))
        }
    })?;
    let y = out.clone();
    Ok(record(op, out, &[x], move |dy, _| {
        let dx = along(dim, &[&y, &dy.detach()], |inputs, rows, cols| match y.device().kind() {
            Kind::Cpu(_) => cpu::backward(op, log, &inputs[0], &inputs[1], rows, cols),
            Kind::Gpu(_) => {
                let y = window::rows_of(op, &inputs[0], rows, cols)?;
                let dy = window::rows_of(op, &inputs[1], rows, cols)?;
                let backward = |x: &[Tensor]| kernels::backward(op, log, &x[0], &x[1], x[0].shape()[0], cols);
                let dx = window::piecewise(op, &[&y, &dy], (y.dims(), y.dtype()), 1, &backward)?;
                Ok(window::shaped(&dx, inputs[0].dims()))
            }
        })?;
        Ok(vec![Some(dx)])
    }))
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
