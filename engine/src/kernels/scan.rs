//! Scan kernels, for rows.

use super::reduce::{Axis, Fold, Spread, fold_any};
use super::{WORKGROUP, flag, gpu_of, groups, size, window};
use crate::device::gpu::{Bind, Launch};
use crate::ops::elementwise::{Binary, binary};
use crate::ops::join;
use crate::ops::scan::{Decay, Scan};
use crate::{DType, Error, Result, Tensor};

/// Of dense rows. Where a binding does not hold a row, its parts are scanned, each from where the one before ended.
pub(crate) fn scan(op: &'static str, x: &Tensor, rows: usize, cols: usize, how: Scan) -> Result<Tensor> {
    let flat = window::shaped(op, x, &[rows, cols])?;
    let (gpu, dtype) = (gpu_of(op, x)?, x.dtype());
    let row = dtype.gpu_bytes(cols);
    let out = if row <= gpu.caps().max_binding_bytes {
        window::piecewise(op, &[&flat], (flat.dims(), dtype), 1, &|x| scan_part(op, &x[0], cols, how))?
    } else {
        let each = window::length(gpu, cols, row);
        let mut parts: Vec<(usize, usize)> = (0..cols).step_by(each).map(|at| (at, each.min(cols - at))).collect();
        if how.reverse {
            parts.reverse();
        }
        let (function, fold) = if how.product { (Binary::Mul, Fold::Prod) } else { (Binary::Add, Fold::Sum) };
        let (mut made, mut before) = (Vec::new(), None);
        for (at, n) in parts {
            let part = window::slice(&flat, 1, at, n).contiguous()?;
            let mut y = scan(op, &part, rows, n, how)?;
            let total = fold_any(op, fold, &part, Axis { outer: rows, n, inner: 1 }, 1.0)?;
            let total = window::shaped(op, &total, &[rows, 1])?;
            (y, before) = match &before {
                Some(before) => (binary(op, &y, before, function)?, Some(binary(op, before, &total, function)?)),
                None => (y, Some(total)),
            };
            made.push(y);
        }
        if how.reverse {
            made.reverse();
        }
        join::concat(op, &made.iter().collect::<Vec<_>>(), 1)?
    };
    window::shaped(op, &out, x.shape())
}

fn scan_part(op: &'static str, x: &Tensor, cols: usize, scan: Scan) -> Result<Tensor> {
    let rows = x.shape()[0];
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
    let shape = x.dims();
    let [x, y, dy] = [x, y, dy].map(|x| window::shaped(op, x, &[rows, cols]));
    let (x, y, dy) = (x?, y?, dy?);
    let dx = window::piecewise(op, &[&x, &y, &dy], (x.dims(), DType::F32), 1, &|part| match part {
        [x, y, dy] => product_backward_part(op, x, y, dy, cols),
        _ => Err(Error::argument(op, "lost an input")),
    })?;
    window::shaped(op, &dx, &shape)
}

fn product_backward_part(op: &'static str, x: &Tensor, y: &Tensor, dy: &Tensor, cols: usize) -> Result<Tensor> {
    let (gpu, rows) = (gpu_of(op, x)?, x.shape()[0]);
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
    let Decay { outer, n, inner, heads, .. } = plan;
    let blocks = window::shaped(op, x, &[outer / heads, heads, n * inner])?;
    let factors = factor.expand(&[outer / heads, heads])?;
    let y = window::piecewise(op, &[&blocks, &factors], (blocks.dims(), x.dtype()), 2, &|part| match part {
        [x, factor] => {
            let heads = x.shape()[1];
            decay_part(op, x, factor, Decay { outer: x.shape()[0] * heads, heads, ..plan })
        }
        _ => Err(Error::argument(op, "lost an input")),
    })?;
    window::shaped(op, &y, x.shape())
}

fn decay_part(op: &'static str, x: &Tensor, factor: &Tensor, plan: Decay) -> Result<Tensor> {
    // Pieces of several batches have some of the heads of each.
    let x = &x.contiguous()?;
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
