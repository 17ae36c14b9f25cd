//! Elementwise operations, and the making and copying of dense tensors.

mod activation;
mod binary;
mod copy;
mod gated;
mod select;
mod unary;

pub use activation::Activation;
pub(crate) use binary::{Binary, binary, logical_not};
pub(crate) use copy::{Place, cast, copy, embed};
pub use gated::reference as gated_reference;
pub(crate) use gated::{gated, glu};
pub(crate) use select::{Triangle, masked_fill, triangle, where_cond};
pub(crate) use unary::{Op, Unary, abs, affine, clamp, neg, pow_scalar, unary, unary_grad};

use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::kernels::elementwise as kernels;
use crate::kernels::window::flat;
use crate::layout::Dims;
use crate::{DType, Device, Result, Tensor};

/// A dense tensor of one value.
pub(crate) fn full(op: &'static str, value: f64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    device.expect_room(op, shape.elements(), dtype)?;
    match device.kind() {
        Kind::Cpu(_) => cpu::full(op, value, shape, dtype, device),
        Kind::Gpu(_) => kernels::full(op, value, shape, dtype, device),
    }
}

/// `start + i`, one dimension.
pub(crate) fn arange(op: &'static str, start: i64, n: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    device.expect_room(op, n, dtype)?;
    let shape = Dims::new(op, &[n])?;
    match device.kind() {
        Kind::Cpu(_) => cpu::arange(op, start, shape, dtype, device),
        Kind::Gpu(_) => flat(op, device, (shape, dtype), &[], &mut |first, count, _| {
            kernels::arange(op, start.saturating_add(first as i64), Dims::new(op, &[count])?, dtype, device)
        }),
    }
}
