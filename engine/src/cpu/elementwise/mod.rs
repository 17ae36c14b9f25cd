//! Elementwise loops.

mod binary;
mod copy;
mod unary;

pub(crate) use binary::{binary, select};
pub(crate) use copy::{cast, copy, embed};
pub(crate) use unary::{unary, unary_grad, value_of};

use half::{bf16, f16};

use super::parallel::fill;
use crate::layout::Dims;
use crate::profile::begun;
use crate::{DType, Device, Result, Tensor};

pub(crate) fn full(op: &'static str, value: f64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    let n = shape.elements();
    begun();
    match dtype {
        DType::F32 => Tensor::from_cpu(op, vec![value as f32; n], shape, device),
        DType::F16 => Tensor::from_cpu(op, vec![f16::from_f64(value); n], shape, device),
        DType::BF16 => Tensor::from_cpu(op, vec![bf16::from_f64(value); n], shape, device),
        DType::F64 => Tensor::from_cpu(op, vec![value; n], shape, device),
        DType::I32 => Tensor::from_cpu(op, vec![value as i32; n], shape, device),
        DType::U32 => Tensor::from_cpu(op, vec![value as u32; n], shape, device),
        DType::Bool => Tensor::from_cpu(op, vec![value != 0.0; n], shape, device),
    }
}

pub(crate) fn arange(op: &'static str, start: i64, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
    let at = |i: usize| start as f64 + i as f64;
    let n = shape.elements();
    match dtype {
        DType::F32 => Tensor::from_cpu(op, fill(n, |i| at(i) as f32), shape, device),
        DType::F16 => Tensor::from_cpu(op, fill(n, |i| f16::from_f64(at(i))), shape, device),
        DType::BF16 => Tensor::from_cpu(op, fill(n, |i| bf16::from_f64(at(i))), shape, device),
        DType::F64 => Tensor::from_cpu(op, fill(n, at), shape, device),
        DType::I32 => Tensor::from_cpu(op, fill(n, |i| at(i) as i32), shape, device),
        DType::U32 => Tensor::from_cpu(op, fill(n, |i| at(i) as u32), shape, device),
        DType::Bool => Tensor::from_cpu(op, fill(n, |i| at(i) != 0.0), shape, device),
    }
}
