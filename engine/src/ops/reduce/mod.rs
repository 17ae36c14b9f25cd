//! Reductions over any dimensions: the folds (sum, mean, product, extremes, any, all). Their relatives are in
//! [`arg`] (indices) and [`moments`] (variance, norms, logsumexp).

pub(crate) mod arg;
pub(crate) mod moments;

use crate::autograd::{record, record_without_backward};
use crate::cpu::reduce as cpu;
use crate::device::Kind;
use crate::kernels::reduce as kernels;
use crate::kernels::reduce::{Axis, Fold};
use crate::layout::{Dims, Layout};
use crate::ops::rows::{narrowed, wide};
use crate::ops::{elementwise, scan, view};
use crate::{DType, Error, Result, Tensor};

/// Shapes of one reduction.
#[derive(Clone)]
pub(super) struct Plan {
    /// The reduced dimensions, ascending.
    pub dims: Vec<usize>,
    /// Elements that go into one result.
    pub n: usize,
    /// The shape of the result with sizes of 1 for the reduced dimensions.
    pub kept: Dims,
    /// The shape of the result.
    pub out: Dims,
}

impl Plan {
    pub fn new(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Self> {
        Self::resolved(op, x, x.dims_of(op, dims)?, keepdim)
    }

    pub fn resolved(op: &'static str, x: &Tensor, dims: Vec<usize>, keepdim: bool) -> Result<Self> {
        let mut kept = x.dims();
        let mut n = 1;
        for &d in &dims {
            n *= kept[d];
            kept[d] = 1;
        }
        let left: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).map(|d| kept[d]).collect();
        let out = if keepdim { kept } else { Dims::new(op, &left)? };
        Ok(Plan { dims, n, kept, out })
    }

    /// Errs if there is nothing to choose from.
    pub fn expect_elements(&self, op: &'static str, x: &Tensor) -> Result<()> {
        if self.n == 0 && self.out.elements() > 0 {
            let shape = x.shape();
            return Err(Error::shape(op, format!("dimensions {:?} of shape {shape:?} hold no elements", self.dims)));
        }
        Ok(())
    }
}

/// A tensor of the result's shape as a view of the shape of the input.
pub(super) fn spread(y: &Tensor, plan: &Plan, shape: Dims) -> Result<Tensor> {
    view::expand(&view::reshape_to(y, plan.kept)?, &shape)
}

/// Folds the dimensions of `plan`, without recording. Halves are read as they are and folded in f32.
pub(super) fn fold(op: &'static str, fold: Fold, x: &Tensor, plan: &Plan, scale: f64) -> Result<Tensor> {
    let x = x.detach();
    let (device, dtype) = (x.device(), x.dtype());
    if plan.n == 0 || x.elements() == 0 {
        let empty = if fold == Fold::Prod { 1.0 } else { 0.0 };
        return elementwise::full(op, empty, plan.out, dtype, device);
    }
    let on_cpu = matches!(device.kind(), Kind::Cpu(_));
    let mut y = if on_cpu && dtype.is_half() { x.cast(DType::F32)? } else { x.clone() };
    let runs = runs(x.dims(), &plan.dims);
    let mut fold = fold;
    let mut shape = x.dims();
    for (i, &(first, last)) in runs.iter().enumerate() {
        let axis = Axis {
            outer: shape[..first].iter().product(),
            n: shape[first..last].iter().product(),
            inner: shape[last..].iter().product(),
        };
        let scale = if i + 1 == runs.len() { scale } else { 1.0 };
        let dense = view::contiguous(&y)?;
        y = match device.kind() {
            Kind::Cpu(_) => cpu::fold(op, fold, &dense, axis, scale)?,
            Kind::Gpu(_) => kernels::fold_any(op, fold, &dense, axis, scale)?,
        };
        shape[first..last].fill(1);
        y = y.with_layout(Layout::row_major(shape));
        fold = fold.rest();
    }
    y.with_layout(Layout::row_major(plan.out)).cast(dtype)
}

/// Neighbouring reduced dimensions as ranges, from the last to the first; at least one, if only an empty one.
fn runs(shape: Dims, dims: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &d in dims.iter().rev().filter(|&&d| shape[d] != 1) {
        match runs.last_mut() {
            Some((first, _)) if (d + 1..*first).all(|between| shape[between] == 1) => *first = d,
            _ => runs.push((d, d + 1)),
        }
    }
    if runs.is_empty() {
        runs.push((shape.len(), shape.len()));
    }
    runs
}

pub(crate) fn sum(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a float or integer dtype (use cast)" });
    }
    summed(op, x, Plan::new(op, x, dims, keepdim)?, 1.0)
}

pub(crate) fn mean(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_float(op)?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    plan.expect_elements(op, x)?;
    let scale = 1.0 / plan.n.max(1) as f64;
    summed(op, x, plan, scale)
}

