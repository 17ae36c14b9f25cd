//! Softmax kernels, for rows of f32.

use super::reduce::Spread;
use super::{flag, gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::{Result, Tensor};

pub(crate) fn forward(op: &'static str, log: bool, x: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let y = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let spread = Spread::of_rows(gpu, cols);
    let [workgroup, lanes] = spread.constants();
    size(op, rows * cols)?;
    gpu.run(Launch {
        kernel: "softmax/forward",
        elems: &[],
        constants: &[workgroup, lanes, ("LOG", flag(log))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(y.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, rows)?, size(op, cols)?, size(op, x.layout().offset)?]),
        groups: spread.groups(rows),
    })?;
    Ok(y)
}

pub(crate) fn backward(
    op: &'static str,
    log: bool,
    y: &Tensor,
    dy: &Tensor,
    rows: usize,
    cols: usize,
) -> Result<Tensor> {
    let gpu = gpu_of(op, y)?;
    let dx = Tensor::gpu_uninit(op, y.dims(), y.dtype(), y.device())?;
    let spread = Spread::of_rows(gpu, cols);
    let [workgroup, lanes] = spread.constants();
    let params = [size(op, rows)?, size(op, cols)?, size(op, y.layout().offset)?, size(op, dy.layout().offset)?];
    gpu.run(Launch {
        kernel: "softmax/backward",
        elems: &[],
        constants: &[workgroup, lanes, ("LOG", flag(log))],
        bind: &[Bind::Read(y.gpu_buffer(op)?), Bind::Read(dy.gpu_buffer(op)?), Bind::Write(dx.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(rows),
    })?;
    Ok(dx)
}
