//! The kernel that says how long keys stay among the best.

use super::{gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::{DType, Result, Tensor};

/// As in the shader.
const WORKGROUP: usize = 64;

/// Of contiguous scores `[rows, cols]`.
pub(crate) fn kept_until(op: &'static str, x: &Tensor, rows: usize, cols: usize, window: usize) -> Result<Tensor> {
    let until = Tensor::gpu_uninit(op, x.dims(), DType::I32, x.device())?;
    let window = size(op, window.min(cols))?;
    gpu_of(op, x)?.run(Launch {
        kernel: "attention/kept_until",
        elems: &[("x", x.dtype())],
        constants: &[],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(until.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, rows)?, size(op, cols)?, window, size(op, x.layout().offset)?]),
        groups: (rows * cols.div_ceil(WORKGROUP)) as u64,
    })?;
    Ok(until)
}
