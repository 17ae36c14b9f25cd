//! Kernels of packed 2:4 matrices. All matrices have whole blocks of columns, are dense, and begin with a whole four.

use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch, Operand};
use crate::layout::Dims;
use crate::ops::elementwise::cast;
use crate::sparse24::BLOCK;
use crate::{DType, Result, Tensor};

/// Fours of values of a word of positions; a four goes with eight columns.
const UNITS: usize = 4;

/// The values at the positions.
pub(crate) fn gather(op: &'static str, dense: &Tensor, meta: &Tensor) -> Result<Tensor> {
    move_units(op, "sparse24/gather", ("dense", dense), meta, ("values", BLOCK / 2))
}

/// The dense matrix.
pub(crate) fn expand(op: &'static str, values: &Tensor, meta: &Tensor) -> Result<Tensor> {
    move_units(op, "sparse24/expand", ("values", values), meta, ("dense", BLOCK))
}

/// Kernels whose invocations have a four of values each.
fn move_units(
    op: &'static str,
    kernel: &'static str,
    (from, x): (&'static str, &Tensor),
    meta: &Tensor,
    (to, width): (&'static str, usize),
) -> Result<Tensor> {
    let shape = Dims::new(op, &[meta.shape()[0], meta.shape()[1] * width])?;
    let out = Tensor::gpu_uninit(op, shape, x.dtype(), x.device())?;
    let units = UNITS * meta.elements();
    let params = [size(op, units)?, size(op, x.layout().offset / 4)?, size(op, meta.layout().offset)?];
    gpu_of(op, x)?.run(Launch {
        kernel,
        elems: &[(from, x.dtype()), (to, x.dtype())],
        constants: &[],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Read(meta.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(units),
    })?;
    Ok(out)
}

/// `x W^T + bias` for few rows of `x`.
pub(crate) fn dot(
    op: &'static str,
    x: &Tensor,
    values: &Tensor,
    meta: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let (tokens, rows, blocks) = (x.shape()[0], meta.shape()[0], meta.shape()[1]);
    let dtype = x.dtype();
    // How many results are stored at once; halves that do not fall into pairs are packed by a second pass.
    let (store, stored) = match rows % 4 {
        0 => (4, dtype),
        2 => (2, dtype),
        _ => (1, DType::F32),
    };
    let y = Tensor::gpu_uninit(op, Dims::new(op, &[tokens, rows])?, stored, x.device())?;
    // Rows of x that a workgroup takes, so that the packed matrix is read once for them.
    let at_once = [1, 2, 4].into_iter().find(|&n| n >= tokens).unwrap_or(8);
    let (lanes, units) = if gpu.caps().software { (8, UNITS) } else { (64, 1) };
    // What is absent still needs a buffer.
    let first = x.gpu_buffer(op)?;
    let (of_bias, bound) = match bias {
        Some(bias) => (bias.dtype(), bias.gpu_buffer(op)?),
        None => (dtype, Operand::new(&first, 0)),
    };
    let offset = |x: &Tensor| x.layout().offset;
    let params = [
        size(op, tokens)?,
        size(op, rows)?,
        size(op, blocks)?,
        size(op, offset(x) / 4)?,
        size(op, offset(values) / 4)?,
        size(op, offset(meta))?,
        size(op, bias.map_or(0, offset))?,
    ];
    let launch = Launch {
        kernel: "sparse24/dot",
        elems: &[("x", dtype), ("values", values.dtype()), ("bias", of_bias), ("y", stored)],
        constants: &[
            ("LANES", f64::from(lanes)),
            ("UNITS", units as f64),
            ("TOKENS", at_once as f64),
            ("STORE", f64::from(store)),
            ("HAS_BIAS", flag(bias.is_some())),
        ],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(values.gpu_buffer(op)?),
            Bind::Read(meta.gpu_buffer(op)?),
            Bind::Read(bound),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: (rows.div_ceil(4) * tokens.div_ceil(at_once)) as u64,
    };
    gpu.run_counted(launch, 2 * (tokens * values.elements()) as u64)?;
    if stored == dtype { Ok(y) } else { cast(op, &y, dtype) }
}

/// The gradient of the values, for few rows of `x` and `dy`.
pub(crate) fn sampled(op: &'static str, x: &Tensor, dy: &Tensor, meta: &Tensor) -> Result<Tensor> {
    let (rows, blocks) = (meta.shape()[0], meta.shape()[1]);
    let out = Tensor::gpu_uninit(op, Dims::new(op, &[rows, blocks * BLOCK / 2])?, x.dtype(), x.device())?;
    let params = [
        size(op, x.shape()[0])?,
        size(op, rows)?,
        size(op, blocks)?,
        size(op, x.layout().offset / 4)?,
        size(op, dy.layout().offset)?,
        size(op, meta.layout().offset)?,
    ];
    let launch = Launch {
        kernel: "sparse24/sampled",
        elems: &[("x", x.dtype()), ("dy", dy.dtype()), ("d_values", x.dtype())],
        constants: &[],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(dy.gpu_buffer(op)?),
            Bind::Read(meta.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: groups(rows.div_ceil(4) * blocks * UNITS),
    };
    gpu_of(op, x)?.run_counted(launch, 2 * (x.shape()[0] * out.elements()) as u64)?;
    Ok(out)
}
