//! Sparse matrices along a dimension.

use super::{flag, gpu_of, groups, size, window};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::resample::Table;
use crate::{DType, Error, Result, Tensor};

/// The rows of the matrix on the device.
struct Rows {
    starts: Tensor,
    sources: Tensor,
    weights: Tensor,
}

impl Rows {
    fn new(table: &Table, like: &Tensor) -> Result<Self> {
        let list = |values: &[u32]| Tensor::from_slice(values, &[values.len()], like.device());
        let weights: Vec<f32> = table.weights.iter().map(|&w| w as f32).collect();
        let count = weights.len();
        Ok(Rows {
            starts: list(&table.starts)?,
            sources: list(&table.sources)?,
            weights: Tensor::from_vec(weights, &[count], like.device())?,
        })
    }
}

/// Of dense f32 `x [outer, size, inner]`: `[outer, rows, inner]`. With `chosen`, of the shape of x, see `shaders/resample/weighted.wgsl`.
pub(crate) fn weighted(op: &'static str, x: &Tensor, table: &Table, chosen: Option<&Tensor>) -> Result<Tensor> {
    let rows = Rows::new(table, x)?;
    let shape = Dims::new(op, &[x.shape()[0], table.rows(), x.shape()[2]])?;
    let inputs: Vec<&Tensor> = [Some(x), chosen].into_iter().flatten().collect();
    window::piecewise(op, &inputs, (shape, DType::F32), 1, &|part| {
        let (x, chosen) = (&part[0], part.get(1));
        let &[outer, _, inner] = x.shape() else { return Err(Error::shape(op, "a piece without rows")) };
        let y = Tensor::gpu_uninit(op, Dims::new(op, &[outer, table.rows(), inner])?, DType::F32, x.device())?;
        let offset = chosen.map_or(0, |c| c.layout().offset);
        let params = [y.elements(), table.size, table.rows(), inner, x.layout().offset, offset];
        let params = params.map(|n| size(op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
        gpu_of(op, x)?.run(Launch {
            kernel: "resample/weighted",
            elems: &[],
            constants: &[("PICKED", flag(chosen.is_some()))],
            bind: &[
                Bind::Read(x.gpu_buffer(op)?),
                Bind::Read(rows.starts.gpu_buffer(op)?),
                Bind::Read(rows.sources.gpu_buffer(op)?),
                Bind::Read(rows.weights.gpu_buffer(op)?),
                // Something must be bound; it is not read.
                Bind::Read(chosen.unwrap_or(&rows.sources).gpu_buffer(op)?),
                Bind::Write(y.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&params),
            groups: groups(y.elements().div_ceil(4)),
        })?;
        Ok(y)
    })
}

/// Of dense f32 `x [outer, size, inner]`, the highest of each row of the matrix, and its place: `[outer, rows, inner]` each.
pub(crate) fn highest(op: &'static str, x: &Tensor, table: &Table) -> Result<(Tensor, Tensor)> {
    let rows = Rows::new(table, x)?;
    let shape = Dims::new(op, &[x.shape()[0], table.rows(), x.shape()[2]])?;
    let made = window::pieces(op, &[x], &[(shape, DType::F32), (shape, DType::U32)], 1, &|part| {
        let x = &part[0];
        let &[outer, _, inner] = x.shape() else { return Err(Error::shape(op, "a piece without rows")) };
        let shape = Dims::new(op, &[outer, table.rows(), inner])?;
        let y = Tensor::gpu_uninit(op, shape, DType::F32, x.device())?;
        let chosen = Tensor::gpu_uninit(op, shape, DType::U32, x.device())?;
        let params = [y.elements(), table.size, table.rows(), inner, x.layout().offset];
        let params = params.map(|n| size(op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
        gpu_of(op, x)?.run(Launch {
            kernel: "resample/highest",
            elems: &[],
            constants: &[],
            bind: &[
                Bind::Read(x.gpu_buffer(op)?),
                Bind::Read(rows.starts.gpu_buffer(op)?),
                Bind::Read(rows.sources.gpu_buffer(op)?),
                Bind::Write(y.gpu_buffer(op)?),
                Bind::Write(chosen.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&params),
            groups: groups(y.elements()),
        })?;
        Ok(vec![y, chosen])
    })?;
    match <[Tensor; 2]>::try_from(made) {
        Ok([y, chosen]) => Ok((y, chosen)),
        Err(_) => Err(Error::argument(op, "a kernel without its outputs")),
    }
}
