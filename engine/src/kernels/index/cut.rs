//! Indexing where a binding does not hold all: outer dimensions, rows or entries are cut, and slots become those of a part.

use super::group;
use crate::kernels::gpu_of;
use crate::kernels::window::{
    bytes, length, one_side_by_side, piecewise, seen, shaped, slice, too_large, window, windows,
};
use crate::ops::index::{Block, Positions};
use crate::{DType, Dims, Error, Result, Tensor};

/// Slots of indices.
pub(crate) fn slots(op: &'static str, index: &Tensor, positions: &Positions) -> Result<Tensor> {
    let (gpu, count) = (gpu_of(op, index)?, index.elements());
    let index = shaped(op, index, &[count])?;
    let output = (index.dims(), DType::U32);
    if let Some([index]) = windows(gpu, std::slice::from_ref(&index), &[output]).as_deref() {
        return super::slots(op, index, 0, positions);
    }
    let each = length(gpu, count, bytes(&index));
    one_side_by_side(op, index.device(), output, 0, each, &mut |first, count| {
        super::slots(op, &seen(gpu, &slice(&index, 0, first, count))?, first, positions)
    })
}

fn within(op: &'static str, slots: &Tensor, first: usize, rows: usize) -> Result<Tensor> {
    let output = (slots.dims(), DType::U32);
    piecewise(op, &[slots], output, 1, &|slots| super::within(op, &slots[0], first, rows))
}

/// Kernels read slots from the start of a buffer.
fn from_start(slots: &Tensor) -> Result<Tensor> {
    if slots.layout().offset == 0 { Ok(slots.clone()) } else { slots.copy() }
}

/// For each row the number, from 1, of the last entry that goes there; 0 for none.
pub(crate) fn invert(op: &'static str, slots: &Tensor, rows: usize) -> Result<Tensor> {
    let (gpu, shape) = (gpu_of(op, slots)?, Dims::new(op, &[rows])?);
    let taken = DType::U32.gpu_bytes(rows);
    if taken > gpu.caps().max_binding_bytes {
        let each = length(gpu, rows, taken);
        return one_side_by_side(op, slots.device(), (shape, DType::U32), 0, each, &mut |first, rows| {
            invert(op, &within(op, slots, first, rows)?, rows)
        });
    }
    let writers = Tensor::zeros(&shape, DType::U32, slots.device())?;
    let count = slots.elements();
    let each = if window(gpu, slots).is_some() { count.max(1) } else { length(gpu, count, bytes(slots)) };
    for first in (0..count).step_by(each) {
        let part = seen(gpu, &slice(slots, 0, first, each.min(count - first)))?;
        super::invert(op, &part, first, &writers)?;
    }
    Ok(writers)
}

/// An optional tensor of a block with so many rows.
fn block_of(op: &'static str, x: Option<&Tensor>, block: &Block, rows: usize) -> Result<Option<Tensor>> {
    x.map(|x| shaped(op, x, &block.dims(op, rows)?)).transpose()
}

/// `y[o, i, :] = x[o, slots[i] - 1, :]`; where the slot is 0, `base[o, i, :]`, or zeros.
pub(crate) fn take(
    op: &'static str,
    base: Option<&Tensor>,
    x: &Tensor,
    slots: &Tensor,
    block: &Block,
) -> Result<Tensor> {
    let (gpu, entries) = (gpu_of(op, x)?, slots.elements());
    let Block { outer, rows, .. } = *block;
    let (base, x) = (block_of(op, base, block, entries)?, shaped(op, x, &block.dims(op, rows)?)?);
    let output = (block.dims(op, entries)?, x.dtype());
    let of_entries: Vec<Tensor> = [slots].into_iter().chain(&base).cloned().collect();
    let all: Vec<Tensor> = [&x].into_iter().chain(&of_entries).cloned().collect();
    if let Some([x, slots, base @ ..]) = windows(gpu, &all, &[output]).as_deref() {
        return super::take(op, base.first(), x, &from_start(slots)?, block);
    }
    let part = |d, first, count| base.as_ref().map(|base| slice(base, d, first, count));
    if outer > 1 {
        let each = length(gpu, outer, bytes(&x).max(output.1.gpu_bytes(output.0.elements())));
        return one_side_by_side(op, x.device(), output, 0, each, &mut |first, outer| {
            let x = slice(&x, 0, first, outer);
            take(op, part(0, first, outer).as_ref(), &x, slots, &Block { outer, ..*block })
        });
    }
    if windows(gpu, &of_entries, &[output]).is_none() {
        let most = of_entries.iter().map(bytes).max().unwrap_or(0).max(output.1.gpu_bytes(output.0.elements()));
        if entries < 2 {
            return Err(too_large(op, gpu, &all, &[output]));
        }
        return one_side_by_side(op, x.device(), output, 1, length(gpu, entries, most), &mut |first, count| {
            take(op, part(1, first, count).as_ref(), &x, &slice(slots, 0, first, count), block)
        });
    }
    if rows < 2 {
        return Err(too_large(op, gpu, &all, &[output]));
    }
    // What the slots of one part of the rows do not name stays as the parts before left it.
    let (slots, mut y) = (seen(gpu, slots)?, base.map(|base| seen(gpu, &base)).transpose()?);
    let each = length(gpu, rows, bytes(&x));
    for first in (0..rows).step_by(each) {
        let rows = each.min(rows - first);
        let x = seen(gpu, &slice(&x, 1, first, rows))?;
        let slots = super::within(op, &slots, first, rows)?;
        y = Some(super::take(op, y.as_ref(), &x, &slots, &Block { rows, ..*block })?);
    }
    y.ok_or_else(|| Error::argument(op, "no rows to take from"))
}

