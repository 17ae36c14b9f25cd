//! Which keys stay among the best, as queries pass by.

use crate::cpu::kept_until as cpu;
use crate::device::Kind;
use crate::kernels::kept_until as kernels;
use crate::{DType, Error, Result, Tensor};

/// See [`Tensor::kept_until`].
pub(crate) fn kept_until(x: &Tensor, window: usize) -> Result<Tensor> {
    let op = "kept_until";
    x.expect_float(op)?;
    let Some(&cols) = x.shape().last() else {
        return Err(Error::shape(op, "a scalar, expected scores [.., keys]"));
    };
    if i32::try_from(cols).is_err() {
        return Err(Error::shape(op, format!("{cols} keys, at most 2^31 - 1 can be counted")));
    }
    if x.elements() == 0 {
        return Tensor::zeros(x.shape(), DType::I32, x.device());
    }
    let x = x.detach().contiguous()?;
    let rows = x.elements() / cols;
    match x.device().kind() {
        Kind::Cpu(_) => cpu::kept_until(op, &x, rows, cols, window),
        Kind::Gpu(_) => kernels::kept_until(op, &x, rows, cols, window),
    }
}
