//! Norm kernels, for rows of f32.

use super::reduce::{self, Axis, Fold, Spread};
use super::{flag, gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::norm::Rows;
use crate::{DType, Result, Tensor};

pub(crate) fn forward(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    plan: Rows,
) -> Result<(Tensor, Tensor)> {
    let gpu = gpu_of(op, x)?;
    let Rows { rows, cols, eps, rms } = plan;
    let y = Tensor::gpu_uninit(op, x.dims(), DType::F32, x.device())?;
    let stats = Tensor::gpu_uninit(op, Dims::new(op, &[rows, 2])?, DType::F32, x.device())?;
    // Something must be bound for a parameter that is absent; it is not read.
    let (some_gain, some_bias) = (gain.unwrap_or(x), bias.unwrap_or(x));
    size(op, rows * cols)?;
    let params = [
        size(op, rows)?,
        size(op, cols)?,
        size(op, x.layout().offset)?,
        size(op, some_gain.layout().offset)?,
        size(op, some_bias.layout().offset)?,
        (eps as f32).to_bits(),
    ];
    let spread = Spread::of_rows(gpu, cols);
    let [workgroup, lanes] = spread.constants();
    let has = [("HAS_GAIN", flag(gain.is_some())), ("HAS_BIAS", flag(bias.is_some()))];
    gpu.run(Launch {
        kernel: "norm/forward",
        elems: &[],
        constants: &[workgroup, lanes, ("RMS", flag(rms)), has[0], has[1]],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(some_gain.gpu_buffer(op)?),
            Bind::Read(some_bias.gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
            Bind::Write(stats.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(rows),
    })?;
    Ok((y, stats))
}

pub(crate) fn backward(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    dy: &Tensor,
    stats: &Tensor,
    plan: Rows,
) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Rows { rows, cols, rms, .. } = plan;
    let dx = Tensor::gpu_uninit(op, x.dims(), DType::F32, x.device())?;
    let some_gain = gain.unwrap_or(x);
    let params = [
        size(op, rows)?,
        size(op, cols)?,
        size(op, x.layout().offset)?,
        size(op, some_gain.layout().offset)?,
        size(op, dy.layout().offset)?,
    ];
    let spread = Spread::of_rows(gpu, cols);
    let [workgroup, lanes] = spread.constants();
    gpu.run(Launch {
        kernel: "norm/backward",
        elems: &[],
        constants: &[workgroup, lanes, ("RMS", flag(rms)), ("HAS_GAIN", flag(gain.is_some()))],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(some_gain.gpu_buffer(op)?),
            Bind::Read(dy.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Write(dx.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(rows),
    })?;
    Ok(dx)
}

/// The gradients of gain and bias, `[2, cols]`: parts of the rows first, then the sum of the parts.
pub(crate) fn parameters(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Rows) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Rows { rows, cols, .. } = plan;
    let spread = Spread::of_columns(gpu);
    let chunk = rows.div_ceil(spread.splits(gpu, cols, rows));
    let splits = rows.div_ceil(chunk);
    let parts = Tensor::gpu_uninit(op, Dims::new(op, &[2, splits, cols])?, DType::F32, x.device())?;
    let params = [
        size(op, rows)?,
        size(op, cols)?,
        size(op, x.layout().offset)?,
        size(op, dy.layout().offset)?,
        size(op, splits)?,
        size(op, chunk)?,
    ];
    gpu.run(Launch {
        kernel: "norm/parameters",
        elems: &[],
        constants: &[("WORKGROUP", spread.workgroup as f64)],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(dy.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Write(parts.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(splits * cols),
    })?;
    reduce::fold(op, Fold::Sum, &parts, Axis { outer: 2, n: splits, inner: cols }, 1.0)
}