/// `y[o, r, :] = base[o, r, :] + sum of src[o, i, :] over the entries i of row r`; nothing is added to row `skip`.
pub(crate) fn sum_groups(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    slots: &Tensor,
    skip: Option<usize>,
    block: &Block,
) -> Result<Tensor> {
    let (gpu, entries, dtype) = (gpu_of(op, src)?, slots.elements(), src.dtype());
    let Block { outer, rows, .. } = *block;
    let (base, src) = (block_of(op, base, block, rows)?, shaped(op, src, &block.dims(op, entries)?)?);
    let sums = |dtype| (block.dims(op, rows).unwrap_or_default(), dtype);
    let list = |n| Ok::<_, Error>((Dims::new(op, &[n])?, DType::U32));
    let (starts, order) = (list(rows + 1)?, list(entries)?);
    let all: Vec<Tensor> = [&src, slots].into_iter().chain(&base).cloned().collect();
    if let Some([src, slots, base @ ..]) = windows(gpu, &all, &[sums(dtype), starts, order]).as_deref() {
        let slots = from_start(slots)?;
        let groups = group(op, &slots, rows)?;
        return super::sum_groups(op, base.first(), src, &slots, &groups, skip, block, dtype);
    }
    let part = |d, first, count| base.as_ref().map(|base| slice(base, d, first, count));
    if outer > 1 {
        let each = length(gpu, outer, bytes(&src).max(dtype.gpu_bytes(sums(dtype).0.elements())));
        return one_side_by_side(op, src.device(), sums(dtype), 0, each, &mut |first, outer| {
            let src = slice(&src, 0, first, outer);
            sum_groups(op, part(0, first, outer).as_ref(), &src, slots, skip, &Block { outer, ..*block })
        });
    }
    let wide = if dtype.is_half() { DType::F32 } else { dtype };
    let of_rows: Vec<Tensor> = base.iter().cloned().collect();
    if windows(gpu, &of_rows, &[sums(wide), starts]).is_none() {
        if rows < 2 {
            return Err(too_large(op, gpu, &all, &[sums(wide)]));
        }
        let most = wide.gpu_bytes(sums(wide).0.elements()).max(4 * rows as u64);
        return one_side_by_side(op, src.device(), sums(dtype), 1, length(gpu, rows, most), &mut |first, rows| {
            let slots = within(op, slots, first, rows)?;
            let skip = skip.and_then(|row| row.checked_sub(first));
            sum_groups(op, part(1, first, rows).as_ref(), &src, &slots, skip, &Block { rows, ..*block })
        });
    }
    if entries < 2 {
        return Err(too_large(op, gpu, &all, &[order]));
    }
    // Entries in parts, each added to the sums of those before.
    let mut sum = base.map(|base| base.cast(wide)).transpose()?;
    let each = length(gpu, entries, bytes(&src).max(4 * entries as u64));
    for first in (0..entries).step_by(each) {
        let count = each.min(entries - first);
        let src = seen(gpu, &slice(&src, 1, first, count))?;
        let slots = slice(slots, 0, first, count).copy()?;
        let groups = group(op, &slots, rows)?;
        let base = sum.map(|sum| seen(gpu, &sum)).transpose()?;
        sum = Some(super::sum_groups(op, base.as_ref(), &src, &slots, &groups, skip, block, wide)?);
    }
    sum.ok_or_else(|| Error::argument(op, "no entries to add"))?.cast(dtype)
}

/// 1 where the class is that of the slot, 0 elsewhere: [entries, classes].
pub(crate) fn one_hot(op: &'static str, slots: &Tensor, classes: usize) -> Result<Tensor> {
    let slots = shaped(op, slots, &[slots.elements()])?;
    let output = (Dims::new(op, &[slots.elements(), classes])?, DType::U32);
    piecewise(op, &[&slots], output, 1, &|slots| super::one_hot(op, &from_start(&slots[0])?, classes))
}
