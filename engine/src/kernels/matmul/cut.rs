//! Products of matrices larger than a binding, or with such a result: cut into smaller products. The result is cut along its batch, then
//! its rows, then its columns; an operand along the dimension that spans most of its memory. Where that is k, the sums of the parts are
//! added up in order, in f32.

use std::sync::Arc;

use super::params::Params;
use super::{Planner, finish_sums, output, run};
use crate::device::gpu::Gpu;
use crate::kernels::window::{bytes, length, seen, side_by_side, slice, widest, window};
use crate::ops::matmul::{Finish, Output, Product};
use crate::ops::view::contiguous;
use crate::{DType, Error, Result, Tensor};

/// What the kernels see of the operands, if a binding holds all of each, and the sums of the result.
pub(super) fn windows(gpu: &Gpu, product: &Product) -> Result<Option<(Tensor, Tensor)>> {
    let sums = DType::F32.gpu_bytes(product.shape()?.elements());
    if sums > gpu.caps().max_binding_bytes {
        return Ok(None);
    }
    Ok(window(gpu, product.a).zip(window(gpu, product.b)))
}

/// The product, in `dtype`, from smaller ones.
pub(super) fn cut(gpu: &Arc<Gpu>, product: &Product, dtype: DType, plan: &Planner) -> Result<Output> {
    let &Product { op, a, b, finish } = product;
    let shape = product.shape()?;
    let rows = shape.len() - 2;
    let sums = DType::F32.gpu_bytes(shape.elements());
    let (d, bytes) = if sums > gpu.caps().max_binding_bytes {
        ((0..shape.len()).find(|&d| shape[d] > 1), sums)
    } else if window(gpu, a).is_none() {
        // The last dimension of a is k: None.
        (widest(a).filter(|&d| d <= rows), bytes(a))
    } else {
        (widest(b).filter(|&d| d != rows), bytes(b))
    };
    let Some(d) = d else { return along_k(gpu, product, dtype, plan, bytes) };
    let residual = finish.residual.map(contiguous).transpose()?;
    let outputs = vec![(shape, dtype); if finish.keep { 2 } else { 1 }];
    let mut made = side_by_side(op, a.device(), &outputs, d, length(gpu, shape[d], bytes), &mut |start, length| {
        let part = |x: &Tensor| slice(x, d, start, length);
        let a = if d <= rows { part(a) } else { a.clone() };
        let b = if d == rows { b.clone() } else { part(b) };
        let bias = finish.bias.map(|bias| if d > rows { slice(bias, 0, start, length) } else { bias.clone() });
        let residual = residual.as_ref().map(part);
        let finish = Finish { bias: bias.as_ref(), residual: residual.as_ref(), ..finish };
        let Output { y, z } = run(gpu, &Product { op, a: &a, b: &b, finish }, dtype, plan)?;
        Ok([Some(y), z].into_iter().flatten().collect())
    })?
    .into_iter();
    let y = made.next().ok_or_else(|| Error::argument(op, "a product without result"))?;
    Ok(Output { y, z: made.next() })
}

/// Parts along k, each added to the sum of those before.
fn along_k(gpu: &Arc<Gpu>, product: &Product, dtype: DType, plan: &Planner, bytes: u64) -> Result<Output> {
    let &Product { op, a, b, .. } = product;
    let (m, n, k) = product.sizes();
    if k < 2 {
        return Err(Error::TooLarge { op, bytes, limit: gpu.caps().max_binding_bytes });
    }
    let (rank, step) = (a.rank(), length(gpu, k, bytes));
    let mut sum: Option<Tensor> = None;
    for start in (0..k).step_by(step) {
        let part = |x: &Tensor, d: usize| slice(x, d, start, step.min(k - start));
        let (a, b) = (part(a, rank - 1), part(b, rank - 2));
        let finish = Finish { residual: sum.as_ref(), ..Finish::default() };
        sum = Some(run(gpu, &Product { op, a: &a, b: &b, finish }, DType::F32, plan)?.y);
    }
    let sum = sum.ok_or_else(|| Error::argument(op, "a product without parts"))?;
    let rows = product.batch().iter().product::<usize>() * m;
    let bias = product.finish.bias.map(|x| seen(gpu, &contiguous(x)?)).transpose()?;
    let residual = product.finish.residual.map(|x| seen(gpu, &super::aligned(x)?)).transpose()?;
    let finish = Finish { bias: bias.as_ref(), residual: residual.as_ref(), ..product.finish };
    let output = output(product, (product.shape()?, dtype))?;
    finish_sums(gpu, op, &sum, &Params::of_sums(op, rows, n, &finish)?, finish, &output)?;
    Ok(output)
}
