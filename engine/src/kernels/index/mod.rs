//! Indexing kernels. What slots are, and how the pieces work together, stands in [`crate::ops::index`].

pub(crate) mod cut;

use super::divisor::Divisor;
use super::{bits, flag, gpu_of, groups, size, spread};
use crate::device::gpu::{Bind, Launch};
use crate::kernels::sort;
use crate::layout::Layout;
use crate::ops::index::{Block, Groups, Positions};
use crate::{DType, Dims, Result, Tensor};

/// Entries of a block in `shaders/index/blocks.wgsl`.
const BLOCK: usize = 64;
/// Entries from which on blocks are summed first: below, no row is long.
const LONG: usize = 4 * BLOCK;

/// The slots of some of the entries: `index` is flat, and begins at entry `first`.
fn slots(op: &'static str, index: &Tensor, first: usize, positions: &Positions) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, index.dims(), DType::U32, index.device())?;
    let count = index.elements();
    let gpu = gpu_of(op, index)?;
    if count == 0 {
        return Ok(out);
    }
    let (note, code) = gpu.fault(op, index.dtype() == DType::I32)?;
    let mut params = [0u32; 24];
    for d in 0..8 {
        params[d] = size(op, positions.shape.get(d).copied().unwrap_or(1))?;
        params[8 + d] = size(op, positions.strides.get(d).copied().unwrap_or(0))?;
    }
    let scalars = [count, index.layout().offset, positions.dim, positions.size];
    for (param, value) in params[16..].iter_mut().zip(scalars) {
        *param = size(op, value)?;
    }
    params[20] = code;
    params[21] = size(op, positions.shape.len())?;
    params[22] = size(op, first)?;
    gpu.run(Launch {
        kernel: "index/slots",
        elems: &[("index", index.dtype())],
        constants: &[],
        bind: &[Bind::Read(index.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?), Bind::Write((&*note).into())],
        params: bytemuck::cast_slice(&params),
        groups: groups(count),
    })?;
    Ok(out)
}

