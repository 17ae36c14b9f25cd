//! The kernel of matrices that list few weights a row.

use super::{gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::elementwise::cast;
use crate::{DType, Result, Tensor};

/// `x W^T` for rows of `x`.
pub(crate) fn dot(op: &'static str, x: &Tensor, starts: &Tensor, places: &Tensor, values: &Tensor) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let (tokens, columns, rows) = (x.shape()[0], x.shape()[1], starts.elements() - 1);
    let y = Tensor::gpu_uninit(op, Dims::new(op, &[tokens, rows])?, DType::F32, x.device())?;
    // Rows of x that a workgroup takes, so that lists are read once for them.
    let at_once = [1, 2, 4].into_iter().find(|&n| n >= tokens).unwrap_or(8);
    let offset = |x: &Tensor| size(op, x.layout().offset);
    let params = [
        size(op, tokens)?,
        size(op, rows)?,
        size(op, columns)?,
        offset(x)?,
        offset(starts)?,
        offset(places)?,
        offset(values)?,
    ];
    let launch = Launch {
        kernel: "sparse_rows/dot",
        elems: &[("x", x.dtype()), ("values", values.dtype())],
        constants: &[("LANES", if gpu.caps().software { 8.0 } else { 32.0 }), ("TOKENS", at_once as f64)],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(starts.gpu_buffer(op)?),
            Bind::Read(places.gpu_buffer(op)?),
            Bind::Read(values.gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: (rows * tokens.div_ceil(at_once)) as u64,
    };
    gpu.run_counted(launch, 2 * (tokens * values.elements()) as u64)?;
    if x.dtype() == DType::F32 { Ok(y) } else { cast(op, &y, x.dtype()) }
}
