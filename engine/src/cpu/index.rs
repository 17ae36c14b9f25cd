//! Indexing in plain Rust. What slots are, and how the pieces work together, stands in [`crate::ops::index`].

use half::{bf16, f16};

use super::by_dtype;
use super::parallel::{fill, fill_rows};
use crate::ops::index::{Block, Groups, Positions};
use crate::storage::{CpuData, Element};
use crate::{Error, Result, Tensor};

/// An element type that can be summed, in f64.
pub(crate) trait Number: Element {
    fn to_f64(self) -> f64;
    fn from_f64(value: f64) -> Self;
}

impl Number for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Number for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

impl Number for f16 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        f16::from_f64(value)
    }
}

impl Number for bf16 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        bf16::from_f64(value)
    }
}

/// Sums of integers wrap around, as they do in the kernels.
impl Number for i32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as i64 as i32
    }
}

impl Number for u32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as i64 as u32
    }
}

pub(crate) fn slots(op: &'static str, index: &Tensor, positions: &Positions) -> Result<Tensor> {
    let place = |(i, value): (usize, i64)| match usize::try_from(value).ok().filter(|&v| v < positions.size) {
        Some(v) => Ok(positions.slot(i, v)),
        None => Err(Error::Index { op, index: value, size: positions.size }),
    };
    let slots: Vec<u32> = match index.cpu_data(op)? {
        CpuData::I32(_) => {
            let values = index.cpu_slice::<i32>(op)?;
            values.iter().map(|&v| i64::from(v)).enumerate().map(place).collect::<Result<_>>()?
        }
        _ => {
            let values = index.cpu_slice::<u32>(op)?;
            values.iter().map(|&v| i64::from(v)).enumerate().map(place).collect::<Result<_>>()?
        }
    };
    Tensor::from_cpu(op, slots, index.dims(), index.device())
}

pub(crate) fn take(
    op: &'static str,
    base: Option<&Tensor>,
    x: &Tensor,
    slots: &Tensor,
    block: &Block,
) -> Result<Tensor> {
    fn run<T: Element>(
        op: &'static str,
        base: Option<&Tensor>,
        x: &Tensor,
        slots: &Tensor,
        block: &Block,
    ) -> Result<Tensor> {
        let (from, slots) = (x.cpu_slice::<T>(op)?, slots.cpu_slice::<u32>(op)?);
        let base = base.map(|b| b.cpu_slice::<T>(op)).transpose()?;
        let Block { outer, rows, inner } = *block;
        let out = fill_rows(outer * slots.len(), inner, |at, out: &mut [T]| {
            match (slots[at % slots.len()] as usize).checked_sub(1) {
                Some(row) => {
                    let start = (at / slots.len() * rows + row) * inner;
                    out.copy_from_slice(&from[start..start + inner]);
                }
                None => {
                    if let Some(base) = base {
                        out.copy_from_slice(&base[at * inner..(at + 1) * inner]);
                    }
                }
            }
        });
        Tensor::from_cpu(op, out, block.dims(op, slots.len())?, x.device())
    }
    by_dtype!(x.dtype(), T => run::<T>(op, base, x, slots, block))
}

pub(crate) fn invert(op: &'static str, slots: &Tensor, rows: usize) -> Result<Tensor> {
    let mut out = vec![0u32; rows];
    for (i, &slot) in slots.cpu_slice::<u32>(op)?.iter().enumerate() {
        if slot > 0 {
            out[slot as usize - 1] = i as u32 + 1;
        }
    }
    Tensor::from_cpu(op, out, crate::Dims::new(op, &[rows])?, slots.device())
}

/// A counting sort: how many entries each row has, where each row's entries start, then every entry to its place.
pub(crate) fn group(op: &'static str, slots: &Tensor, rows: usize) -> Result<Groups> {
    let values = slots.cpu_slice::<u32>(op)?;
    let mut starts = vec![0u32; rows + 2];
    for &slot in values {
        starts[slot as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0u32; values.len()];
    for (i, &slot) in values.iter().enumerate() {
        order[next[slot as usize] as usize] = i as u32;
        next[slot as usize] += 1;
    }
    // Slot 0 is nothing; row 0 starts behind its entries.
    let starts = starts.split_off(1);
    let device = slots.device();
    Ok(Groups {
        order: Tensor::from_cpu(op, order, slots.dims(), device)?,
        starts: Tensor::from_cpu(op, starts, crate::Dims::new(op, &[rows + 1])?, device)?,
    })
}

pub(crate) fn sum_groups(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    groups: &Groups,
    skip: Option<usize>,
    block: &Block,
) -> Result<Tensor> {
    match src.cpu_data(op)? {
        CpuData::F32(_) => sum_typed::<f32>(op, base, src, groups, skip, block),
        CpuData::F64(_) => sum_typed::<f64>(op, base, src, groups, skip, block),
        CpuData::F16(_) => sum_typed::<f16>(op, base, src, groups, skip, block),
        CpuData::BF16(_) => sum_typed::<bf16>(op, base, src, groups, skip, block),
        CpuData::I32(_) => sum_typed::<i32>(op, base, src, groups, skip, block),
        CpuData::U32(_) => sum_typed::<u32>(op, base, src, groups, skip, block),
        CpuData::Bool(_) => Err(Error::DType { op, got: src.dtype(), expected: "a dtype that can be added" }),
    }
}

/// Columns that [`sum_typed`] adds up side by side.
const PIECE: usize = 64;

fn sum_typed<T: Number>(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    groups: &Groups,
    skip: Option<usize>,
    block: &Block,
) -> Result<Tensor> {
    let from = src.cpu_slice::<T>(op)?;
    let base = base.map(|b| b.cpu_slice::<T>(op)).transpose()?;
    let (order, starts) = (groups.order.cpu_slice::<u32>(op)?, groups.starts.cpu_slice::<u32>(op)?);
    let Block { outer, rows, inner } = *block;
    let out = fill_rows(outer * rows, inner, |at, out: &mut [T]| {
        if let Some(base) = base {
            out.copy_from_slice(&base[at * inner..(at + 1) * inner]);
        }
        let (o, row) = (at / rows, at % rows);
        let members = &order[starts[row] as usize..starts[row + 1] as usize];
        if members.is_empty() || skip == Some(row) {
            return;
        }
        // Columns by the piece, so that rows are read along their length.
        for (piece, out) in out.chunks_mut(PIECE).enumerate() {
            let mut sums = [0.0; PIECE];
            for &i in members {
                let row = &from[(o * order.len() + i as usize) * inner + piece * PIECE..][..out.len()];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.to_f64());
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::from_f64(out.to_f64() + sum));
        }
    });
    Tensor::from_cpu(op, out, block.dims(op, rows)?, src.device())
}

/// `index[i] == class` as 0 and 1, for slots that stand for classes.
pub(crate) fn one_hot(op: &'static str, slots: &Tensor, classes: usize) -> Result<Tensor> {
    let values = slots.cpu_slice::<u32>(op)?;
    let out = fill(values.len() * classes, |i| u32::from(values[i / classes] as usize == i % classes + 1));
    let shape = [slots.shape(), &[classes]].concat();
    Tensor::from_cpu(op, out, crate::Dims::new(op, &shape)?, slots.device())
}
