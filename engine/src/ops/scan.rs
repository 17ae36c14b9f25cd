//! Running sums and products along one dimension.

use crate::autograd::record;
use crate::cpu::scan as cpu;
use crate::device::Kind;
use crate::kernels::scan as kernels;
use crate::ops::rows::{along, dense};
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
    along(dim, &[&x.detach()], dense, |inputs, rows, cols| match x.device().kind() {
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
        let dx = along(dim, &[&saved, &dy.detach()], dense, |inputs, rows, cols| {
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

/// A tensor seen as `[outer, n, inner]`, and how a decaying sum runs along `n`.
#[derive(Clone, Copy)]
pub(crate) struct Decay {
    pub outer: usize,
    pub n: usize,
    pub inner: usize,
    /// The factor of an `outer` is that of `outer % heads`.
    pub heads: usize,
    /// From the end on.
    pub reverse: bool,
}

impl Decay {
    /// Without recording; halves are summed in f32.
    fn run(self, op: &'static str, x: &Tensor, factor: &Tensor) -> Result<Tensor> {
        if x.elements() == 0 {
            return Ok(x.detach());
        }
        let dtype = x.dtype();
        let wide = |x: &Tensor| if dtype.is_half() { x.detach().cast(DType::F32) } else { x.detach().contiguous() };
        let (x, factor) = (wide(x)?, wide(factor)?);
        let out = match x.device().kind() {
            Kind::Cpu(_) => cpu::decay(op, &x, &factor, self)?,
            Kind::Gpu(_) => kernels::decay(op, &x, &factor, self)?,
        };
        if dtype.is_half() { out.cast(dtype) } else { Ok(out) }
    }
}

/// See [`Tensor::decaying_sum`].
pub(crate) fn decaying_sum(x: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let op = "decaying_sum";
    x.expect_float(op)?;
    x.expect_like(op, factor)?;
    let &[batch, heads, n, ..] = x.shape() else {
        return Err(Error::shape(op, format!("expected [batch, heads, n, ..], got shape {:?}", x.shape())));
    };
    if factor.shape() != [heads] {
        return Err(Error::shape(
            op,
            format!("factors of shape {:?}, expected one for each of {heads} heads", factor.shape()),
        ));
    }
    let plan = Decay { outer: batch * heads, n, inner: x.shape()[3..].iter().product(), heads, reverse: false };
    let out = plan.run(op, x, factor)?;
    let (y, factor_saved) = (out.clone(), factor.detach());
    Ok(record(op, out, &[x, factor], move |dy, needs| {
        let dx = Decay { reverse: true, ..plan }.run(op, dy, &factor_saved)?;
        let dfactor = match needs[1] {
            false => None,
            true if n < 2 => Some(factor_saved.zeros_like()?),
            true => {
                // y_c holds factor * y_(c-1).
                let each = dx.narrow(2, 1, n - 1)?.mul(&y.narrow(2, 0, n - 1)?)?;
                let others: Vec<isize> = (0..each.rank() as isize).filter(|&d| d != 1).collect();
                Some(each.sum(&others, false)?)
            }
        };
        Ok(vec![Some(dx), dfactor])
    }))
}