fn summed(op: &'static str, x: &Tensor, plan: Plan, scale: f64) -> Result<Tensor> {
    let out = fold(op, Fold::Sum, x, &plan, scale)?;
    let shape = x.dims();
    Ok(record(op, out, &[x], move |dy, _| {
        let dy = if scale == 1.0 { dy.clone() } else { dy.mul_scalar(scale)? };
        Ok(vec![Some(spread(&dy, &plan, shape)?)])
    }))
}

/// Undoes broadcasting: sums over the dimensions that broadcasting from `shape` would repeat.
pub(crate) fn sum_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let op = "sum_to";
    if x.shape() == shape {
        return Ok(x.clone());
    }
    let target = Dims::new(op, shape)?;
    let (from, to) = (x.dims(), target.len());
    let refuse = || Error::shape(op, format!("shape {shape:?} does not broadcast to {from:?}"));
    let lead = from.len().checked_sub(to).ok_or_else(refuse)?;
    if (0..to).any(|i| target[i] != 1 && target[i] != from[lead + i]) {
        return Err(refuse());
    }
    let dims = (0..from.len()).filter(|&d| d < lead || target[d - lead] != from[d]).collect();
    let plan = Plan { out: target, ..Plan::resolved(op, x, dims, true)? };
    summed(op, x, plan, 1.0)
}

/// The largest (or smallest) elements. Equal ones share the gradient equally.
pub(crate) fn extreme(op: &'static str, which: Fold, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a float or integer dtype (use any or all)" });
    }
    let plan = Plan::new(op, x, dims, keepdim)?;
    plan.expect_elements(op, x)?;
    let out = fold(op, which, x, &plan, 1.0)?;
    let (saved, best) = (x.detach(), out.clone());
    Ok(record(op, out, &[x], move |dy, _| {
        let chosen = saved.eq(&spread(&best, &plan, saved.dims())?)?.cast(dy.dtype())?;
        let count = view::reshape_to(&fold(op, Fold::Sum, &chosen, &plan, 1.0)?, dy.dims())?;
        Ok(vec![Some(chosen.mul(&spread(&dy.div(&count)?, &plan, saved.dims())?)?)])
    }))
}

pub(crate) fn prod(op: &'static str, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        return Err(Error::DType { op, got: x.dtype(), expected: "a float or integer dtype (use all)" });
    }
    let plan = Plan::new(op, x, dims, keepdim)?;
    let out = fold(op, Fold::Prod, x, &plan, 1.0)?;
    let (saved, dtype) = (x.detach(), x.dtype());
    Ok(record(op, out, &[x], move |dy, _| {
        // The product of all others, without division: of those before, times of those behind.
        let (saved, dy) = (wide(&saved)?, wide(dy)?);
        let shape = saved.dims();
        let (rows, back) = rows_of(op, &saved, &plan)?;
        let before = scan::run(op, &rows, 1, scan::Scan { product: true, exclusive: true, reverse: false })?;
        let behind = scan::run(op, &rows, 1, scan::Scan { product: true, exclusive: true, reverse: true })?;
        let others = back.restore(&before.mul(&behind)?)?;
        Ok(vec![Some(narrowed(&others.mul(&spread(&dy, &plan, shape)?)?, dtype)?)])
    }))
}

/// Whether any (or all) of some truth values hold.
pub(crate) fn truth(op: &'static str, which: Fold, x: &Tensor, dims: &[isize], keepdim: bool) -> Result<Tensor> {
    x.expect_dtype(op, DType::Bool, "bool (compare first)")?;
    let plan = Plan::new(op, x, dims, keepdim)?;
    if plan.n == 0 {
        let empty = if which == Fold::Min { 1.0 } else { 0.0 };
        return elementwise::full(op, empty, plan.out, DType::Bool, x.device());
    }
    let out = fold(op, which, x, &plan, 1.0)?;
    Ok(record_without_backward(op, out, &[x]))
}

/// How to get from `[rows, n]` back to the shape it was made from.
pub(super) struct Back {
    permuted: Dims,
    inverse: Vec<usize>,
}

impl Back {
    pub fn restore(&self, rows: &Tensor) -> Result<Tensor> {
        let permuted = view::reshape_to(rows, self.permuted)?;
        Ok(permuted.with_layout(permuted.layout().permute(&self.inverse)))
    }
}

/// A detached tensor as contiguous rows `[kept, reduced]`, and the way back.
pub(super) fn rows_of(op: &'static str, x: &Tensor, plan: &Plan) -> Result<(Tensor, Back)> {
    let x = x.detach();
    let axes: Vec<usize> = (0..x.rank()).filter(|d| !plan.dims.contains(d)).chain(plan.dims.iter().copied()).collect();
    let mut inverse = vec![0; axes.len()];
    for (to, &from) in axes.iter().enumerate() {
        inverse[from] = to;
    }
    let permuted = view::contiguous(&x.with_layout(x.layout().permute(&axes)))?;
    let rows = view::reshape_to(&permuted, Dims::new(op, &[plan.kept.elements(), plan.n])?)?;
    Ok((rows, Back { permuted: permuted.dims(), inverse }))
}
