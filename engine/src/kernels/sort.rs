//! Sorting kernels: keys that order as the elements do, tiles sorted by counting, then merges of runs, all stable.

use super::{flag, gpu_of, groups, size, window};
use crate::device::gpu::{Bind, Launch};
use crate::{DType, Dims, Error, Result, Tensor};

/// Keys that are sorted by counting; longer rows are merged from such runs.
pub(crate) const TILE: usize = 256;

/// For each row of `[rows, n]`, the indices of its first `k` elements in order, `[rows, k]`. A row must fit into a binding.
pub(crate) fn order(op: &'static str, x: &Tensor, n: usize, k: usize, descending: bool) -> Result<Tensor> {
    let [order] = by_rows(op, x, n, k, &|x| Ok([sort_keys(op, &keys(op, x, descending)?, n, k)?.1]))?;
    Ok(order)
}

/// For each row of `[rows, n]`, its first `k` keys in order and their places, in ascending order of the places: both `[rows, k]`. `k` is
/// not 0.
pub(crate) fn select(op: &'static str, x: &Tensor, n: usize, k: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    let [picked, places] = by_rows(op, x, n, k, &|x| {
        let (keys, rows) = (keys(op, x, descending)?, x.elements() / n);
        let make = || Tensor::gpu_uninit(op, Dims::new(op, &[rows, k])?, DType::U32, x.device());
        let (picked, places) = (make()?, make()?);
        gpu_of(op, x)?.run(Launch {
            kernel: "sort/select",
            elems: &[],
            constants: &[],
            bind: &[
                Bind::Read(keys.gpu_buffer(op)?),
                Bind::Write(picked.gpu_buffer(op)?),
                Bind::Write(places.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&[size(op, rows)?, size(op, n)?, size(op, k)?]),
            groups: rows as u64,
        })?;
        Ok([picked, places])
    })?;
    Ok((picked, places))
}

/// Results `[rows, k]` of `kernel` on rows of `n`, as many at a time as a binding holds of them and of their keys.
fn by_rows<const N: usize>(
    op: &'static str,
    x: &Tensor,
    n: usize,
    k: usize,
    kernel: &dyn Fn(&Tensor) -> Result<[Tensor; N]>,
) -> Result<[Tensor; N]> {
    let (gpu, rows) = (gpu_of(op, x)?, x.elements() / n);
    let x = window::shaped(op, x, &[rows, n])?;
    let keys = (x.dims(), DType::U32);
    if let Some([x]) = window::windows(gpu, std::slice::from_ref(&x), &[keys]).as_deref() {
        return kernel(x);
    }
    if rows < 2 {
        return Err(window::too_large(op, gpu, &[x], &[keys]));
    }
    let outputs = [(Dims::new(op, &[rows, k])?, DType::U32); N];
    let each = window::length(gpu, rows, DType::U32.gpu_bytes(rows * n));
    let made = window::side_by_side(op, x.device(), &outputs, 0, each, &mut |first, rows| {
        Ok(by_rows(op, &window::slice(&x, 0, first, rows), n, k, kernel)?.into())
    })?;
    made.try_into().map_err(|_| Error::argument(op, "lost a result"))
}

/// A u32 for each element that orders as the elements do.
pub(crate) fn keys(op: &'static str, x: &Tensor, descending: bool) -> Result<Tensor> {
    let keys = Tensor::gpu_uninit(op, x.dims(), DType::U32, x.device())?;
    let kind = match x.dtype() {
        DType::I32 => 1.0,
        DType::U32 => 2.0,
        _ => 0.0,
    };
    gpu_of(op, x)?.run(Launch {
        kernel: "sort/keys",
        elems: &[("x", x.dtype())],
        constants: &[("KIND", kind), ("DESCENDING", flag(descending))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(keys.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, x.elements())?, size(op, x.layout().offset)?]),
        groups: groups(x.elements()),
    })?;
    Ok(keys)
}

/// Sorts rows of `n` u32 keys: the first `k` keys of each row, and their indices. `[rows, n]` gives `[rows, k]`.
pub(crate) fn sort_keys(op: &'static str, keys: &Tensor, n: usize, k: usize) -> Result<(Tensor, Tensor)> {
    let gpu = gpu_of(op, keys)?;
    let count = keys.elements();
    let rows = count.checked_div(n).unwrap_or(0);
    let stride = if n <= TILE { k } else { n };
    let pair = || -> Result<(Tensor, Tensor)> {
        let dims = Dims::new(op, &[rows, stride])?;
        let make = || Tensor::gpu_uninit(op, dims, DType::U32, keys.device());
        Ok((make()?, make()?))
    };
    let mut from = pair()?;
    gpu.run(Launch {
        kernel: "sort/rank",
        elems: &[],
        constants: &[("TILE", TILE as f64)],
        bind: &[
            Bind::Read(keys.gpu_buffer(op)?),
            Bind::Write(from.0.gpu_buffer(op)?),
            Bind::Write(from.1.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[size(op, count)?, size(op, n)?, size(op, stride)?]),
        groups: groups(count),
    })?;
    let mut width = TILE;
    while width < n {
        let to = pair()?;
        gpu.run(Launch {
            kernel: "sort/merge",
            elems: &[],
            constants: &[],
            bind: &[
                Bind::Read(from.0.gpu_buffer(op)?),
                Bind::Read(from.1.gpu_buffer(op)?),
                Bind::Write(to.0.gpu_buffer(op)?),
                Bind::Write(to.1.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&[size(op, count)?, size(op, n)?, size(op, width)?]),
            groups: groups(count),
        })?;
        from = to;
        width *= 2;
    }
    if stride == k {
        return Ok(from);
    }
    Ok((from.0.narrow(1, 0, k)?.contiguous()?, from.1.narrow(1, 0, k)?.contiguous()?))
}
