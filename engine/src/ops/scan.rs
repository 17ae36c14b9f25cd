//! Running sums and products along one dimension.

use crate::autograd::record;
use crate::cpu::scan as cpu;
use crate::device::Kind;
use crate::kernels::scan as kernels;
use crate::ops::rows::along;
use crate::{DType, Error, Result, Tensor};

/// Which scan of rows.
#[derive(Clone, Copy)]
pub(crate) struct Scan {
    /// Products instead of sums.
    pub product: bool,
    /// Up to but without the element itself.
    pub exclusive: bool,
    /// From the end on.
    pub reverse: bool,
}

impl Scan {
    fn inclusive(product: bool) -> Self {
        Scan { product, exclusive: false, reverse: false }
    }
}

fn checked(op: &'static str, x: &Tensor, dim: isize) -> Result<usize> {
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a float or integer dtype (use cast)" });
    }
    x.dim(op, dim)
}

/// A scan along `dim`, without recording.
pub(crate) fn run(op: &'static str, x: &Tensor, dim: usize, scan: Scan) -> Result<Tensor> {
    if x.elements() == 0 {
        return Ok(x.detach());
    }
    along(dim, &[&x.detach()], |inputs, rows, cols| match x.device().kind() {
        Kind::Cpu(_) => cpu::scan(op, &inputs[0], rows, cols, scan),
        Kind::Gpu(_) => kernels::scan(op, &inputs[0], rows, cols, scan),
    })
}

pub(crate) fn cumsum(x: &Tensor, dim: isize) -> Result<Tensor> {
    let op = "cumsum";
    let dim = checked(op, x, dim)?;
    let out = run(op, x, dim, Scan::inclusive(false))?;
    Ok(record(op, out, &[x], move |dy, _| {
        Ok(vec![Some(run(op, dy, dim, Scan { reverse: true, ..Scan::inclusive(false) })?)])
    }))
}

pub(crate) fn cumprod(x: &Tensor, dim: isize) -> Result<Tensor> {
    let op = "cumprod";
    let dim = checked(op, x, dim)?;
    let out = run(op, x, dim, Scan::inclusive(true))?;
    let saved = x.detach();
    Ok(record(op, out, &[x], move |dy, _| {
        if saved.elements() == 0 {
            return Ok(vec![Some(dy.clone())]);
        }
        // The result is made again: of halves the rounded one would not do.
        let dx = along(dim, &[&saved, &dy.detach()], |inputs, rows, cols| {
            let (x, dy) = (&inputs[0], &inputs[1]);
            match x.device().kind() {
                Kind::Cpu(_) => cpu::product_backward(op, x, dy, rows, cols),
                Kind::Gpu(_) => {
                    let y = kernels::scan(op, x, rows, cols, Scan::inclusive(true))?;
                    kernels::product_backward(op, x, &y, dy, rows, cols)
                }
            }
        })?;
        Ok(vec![Some(dx)])
    }))
}
