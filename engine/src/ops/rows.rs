//! What operations along one dimension share: their kernels work on the rows of contiguous tensors, in f32 (or f64 on the CPU).

use crate::layout::Dims;
use crate::ops::view;
use crate::{DType, Result, Tensor};

/// Runs a kernel for contiguous rows along dimension `dim` of some detached tensors of one shape: moves it to the end, widens
/// halves, and takes the result back. The kernel gets the number of rows and their length.
pub(crate) fn along(
    dim: usize,
    inputs: &[&Tensor],
    kernel: impl FnOnce(&[Tensor], usize, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let Some(first) = inputs.first() else { return kernel(&[], 0, 0) };
    let (dtype, rank) = (first.dtype(), first.rank());
    let mut axes: Vec<usize> = (0..rank).filter(|&d| d != dim).collect();
    axes.push(dim);
    let dense: Vec<Tensor> =
        inputs.iter().map(|x| dense(&x.with_layout(x.layout().permute(&axes)))).collect::<Result<_>>()?;
    let cols = first.shape()[dim];
    let y = kernel(&dense, first.elements() / cols.max(1), cols)?;
    let mut inverse = vec![0; rank];
    axes.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    narrowed(&y.with_layout(y.layout().permute(&inverse)), dtype)
}

/// Detached, halves widened to f32.
pub(crate) fn wide(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    if x.dtype().is_half() { x.cast(DType::F32) } else { Ok(x) }
}

/// Detached, contiguous, halves widened to f32: what kernels take.
pub(crate) fn dense(x: &Tensor) -> Result<Tensor> {
    view::contiguous(&wide(x)?)
}

/// Back to the dtype that [`wide`] widened.
pub(crate) fn narrowed(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype { Ok(x.clone()) } else { x.cast(dtype) }
}

/// The shape with its last `dims` dimensions as one: rows and their length.
pub(crate) fn trailing(shape: Dims, dims: usize) -> (usize, usize) {
    let at = shape.len().saturating_sub(dims);
    (shape[..at].iter().product(), shape[at..].iter().product())
}
