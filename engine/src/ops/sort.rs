//! Sorting. The order is found without gradients; the values are then gathered, and their gradient is that of the gather.

use crate::cpu::sort as cpu;
use crate::device::Kind;
use crate::kernels::sort as kernels;
use crate::ops::{index, view};
use crate::{DType, Error, Result, Tensor};

/// Indices of the first `k` elements along dimension `d` in order; equal ones stay in order.
fn order(op: &'static str, x: &Tensor, d: usize, k: usize, descending: bool) -> Result<Tensor> {
    let n = x.shape()[d];
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a dtype that can be sorted" });
    }
    if u32::try_from(x.elements()).is_err() {
        return Err(Error::shape(op, format!("{:?} has too many elements to be sorted", x.shape())));
    }
    let last = x.rank() as isize - 1;
    let turned = view::transpose(&x.detach(), d as isize, last)?;
    let mut shape = turned.dims();
    shape[last as usize] = k;
    if shape.elements() == 0 {
        let mut empty = x.dims();
        empty[d] = k;
        return Tensor::zeros(&empty, DType::U32, x.device());
    }
    let rows = view::contiguous(&turned)?;
    let order = match x.device().kind() {
        Kind::Cpu(_) => cpu::order(op, &rows, n, k, descending)?,
        // Of long rows the few that are wanted are found first, and then brought into order.
        Kind::Gpu(_) if n > kernels::TILE && k <= n / 4 => {
            let (keys, places) = kernels::select(op, &rows, n, k, descending)?;
            let (_, within) = kernels::sort_keys(op, &keys, k, k)?;
            index::gather_once(op, &places, 1, &within)?
        }
        Kind::Gpu(_) => kernels::order(op, &rows, n, k, descending)?,
    };
    view::contiguous(&view::transpose(&view::reshape_to(&order, shape)?, d as isize, last)?)
}

fn sorted(op: &'static str, x: &Tensor, d: usize, k: usize, descending: bool) -> Result<(Tensor, Tensor)> {
    let indices = order(op, x, d, k, descending)?;
    Ok((index::gather_once(op, x, d, &indices)?, indices))
}

pub(crate) fn sort(x: &Tensor, dim: isize, descending: bool) -> Result<(Tensor, Tensor)> {
    let op = "sort";
    let d = x.dim(op, dim)?;
    sorted(op, x, d, x.shape()[d], descending)
}

pub(crate) fn argsort(x: &Tensor, dim: isize, descending: bool) -> Result<Tensor> {
    let op = "argsort";
    let d = x.dim(op, dim)?;
    order(op, x, d, x.shape()[d], descending)
}

pub(crate) fn topk(x: &Tensor, k: usize, dim: isize, largest: bool) -> Result<(Tensor, Tensor)> {
    let op = "topk";
    let d = x.dim(op, dim)?;
    let n = x.shape()[d];
    if k > n {
        return Err(Error::argument(op, format!("k is {k}, but dimension {d} has only {n} elements")));
    }
    sorted(op, x, d, k, largest)
}

/// Where the first `k` of each row stand, in ascending order.
pub(crate) fn topk_places(x: &Tensor, k: usize, largest: bool) -> Result<Tensor> {
    let op = "topk_places";
    let d = x.dim(op, -1)?;
    let n = x.shape()[d];
    if k > n {
        return Err(Error::argument(op, format!("k is {k}, but dimension {d} has only {n} elements")));
    }
    if k > 0 && x.device().is_gpu() && x.dtype() != DType::Bool && u32::try_from(x.elements()).is_ok() {
        let mut shape = x.dims();
        shape[d] = k;
        let (_, places) = kernels::select(op, &view::contiguous(&x.detach())?, n, k, largest)?;
        return view::reshape_to(&places, shape);
    }
    let order = order(op, x, d, k, largest)?;
    sort(&order, -1, false).map(|(places, _)| places)
}
