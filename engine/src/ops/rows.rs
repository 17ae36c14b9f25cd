//! What operations along one dimension share: the CPU works on the rows of contiguous tensors, in f32 or f64; kernels find the rows
//! of any view, and widen halves as they read them.

use crate::layout::{Dims, Layout, collapse};
use crate::ops::view;
use crate::{DType, Result, Tensor};

/// Runs a kernel along dimension `dim` of some detached tensors of one shape: moves it to the end, makes of them what the kernel
/// takes ([`dense`] or [`prepared`] tensors), and takes the result back. The kernel gets the number of rows and their length.
pub(crate) fn along(
    dim: usize,
    inputs: &[&Tensor],
    take: fn(&Tensor) -> Result<Tensor>,
    kernel: impl FnOnce(&[Tensor], usize, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let Some(first) = inputs.first() else { return kernel(&[], 0, 0) };
    let (dtype, rank) = (first.dtype(), first.rank());
    let mut axes: Vec<usize> = (0..rank).filter(|&d| d != dim).collect();
    axes.push(dim);
    let moved = |x: &&Tensor| take(&x.with_layout(x.layout().permute(&axes)));
    let moved: Vec<Tensor> = inputs.iter().map(moved).collect::<Result<_>>()?;
    let cols = first.shape()[dim];
    let y = kernel(&moved, first.elements() / cols.max(1), cols)?;
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

/// For kernels that find the rows of any view of any float dtype: on the CPU [`dense`], on a GPU as it is. Detached.
pub(crate) fn prepared(x: &Tensor) -> Result<Tensor> {
    if x.device().is_gpu() { Ok(x.detach()) } else { dense(x) }
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

/// A tensor as rows of `cols` neighbouring elements: the tensor itself or else a dense copy, where its first row begins, and the
/// distance from row to row.
pub(crate) fn rows_of(x: &Tensor, cols: usize) -> Result<(Tensor, usize, usize)> {
    let (shape, strides) = collapse(&[*x.layout()]);
    let stride = match (&shape[..], strides.first().map_or(&[][..], |s| s)) {
        ([], _) | ([_], [1]) => Some(cols),
        ([_], [stride]) if cols == 1 => Some(*stride),
        ([_, n], [stride, 1]) if *n == cols => Some(*stride),
        _ => None,
    };
    match stride {
        Some(stride) => Ok((x.clone(), x.layout().offset, stride)),
        None => Ok((view::contiguous(x)?, 0, cols)),
    }
}

/// A tensor as `[rows, cols]`, a view of itself or else of a dense copy.
pub(crate) fn as_rows(op: &'static str, x: &Tensor, cols: usize) -> Result<Tensor> {
    let (x, offset, stride) = rows_of(x, cols)?;
    let shape = Dims::new(op, &[x.elements() / cols.max(1), cols])?;
    Ok(x.with_layout(Layout { offset, ..Layout::rows(shape, 1, stride) }))
}

/// Such rows in the shape whose last `dims` dimensions a row spans.
pub(crate) fn from_rows(rows: &Tensor, shape: Dims, dims: usize) -> Tensor {
    let layout = rows.layout();
    let stride = layout.strides.first().copied().unwrap_or_default();
    rows.with_layout(Layout { offset: layout.offset, ..Layout::rows(shape, dims, stride) })
}
