//! Scan kernels, for rows.

use super::reduce::Spread;
use super::{WORKGROUP, flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch};
use crate::ops::scan::{Decay, Scan};
use crate::{DType, Result, Tensor};

pub(crate) fn scan(op: &'static str, x: &Tensor, rows: usize, cols: usize, scan: Scan) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let y = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let spread = Spread::of_rows(gpu, cols);
    let [workgroup, lanes] = spread.constants();
    size(op, rows * cols)?;
    let flags = [("PRODUCT", flag(scan.product)), ("EXCLUSIVE", flag(scan.exclusive)), ("REVERSE", flag(scan.reverse))];
    gpu.run(Launch {
        kernel: "scan/scan",
        elems: &[("x", x.dtype()), ("y", y.dtype())],
        constants: &[workgroup, lanes, flags[0], flags[1], flags[2]],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(y.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, rows)?, size(op, cols)?, size(op, x.layout().offset)?]),
        groups: spread.groups(rows),
    })?;
    Ok(y)
}

pub(crate) fn product_backward(
    op: &'static str,
    x: &Tensor,
    y: &Tensor,
    dy: &Tensor,
    rows: usize,
    cols: usize,
) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let dx = Tensor::gpu_uninit(op, x.dims(), DType::F32, x.device())?;
    let params = [
        size(op, rows)?,
        size(op, cols)?,
        size(op, x.layout().offset)?,
        size(op, y.layout().offset)?,
        size(op, dy.layout().offset)?,
    ];
    gpu.run(Launch {
        kernel: "scan/product_backward",
        elems: &[],
        constants: &[("WORKGROUP", WORKGROUP as f64)],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(y.gpu_buffer(op)?),
            Bind::Read(dy.gpu_buffer(op)?),
            Bind::Write(dx.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: groups(rows),
    })?;
    Ok(dx)
}

/// `y[o, c, i] = x[o, c, i] + factor[o % heads] y[o, c -+ 1, i]` of a dense `x` seen as [outer, n, inner].
pub(crate) fn decay(op: &'static str, x: &Tensor, factor: &Tensor, plan: Decay) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let y = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let Decay { outer, n, inner, heads, reverse } = plan;
    size(op, x.elements())?;
    let params = [outer, n, inner, heads, x.layout().offset, factor.layout().offset];
    let params = params.map(|n| size(op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
    gpu.run(Launch {
        kernel: "scan/decay",
        elems: &[],
        constants: &[("WORKGROUP", WORKGROUP as f64), ("REVERSE", flag(reverse))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Read(factor.gpu_buffer(op)?), Bind::Write(y.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(outer * inner),
    })?;
    Ok(y)
}
