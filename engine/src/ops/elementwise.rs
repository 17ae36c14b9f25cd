//! Elementwise operations, and the making and copying of dense tensors.

use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::kernels::elementwise as kernels;
use crate::layout::Dims;
use crate::{DType, Device, Result, Tensor};

/// A dense tensor of one value.
pub(crate) fn full(op: &'static str, value: f64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    device.expect_dtype(op, dtype)?;
    match device.kind() {
        Kind::Cpu(_) => cpu::full(op, value, shape, dtype, device),
        Kind::Gpu(_) => kernels::full(op, value, shape, dtype, device),
    }
}

/// `start + i * step`, one dimension.
pub(crate) fn arange(
    op: &'static str,
    start: f64,
    step: f64,
    n: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    device.expect_dtype(op, dtype)?;
    let shape = Dims::new(op, &[n])?;
    match device.kind() {
        Kind::Cpu(_) => cpu::arange(op, start, step, shape, dtype, device),
        Kind::Gpu(_) => kernels::arange(op, start, step, shape, dtype, device),
    }
}

/// A dense copy of any view.
pub(crate) fn copy(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let out = match x.device().kind() {
        Kind::Cpu(_) => cpu::copy(op, &x.detach())?,
        Kind::Gpu(_) => kernels::copy(op, &x.detach())?,
    };
    Ok(record(op, out, &[x], |dy, _| Ok(vec![Some(dy.clone())])))
}

pub(crate) fn embed(
    op: &'static str,
    _dy: &Tensor,
    _shape: Dims,
    _dim: usize,
    _start: usize,
    _step: usize,
) -> Result<Tensor> {
    Err(crate::Error::argument(op, "not built yet"))
}
impl Tensor {
    /// soon
    pub fn add(&self, _o: &Tensor) -> Result<Tensor> {
        Err(crate::Error::argument("add", "not built yet"))
    }
    /// soon
    pub fn concat(_o: &[&Tensor], _d: isize) -> Result<Tensor> {
        Err(crate::Error::argument("add", "not built yet"))
    }
}
