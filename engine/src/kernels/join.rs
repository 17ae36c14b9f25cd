//! Joining kernels.

use super::divisor::Divisor;
use super::{bits, flag, gpu_of, size, spread, window};
use crate::device::gpu::{Bind, Launch};
use crate::{Dims, Error, Result, Tensor};

/// Parts that one launch joins: the browser's 8 bindings without the one that is written.
const PARTS: usize = 7;
const NAMES: [&str; PARTS] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6"];

/// Joins contiguous parts seen as `[outer, width of the part]` to `[outer, sum of the widths]`. More than seven parts are joined
/// in several rounds. Rows longer than a binding are copied part by part.
pub(crate) fn concat(
    op: &'static str,
    parts: &[Tensor],
    widths: &[usize],
    outer: usize,
    shape: Dims,
) -> Result<Tensor> {
    if parts.len() > PARTS {
        let mut wider = Vec::new();
        let mut sums = Vec::new();
        for (parts, widths) in parts.chunks(PARTS).zip(widths.chunks(PARTS)) {
            let width = widths.iter().sum();
            wider.push(concat(op, parts, widths, outer, Dims::new(op, &[outer, width])?)?);
            sums.push(width);
        }
        return concat(op, &wider, &sums, outer, shape);
    }
    let first = parts.first().ok_or_else(|| Error::argument(op, "needs at least one tensor"))?;
    let (dtype, total) = (first.dtype(), widths.iter().sum());
    let view = |(part, &width): (&Tensor, &usize)| window::shaped(op, part, &[outer, width]);
    let parts: Vec<Tensor> = parts.iter().zip(widths).map(view).collect::<Result<_>>()?;
    let rows = Dims::new(op, &[outer, total])?;
    let out = if dtype.gpu_bytes(total) <= gpu_of(op, first)?.caps().max_binding_bytes {
        window::piecewise(op, &parts.iter().collect::<Vec<_>>(), (rows, dtype), 1, &|x| join(op, x, widths, total))?
    } else {
        let whole = Tensor::gpu_uninit(op, rows, dtype, first.device())?;
        let mut at = 0;
        for (row, part) in (0..outer).flat_map(|row| parts.iter().map(move |part| (row, part))) {
            window::place(op, &window::slice(part, 0, row, 1), &whole, at)?;
            at += part.shape()[1];
        }
        whole
    };
    window::shaped(op, &out, &shape)
}

fn join(op: &'static str, parts: &[Tensor], widths: &[usize], total: usize) -> Result<Tensor> {
    let first = parts.first().ok_or_else(|| Error::argument(op, "needs at least one tensor"))?;
    let shape = Dims::new(op, &[first.shape()[0], total])?;
    let out = Tensor::gpu_uninit(op, shape, first.dtype(), first.device())?;
    let mut bind = Vec::with_capacity(PARTS + 1);
    let (mut ends, mut offsets) = ([0u32; 8], [0u32; 8]);
    let mut end = 0;
    for k in 0..PARTS {
        let part = parts.get(k).unwrap_or(first);
        bind.push(Bind::Read(part.gpu_buffer(op)?));
        end += widths.get(k).copied().unwrap_or(0);
        ends[k] = size(op, end)?;
        offsets[k] = size(op, part.layout().offset)?;
    }
    bind.push(Bind::Write(out.gpu_buffer(op)?));
    let (count, by) = (size(op, out.elements())?, Divisor::new(ends[PARTS - 1]));
    let params = [&ends[..], &offsets, &[count, ends[PARTS - 1], by.magic, by.shift]].concat();
    let aligned = ends.iter().chain(&offsets).all(|n| n.is_multiple_of(4));
    let elem = bits(first.dtype());
    let mut elems = NAMES.map(|name| (name, elem)).to_vec();
    elems.push(("y", elem));
    let gpu = gpu_of(op, first)?;
    let ([workgroup, fours], groups) = spread(gpu, count.div_ceil(4));
    gpu.run(Launch {
        kernel: "join/concat",
        elems: &elems,
        constants: &[("ALIGNED", flag(aligned)), workgroup, fours],
        bind: &bind,
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(out)
}
