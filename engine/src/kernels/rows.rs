//! How kernels that work on rows find them, and how rows are spread over invocations.

use super::{flag, size};
use crate::device::gpu::Gpu;
use crate::layout::{Dims, Layout};
use crate::ops::rows::rows_of;
use crate::{Result, Tensor};

/// A tensor as rows of neighbouring elements, at a distance of `stride` elements from each other.
pub(super) struct Rows {
    pub tensor: Tensor,
    pub offset: u32,
    pub stride: u32,
    aligned: bool,
}

impl Rows {
    /// The rows of `cols` elements of any view: where it lies, or else of a dense copy.
    pub fn of(op: &'static str, x: &Tensor, cols: usize) -> Result<Self> {
        let (tensor, offset, stride) = rows_of(x, cols)?;
        let rows = x.elements() / cols.max(1);
        size(op, offset + rows * stride)?;
        let aligned = offset.is_multiple_of(4) && (stride.is_multiple_of(4) || rows <= 1);
        Ok(Rows { tensor, offset: size(op, offset)?, stride: size(op, stride)?, aligned })
    }

    /// Whether whole fours can be loaded, as an override constant.
    pub fn aligned(&self) -> f64 {
        flag(self.aligned)
    }
}

/// Memory for a result of `shape` whose last `dims` dimensions are a row: rows begin at multiples of four elements, so that
/// kernels store whole fours. A view where rows are not a multiple of four long.
pub(super) fn uninit(op: &'static str, shape: Dims, dims: usize, like: &Tensor) -> Result<Tensor> {
    let lead = shape.len().saturating_sub(dims);
    let cols: usize = shape[lead..].iter().product();
    let stride = cols.next_multiple_of(4);
    if stride == cols {
        return Tensor::gpu_uninit(op, shape, like.dtype(), like.device());
    }
    let rows: usize = shape[..lead].iter().product();
    size(op, rows * stride)?;
    let memory = Tensor::gpu_uninit(op, Dims::new(op, &[rows, stride])?, like.dtype(), like.device())?;
    Ok(memory.with_layout(Layout::rows(shape, dims, stride)))
}

/// All of the memory that [`uninit`] made for rows of the last dimension: what pieces of them are put together of.
pub(crate) fn padded(y: &Tensor) -> Tensor {
    y.with_layout(Layout { offset: y.layout().offset, ..Layout::row_major(padded_shape(y.dims())) })
}

/// Its shape.
pub(crate) fn padded_shape(mut shape: Dims) -> Dims {
    if let Some(cols) = shape.last_mut() {
        *cols = cols.next_multiple_of(4);
    }
    shape
}

/// Whether the last four of a row is not whole, as an override constant.
pub(super) fn tail(cols: usize) -> (&'static str, f64) {
    ("TAIL", flag(!cols.is_multiple_of(4)))
}

/// Override constants and number of workgroups for kernels whose lanes read a row in fours. Lanes of a GPU get about four
/// fours each. Software drivers run the lanes of a workgroup one after the other and pay for every barrier: there a
/// lane takes a whole row, if there are enough rows to keep the cores busy.
pub(super) fn spread(gpu: &Gpu, rows: usize, cols: usize) -> ([(&'static str, f64); 2], u64) {
    // Mesa's driver ends the loops of an invocation after 65,535 turns, those of all its passes together.
    let least = cols.div_ceil(1 << 15).next_power_of_two().min(256);
    let (workgroup, lanes) = match (gpu.caps().software, rows) {
        (true, 0..32) => (least.max(8), least.max(8)),
        (true, _) => (least.max(8), least),
        (false, _) => (256, cols.div_ceil(16).next_power_of_two().min(256)),
    };
    ([("WORKGROUP", workgroup as f64), ("LANES", lanes as f64)], rows.div_ceil(workgroup / lanes) as u64)
}
