//! Kernels of gated linear units, on rows of any float dtype.

use super::{gpu_of, size, spread};
use crate::device::gpu::{Bind, Launch};
use crate::kernels::divisor::Divisor;
use crate::kernels::rows::{Rows, uninit};
use crate::layout::Dims;
use crate::ops::elementwise::Unary;
use crate::{Result, Tensor};

/// `f(gate) * up`.
pub(crate) fn gated(op: &'static str, gate: &Tensor, up: &Tensor, cols: usize, f: Unary) -> Result<Tensor> {
    let shape = gate.dims();
    // As many of the last dimensions as make a row.
    let dims = (1..=shape.len()).find(|&n| shape[shape.len() - n..].iter().product::<usize>() >= cols).unwrap_or(0);
    let y = uninit(op, shape, dims, gate)?;
    let rows = gate.elements() / cols;
    let (gate, up) = (Rows::of(op, gate, cols)?, Rows::of(op, up, cols)?);
    let (gpu, dtype) = (gpu_of(op, &y)?, y.dtype());
    let fours = size(op, rows * cols.div_ceil(4))?;
    let ([workgroup, each], groups) = spread(gpu, fours);
    let by = Divisor::new(size(op, cols.div_ceil(4))?);
    let (a, b) = ((f.a as f32).to_bits(), (f.b as f32).to_bits());
    let (rows, cols) = (size(op, rows)?, size(op, cols)?);
    let params = [rows, cols, gate.offset, gate.stride, up.offset, up.stride, by.magic, by.shift, a, b];
    gpu.run(Launch {
        kernel: "elementwise/gated",
        elems: &[("gate", dtype), ("up", dtype), ("y", dtype)],
        constants: &[
            ("OP", f64::from(f.op as u32)),
            workgroup,
            each,
            ("GATE_ALIGNED", gate.aligned()),
            ("UP_ALIGNED", up.aligned()),
        ],
        bind: &[
            Bind::Read(gate.tensor.gpu_buffer(op)?),
            Bind::Read(up.tensor.gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(y)
}

/// `[rows, 2, cols]`: the gradients of gate and up; that of the gate is number `first` of the two.
pub(crate) fn gated_grad(
    op: &'static str,
    gate: &Tensor,
    up: &Tensor,
    dy: &Tensor,
    cols: usize,
    f: Unary,
    first: usize,
) -> Result<Tensor> {
    let rows = gate.elements() / cols;
    let both = uninit(op, Dims::new(op, &[rows, 2, cols])?, 1, gate)?;
    let (gate, up, dy) = (Rows::of(op, gate, cols)?, Rows::of(op, up, cols)?, Rows::of(op, dy, cols)?);
    let (gpu, dtype) = (gpu_of(op, &both)?, both.dtype());
    let fours = size(op, rows * cols.div_ceil(4))?;
    let ([workgroup, each], groups) = spread(gpu, fours);
    let by = Divisor::new(size(op, cols.div_ceil(4))?);
    let params = [
        size(op, rows)?,
        size(op, cols)?,
        gate.offset,
        gate.stride,
        up.offset,
        up.stride,
        dy.offset,
        dy.stride,
        by.magic,
        by.shift,
        (f.a as f32).to_bits(),
        (f.b as f32).to_bits(),
    ];
    gpu.run(Launch {
        kernel: "elementwise/gated_grad",
        elems: &[("gate", dtype), ("up", dtype), ("dy", dtype), ("both", dtype)],
        constants: &[
            ("OP", f64::from(f.op as u32)),
            ("FIRST", first as f64),
            workgroup,
            each,
            ("GATE_ALIGNED", gate.aligned()),
            ("UP_ALIGNED", up.aligned()),
            ("DY_ALIGNED", dy.aligned()),
        ],
        bind: &[
            Bind::Read(gate.tensor.gpu_buffer(op)?),
            Bind::Read(up.tensor.gpu_buffer(op)?),
            Bind::Read(dy.tensor.gpu_buffer(op)?),
            Bind::Write(both.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(both)
}