fn take(op: &'static str, base: Option<&Tensor>, x: &Tensor, slots: &Tensor, block: &Block) -> Result<Tensor> {
    let entries = slots.elements();
    let out = Tensor::gpu_uninit(op, block.dims(op, entries)?, x.dtype(), x.device())?;
    let count = out.elements();
    let (base_offset, x_offset) = (base.map_or(0, |b| b.layout().offset), x.layout().offset);
    let aligned = aligned(x, block) && base_offset.is_multiple_of(4);
    let (inner, each) = (size(op, block.inner)?, size(op, entries)?);
    let (by_inner, by_entries) = (Divisor::new(inner), Divisor::new(each));
    let elem = bits(x.dtype());
    let gpu = gpu_of(op, x)?;
    let ([workgroup, fours], groups) = spread(gpu, size(op, count)?.div_ceil(4));
    gpu.run(Launch {
        kernel: "index/take",
        elems: &[("base", elem), ("x", elem), ("y", elem)],
        constants: &[("ALIGNED", flag(aligned)), ("HAS_BASE", flag(base.is_some())), workgroup, fours],
        bind: &[
            Bind::Read(base.unwrap_or(x).gpu_buffer(op)?),
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(slots.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[
            size(op, count)?,
            each,
            size(op, block.rows)?,
            inner,
            size(op, x_offset)?,
            size(op, base_offset)?,
            by_inner.magic,
            by_inner.shift,
            by_entries.magic,
            by_entries.shift,
        ]),
        groups,
    })?;
    Ok(out)
}

/// Writes into `writers` which entries go to its rows; `slots` are those of the entries from `first` on.
fn invert(op: &'static str, slots: &Tensor, first: usize, writers: &Tensor) -> Result<()> {
    gpu_of(op, slots)?.run(Launch {
        kernel: "index/invert",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(slots.gpu_buffer(op)?), Bind::Write(writers.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[slots.elements(), slots.layout().offset, first].map(|n| n as u32)),
        groups: groups(slots.elements()),
    })
}

/// The slots as those of `rows` rows from `first` on, alone: nothing where an entry goes to another row.
fn within(op: &'static str, slots: &Tensor, first: usize, rows: usize) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, slots.dims(), DType::U32, slots.device())?;
    let params = [slots.elements(), slots.layout().offset, first, rows];
    let params = params.map(|n| size(op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
    gpu_of(op, slots)?.run(Launch {
        kernel: "index/within",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(slots.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(slots.elements()),
    })?;
    Ok(out)
}

pub(crate) fn group(op: &'static str, slots: &Tensor, rows: usize) -> Result<Groups> {
    let entries = slots.elements();
    let starts = Tensor::gpu_uninit(op, Dims::new(op, &[rows + 1])?, DType::U32, slots.device())?;
    let (sorted, order) = sort::sort_keys(op, slots, entries, entries)?;
    gpu_of(op, slots)?.run(Launch {
        kernel: "index/starts",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(sorted.gpu_buffer(op)?), Bind::Write(starts.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, rows + 1)?, size(op, entries)?]),
        groups: groups(rows + 1),
    })?;
    Ok(Groups { order, starts })
}

#[allow(clippy::too_many_arguments, reason = "the operands of one kernel")]
fn sum_groups(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    slots: &Tensor,
    grouped: &Groups,
    skip: Option<usize>,
    block: &Block,
    to: DType,
) -> Result<Tensor> {
    let dtype = src.dtype();
    let out = Tensor::gpu_uninit(op, block.dims(op, block.rows)?, to, src.device())?;
    let (count, entries) = (out.elements(), grouped.order.elements());
    if count == 0 {
        return Ok(out);
    }
    let blocks = match entries < LONG {
        true => None,
        false => Some(sum_blocks(op, src, slots, grouped, block)?),
    };
    // Without blocks the source stands in, as what it is.
    let (blocks, has_blocks) = (blocks.as_ref().unwrap_or(src), blocks.is_some());
    let base_offset = base.map_or(0, |base| base.layout().offset);
    let (rows, inner) = (size(op, block.rows)?, size(op, block.inner)?);
    let (by_inner, by_rows) = (Divisor::new(inner), Divisor::new(rows));
    gpu_of(op, src)?.run(Launch {
        kernel: "index/sum",
        elems: &[("base", base.map_or(dtype, Tensor::dtype)), ("src", dtype), ("blocks", blocks.dtype()), ("y", to)],
        constants: &[
            ("ALIGNED", flag(aligned(src, block))),
            ("HAS_BASE", flag(base.is_some())),
            ("HAS_BLOCKS", flag(has_blocks)),
        ],
        bind: &[
            Bind::Read(base.unwrap_or(src).gpu_buffer(op)?),
            Bind::Read(src.gpu_buffer(op)?),
            Bind::Read(blocks.gpu_buffer(op)?),
            Bind::Read(grouped.order.gpu_buffer(op)?),
            Bind::Read(grouped.starts.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[
            size(op, count)?,
            size(op, entries)?,
            rows,
            inner,
            size(op, src.layout().offset)?,
            size(op, base_offset)?,
            skip.map_or(Ok(u32::MAX), |row| size(op, row))?,
            by_inner.magic,
            by_inner.shift,
            by_rows.magic,
            by_rows.shift,
        ]),
        groups: groups(count.div_ceil(4)),
    })?;
    Ok(out)
}

/// Sums of blocks of [`BLOCK`] sorted entries, in f32 for halves.
fn sum_blocks(op: &'static str, src: &Tensor, slots: &Tensor, grouped: &Groups, block: &Block) -> Result<Tensor> {
    let dtype = if src.dtype().is_half() { DType::F32 } else { src.dtype() };
    let entries = grouped.order.elements();
    let blocks = entries / BLOCK;
    let out = Tensor::gpu_uninit(op, block.dims(op, blocks)?, dtype, src.device())?;
    let (inner, blocks) = (size(op, block.inner)?, size(op, blocks)?);
    let (by_inner, by_blocks) = (Divisor::new(inner), Divisor::new(blocks));
    gpu_of(op, src)?.run(Launch {
        kernel: "index/blocks",
        elems: &[("src", src.dtype()), ("blocks", dtype)],
        constants: &[("ALIGNED", flag(aligned(src, block)))],
        bind: &[
            Bind::Read(src.gpu_buffer(op)?),
            Bind::Read(grouped.order.gpu_buffer(op)?),
            Bind::Read(slots.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[
            size(op, out.elements())?,
            size(op, entries)?,
            inner,
            size(op, src.layout().offset)?,
            blocks,
            by_inner.magic,
            by_inner.shift,
            by_blocks.magic,
            by_blocks.shift,
        ]),
        groups: groups(out.elements().div_ceil(4)),
    })?;
    Ok(out)
}

/// Whether four neighbouring elements belong to one row and can be loaded together.
fn aligned(x: &Tensor, block: &Block) -> bool {
    block.inner.is_multiple_of(4) && x.layout().offset.is_multiple_of(4)
}

fn one_hot(op: &'static str, slots: &Tensor, classes: usize) -> Result<Tensor> {
    let shape = [slots.shape(), &[classes]].concat();
    Layout::contiguous(op, &shape)?;
    let out = Tensor::gpu_uninit(op, Dims::new(op, &shape)?, DType::U32, slots.device())?;
    let (count, classes) = (size(op, out.elements())?, size(op, classes)?);
    let by = Divisor::new(classes);
    let gpu = gpu_of(op, slots)?;
    let (constants, groups) = spread(gpu, count.div_ceil(4));
    gpu.run(Launch {
        kernel: "index/one_hot",
        elems: &[],
        constants: &constants,
        bind: &[Bind::Read(slots.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[count, classes, by.magic, by.shift]),
        groups,
    })?;
    Ok(out)
}
