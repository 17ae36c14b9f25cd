//! Softmax kernels, for rows of any float dtype.

use super::elementwise::copy;
use super::rows::{Rows, spread, tail, uninit};
use super::{flag, gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::layout::{Layout, collapse};
use crate::{Error, Result, Tensor};

/// Softmax of `scale * x` along the last dimension, or its logarithm, where `mask`, a view of the shape of x, is true.
pub(crate) fn forward(
    op: &'static str,
    log: bool,
    x: &Tensor,
    mask: Option<&Tensor>,
    scale: f64,
    cols: usize,
) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let rows = x.elements() / cols;
    let y = uninit(op, x.dims(), 1, x)?;
    let mask = mask.map(|mask| MaskRows::of(op, mask)).transpose()?;
    let x = Rows::of(op, x, cols)?;
    let ([workgroup, lanes], groups) = spread(gpu, rows, cols);
    let mut params = [0u32; 12];
    params[..5].copy_from_slice(&[size(op, rows)?, size(op, cols)?, x.offset, x.stride, (scale as f32).to_bits()]);
    if let Some(mask) = &mask {
        params[5..].copy_from_slice(&mask.params);
    }
    gpu.run(Launch {
        kernel: "softmax/forward",
        elems: &[("x", x.tensor.dtype()), ("y", y.dtype())],
        constants: &[
            workgroup,
            lanes,
            tail(cols),
            ("LOG", flag(log)),
            ("X_ALIGNED", x.aligned()),
            ("MASKED", flag(mask.is_some())),
            ("MASK_ALIGNED", flag(mask.as_ref().is_some_and(|mask| mask.aligned))),
        ],
        bind: &[
            Bind::Read(x.tensor.gpu_buffer(op)?),
            // Something must be bound for a mask that is absent; it is not read.
            Bind::Read(mask.as_ref().map_or(&x.tensor, |mask| &mask.tensor).gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(y)
}

/// A mask of `[.., middle, inner, cols]`, and how the kernel finds its rows.
struct MaskRows {
    tensor: Tensor,
    /// Sizes of middle and inner, offset, strides of outer, middle, inner, column.
    params: [u32; 7],
    aligned: bool,
}

impl MaskRows {
    fn of(op: &'static str, mask: &Tensor) -> Result<Self> {
        let rank = mask.rank();
        let lead = rank.checked_sub(1).ok_or_else(|| Error::shape(op, "a mask of rank 0"))?;
        let layout = *mask.layout();
        // The last dimension stays a row of its own.
        let outer = Layout { shape: first(layout.shape, lead), strides: first(layout.strides, lead), ..layout };
        let (mut shape, strides) = collapse(&[outer]);
        let mut strides = strides.into_iter().next().unwrap_or_default();
        if shape.len() > 3 {
            return MaskRows::of(op, &copy(op, mask)?);
        }
        while shape.len() < 3 {
            shape.insert(0, 1);
            strides.insert(0, 0);
        }
        let column = layout.strides[lead];
        let at = [shape[1], shape[2], layout.offset, strides[0], strides[1], strides[2], column];
        let mut params = [0; 7];
        for (param, value) in params.iter_mut().zip(at) {
            *param = size(op, value)?;
        }
        let fours = [layout.offset, strides[0], strides[1], strides[2]].iter().all(|n| n.is_multiple_of(4));
        Ok(MaskRows { tensor: mask.clone(), params, aligned: fours && column == 1 })
    }
}

fn first(dims: crate::Dims, n: usize) -> crate::Dims {
    crate::Dims::new("mask", &dims[..n]).unwrap_or_default()
}

/// The gradient from the result, times `scale`.
pub(crate) fn backward(
    op: &'static str,
    log: bool,
    y: &Tensor,
    dy: &Tensor,
    scale: f64,
    cols: usize,
) -> Result<Tensor> {
    let gpu = gpu_of(op, y)?;
    let rows = y.elements() / cols;
    let dx = uninit(op, y.dims(), 1, y)?;
    let (y, dy) = (Rows::of(op, y, cols)?, Rows::of(op, dy, cols)?);
    let ([workgroup, lanes], groups) = spread(gpu, rows, cols);
    let sizes = [size(op, rows)?, size(op, cols)?, y.offset, y.stride, dy.offset, dy.stride, (scale as f32).to_bits()];
    gpu.run(Launch {
        kernel: "softmax/backward",
        elems: &[("y", y.tensor.dtype()), ("dy", dy.tensor.dtype()), ("dx", dx.dtype())],
        constants: &[
            workgroup,
            lanes,
            tail(cols),
            ("LOG", flag(log)),
            ("Y_ALIGNED", y.aligned()),
            ("DY_ALIGNED", dy.aligned()),
        ],
        bind: &[
            Bind::Read(y.tensor.gpu_buffer(op)?),
            Bind::Read(dy.tensor.gpu_buffer(op)?),
            Bind::Write(dx.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&sizes),
        groups,
    })?;
    Ok(dx)
}
