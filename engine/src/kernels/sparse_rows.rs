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
    // Invocations that share a row. On llvmpipe one for each is fastest (8192 rows of 26 weights in 0.35 of the time of eight, 2048 of 205 in
    // 0.8 to 1); elsewhere as many as a row has weights on average, so that none is idle (not measured on a real GPU).
    let (size_of_group, lanes) = match gpu.caps().software {
        true => (8, 1),
        false => (32, 1 << (values.elements() / rows.max(1)).clamp(1, 32).ilog2()),
    };
    let each = size_of_group / lanes;
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
        constants: &[("LANES", lanes as f64), ("ROWS", each as f64), ("TOKENS", at_once as f64)],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(starts.gpu_buffer(op)?),
            Bind::Read(places.gpu_buffer(op)?),
            Bind::Read(values.gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: (rows.div_ceil(each) * tokens.div_ceil(at_once)) as u64,
    };
    gpu.run_counted(launch, 2 * (tokens * values.elements()) as u64)?;
    if x.dtype() == DType::F32 { Ok(y) } else { cast(op, &y, x.dtype()) }
}
