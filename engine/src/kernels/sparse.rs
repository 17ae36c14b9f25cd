//! Kernels that make lists of blocks.

use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch};
use crate::snippet::Filled;
use crate::sparse::BlockLayout;
use crate::sparse::words::ROW;
use crate::{DType, Device, Dims, Mask, Result, Tensor};

/// What the words of a mask make of each block, [matrices, blocks of queries, blocks of keys]: 0 hidden, 1 partial, 2 full.
pub(crate) fn kinds(
    op: &'static str,
    lowered: Option<&Tensor>,
    mask: &Mask,
    each: bool,
    layout: BlockLayout,
    device: &Device,
) -> Result<Tensor> {
    let [rows, columns] = layout.blocks();
    let shape = [layout.matrices(), rows, columns];
    let Some(words) = lowered else { return Tensor::full(2.0, &shape, DType::U32, device) };
    let kinds = Tensor::gpu_uninit(op, Dims::new(op, &shape)?, DType::U32, device)?;
    let BlockLayout { batch, heads, queries, keys, query_block, key_block } = layout;
    let params = [batch, heads, queries, keys, query_block, key_block].map(|n| size(op, n));
    gpu_of(op, &kinds)?.run(Launch {
        kernel: Filled { kernel: "sparse/kinds", visible: mask.code().map(|code| code.text), score: None }.name(),
        elems: &[],
        constants: &[("EXACT", flag(each)), ("KINDS", f64::from(mask.kinds()))],
        bind: &[Bind::Read(words.gpu_buffer(op)?), Bind::Write(kinds.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params.into_iter().collect::<Result<Vec<u32>>>()?),
        groups: if each { kinds.elements() as u64 } else { groups(kinds.elements()) },
    })?;
    Ok(kinds)
}

/// The lists of rows of blocks, or by key of columns, of what [`kinds`] gives.
pub(crate) fn lists(
    op: &'static str,
    kinds: &Tensor,
    matrices: usize,
    [rows, columns]: [usize; 2],
    by_key: bool,
) -> Result<Tensor> {
    let kinds = kinds.contiguous()?;
    let [rows, columns] = if by_key { [columns, rows] } else { [rows, columns] };
    let words = matrices * rows * (ROW + columns);
    let list = Tensor::gpu_uninit(op, Dims::new(op, &[words])?, DType::U32, kinds.device())?;
    let gpu = gpu_of(op, &kinds)?;
    let sizes = [size(op, matrices)?, size(op, rows)?, size(op, columns)?, size(op, kinds.layout().offset)?];
    let groups = groups(matrices * rows);
    gpu.run(Launch {
        kernel: "sparse/lists",
        elems: &[],
        constants: &[("BY_KEY", flag(by_key))],
        bind: &[Bind::Read(kinds.gpu_buffer(op)?), Bind::Write(list.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&sizes),
        groups,
    })?;
    gpu.run(Launch {
        kernel: "sparse/order",
        elems: &[],
        constants: &[],
        bind: &[Bind::Write(list.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&sizes[..2]),
        groups,
    })?;
    Ok(list)
}
