//! Indexing kernels. What slots are, and how the pieces work together, stands in [`crate::ops::index`].

use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch};
use crate::kernels::sort;
use crate::layout::Layout;
use crate::ops::index::{Block, Groups, Positions};
use crate::{DType, Dims, Result, Tensor};

/// Entries that one invocation sums before a row's entries are split.
const SUM_LENGTH: usize = 64;
/// Most parts of a row's entries.
const MOST_SPLITS: usize = 64;

pub(crate) fn slots(op: &'static str, index: &Tensor, positions: &Positions) -> Result<Tensor> {
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
    gpu.run(Launch {
        kernel: "index/slots",
        elems: &[("index", index.dtype())],
        constants: &[],
        bind: &[Bind::Read(index.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?), Bind::Write(&note)],
        params: bytemuck::cast_slice(&params),
        groups: groups(count),
    })?;
    Ok(out)
}

pub(crate) fn take(
    op: &'static str,
    base: Option<&Tensor>,
    x: &Tensor,
    slots: &Tensor,
    block: &Block,
) -> Result<Tensor> {
    let entries = slots.elements();
    let out = Tensor::gpu_uninit(op, block.dims(op, entries)?, x.dtype(), x.device())?;
    let count = out.elements();
    let (base_offset, x_offset) = (base.map_or(0, |b| b.layout().offset), x.layout().offset);
    let aligned = block.inner % 4 == 0 && base_offset % 4 == 0 && x_offset % 4 == 0;
    gpu_of(op, x)?.run(Launch {
        kernel: "index/take",
        elems: &[("base", x.dtype()), ("x", x.dtype()), ("y", x.dtype())],
        constants: &[("ALIGNED", flag(aligned)), ("HAS_BASE", flag(base.is_some()))],
        bind: &[
            Bind::Read(base.unwrap_or(x).gpu_buffer(op)?),
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(slots.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[
            size(op, count)?,
            size(op, entries)?,
            size(op, block.rows)?,
            size(op, block.inner)?,
            size(op, x_offset)?,
            size(op, base_offset)?,
        ]),
        groups: groups(count.div_ceil(4)),
    })?;
    Ok(out)
}

pub(crate) fn invert(op: &'static str, slots: &Tensor, rows: usize) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, Dims::new(op, &[rows])?, DType::U32, slots.device())?;
    let gpu = gpu_of(op, slots)?;
    let writers = out.gpu_buffer(op)?;
    gpu.fill(writers, 0)?;
    gpu.run(Launch {
        kernel: "index/invert",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(slots.gpu_buffer(op)?), Bind::Write(writers)],
        params: bytemuck::bytes_of(&size(op, slots.elements())?),
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

pub(crate) fn sum_groups(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    grouped: &Groups,
    skip: Option<usize>,
    block: &Block,
) -> Result<Tensor> {
    let dtype = src.dtype();
    let gpu = gpu_of(op, src)?;
    let out = Tensor::gpu_uninit(op, block.dims(op, block.rows)?, dtype, src.device())?;
    let (count, entries) = (out.elements(), grouped.order.elements());
    if count == 0 {
        return Ok(out);
    }
    let splits = (entries / block.rows / SUM_LENGTH).clamp(1, MOST_SPLITS);
    // Parts of halves are f32.
    let part_dtype = if splits > 1 && dtype.is_half() { DType::F32 } else { dtype };
    let quads = count.div_ceil(4);
    let parts = match splits {
        1 => out.clone(),
        _ => Tensor::gpu_uninit(op, Dims::new(op, &[splits, 4 * quads])?, part_dtype, src.device())?,
    };
    // What is split gets its base where the parts are added up.
    let (whole_base, part_base) = if splits > 1 { (base, None) } else { (None, base) };
    let offset = |x: Option<&Tensor>| x.map_or(0, |x| x.layout().offset);
    let aligned = block.inner % 4 == 0 && src.layout().offset % 4 == 0;
    gpu.run(Launch {
        kernel: "index/sum",
        elems: &[("base", dtype), ("src", dtype), ("y", part_dtype)],
        constants: &[("ALIGNED", flag(aligned)), ("HAS_BASE", flag(part_base.is_some()))],
        bind: &[
            Bind::Read(part_base.unwrap_or(src).gpu_buffer(op)?),
            Bind::Read(src.gpu_buffer(op)?),
            Bind::Read(grouped.order.gpu_buffer(op)?),
            Bind::Read(grouped.starts.gpu_buffer(op)?),
            Bind::Write(parts.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[
            size(op, count)?,
            size(op, entries)?,
            size(op, block.rows)?,
            size(op, block.inner)?,
            size(op, src.layout().offset)?,
            size(op, offset(part_base))?,
            skip.map_or(Ok(u32::MAX), |row| size(op, row))?,
            size(op, splits)?,
        ]),
        groups: groups(quads * splits),
    })?;
    if splits > 1 {
        gpu.run(Launch {
            kernel: "index/fold",
            elems: &[("base", dtype), ("parts", part_dtype), ("y", dtype)],
            constants: &[("HAS_BASE", flag(whole_base.is_some()))],
            bind: &[
                Bind::Read(whole_base.unwrap_or(src).gpu_buffer(op)?),
                Bind::Read(parts.gpu_buffer(op)?),
                Bind::Write(out.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&[size(op, count)?, size(op, splits)?, size(op, offset(whole_base))?]),
            groups: groups(quads),
        })?;
    }
    Ok(out)
}

pub(crate) fn one_hot(op: &'static str, slots: &Tensor, classes: usize) -> Result<Tensor> {
    let shape = [slots.shape(), &[classes]].concat();
    Layout::contiguous(op, &shape)?;
    let out = Tensor::gpu_uninit(op, Dims::new(op, &shape)?, DType::U32, slots.device())?;
    gpu_of(op, slots)?.run(Launch {
        kernel: "index/one_hot",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(slots.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[size(op, out.elements())?, size(op, classes)?]),
        groups: groups(out.elements()),
    })?;
    Ok(out)
}
