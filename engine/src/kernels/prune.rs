//! Kernels of masks of groups of parameters.

use super::{gpu_of, groups, size, sort};
use crate::device::gpu::{Bind, Launch};
use crate::{DType, Result, Tensor};

/// Of each `m` scores of a row the `n` largest; the first of equal ones.
pub(crate) fn n_of_m(op: &'static str, scores: &Tensor, n: usize, m: usize) -> Result<Tensor> {
    let keys = sort::keys(op, scores, true)?;
    let mask = Tensor::gpu_uninit(op, scores.dims(), DType::Bool, scores.device())?;
    let (count, columns) = (scores.elements(), scores.shape()[1]);
    gpu_of(op, scores)?.run(Launch {
        kernel: "prune/n_of_m",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(keys.gpu_buffer(op)?), Bind::Write(mask.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, count)?, size(op, columns)?, size(op, n)?, size(op, m)?]),
        groups: groups(count),
    })?;
    Ok(mask)
}

/// The best of the 90 patterns of each tile of `[strips, 4, columns]`.
pub(crate) fn transposable(op: &'static str, scores: &Tensor) -> Result<Tensor> {
    let mask = Tensor::gpu_uninit(op, scores.dims(), DType::Bool, scores.device())?;
    let columns = scores.shape()[2];
    let tiles = scores.shape()[0] * columns.div_ceil(4);
    let params = [size(op, tiles)?, size(op, columns)?, size(op, scores.layout().offset)?];
    gpu_of(op, scores)?.run(Launch {
        kernel: "prune/transposable",
        elems: &[("scores", scores.dtype())],
        constants: &[],
        bind: &[Bind::Read(scores.gpu_buffer(op)?), Bind::Write(mask.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(tiles),
    })?;
    Ok(mask)
}
