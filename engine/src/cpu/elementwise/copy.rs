//! Dense copies of views, blocks with zeros around them, and conversions between element types.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::cpu::parallel::{PARALLEL, fill_rows, for_pieces, map};
use crate::cpu::pool::take;
use crate::cpu::strided::Walk;
use crate::layout::Dims;
use crate::ops::elementwise::Place;
use crate::storage::{CpuData, Element};
use crate::{DType, Result, Tensor};

/// A dense copy of any view.
pub(crate) fn copy(op: &'static str, x: &Tensor) -> Result<Tensor> {
    fn run<T: Element>(op: &'static str, x: &Tensor) -> Result<Tensor> {
        Tensor::from_cpu(op, gather(x.cpu_all::<T>(op)?, x), x.dims(), x.device())
    }
    match x.cpu_data(op)? {
        CpuData::F32(_) => run::<f32>(op, x),
        CpuData::F16(_) => run::<f16>(op, x),
        CpuData::BF16(_) => run::<bf16>(op, x),
        CpuData::F64(_) => run::<f64>(op, x),
        CpuData::I32(_) => run::<i32>(op, x),
        CpuData::U32(_) => run::<u32>(op, x),
        CpuData::Bool(_) => run::<bool>(op, x),
    }
}

fn gather<T: Element>(all: &[T], x: &Tensor) -> Vec<T> {
    let n = x.elements();
    let walk = Walk::new([*x.layout()]);
    let step = walk.steps[0];
    match walk.last_two() {
        (columns, Some((rows, 1))) if step > 1 && rows > 1 && columns > 0 => transpose(all, &walk, n, rows, columns),
        _ => walk.fill(n, |out, [i]| match step {
            1 => out.copy_from_slice(&all[i..i + out.len()]),
            0 => out.fill(all[i]),
            _ => out.iter_mut().enumerate().for_each(|(k, out)| *out = all[i + k * step]),
        }),
    }
}

/// Planes whose rows, not columns, are contiguous in memory: read in runs of [`BLOCK`], written in as many streams.
fn transpose<T: Element>(all: &[T], walk: &Walk<1>, n: usize, rows: usize, columns: usize) -> Vec<T> {
    const BLOCK: usize = 16;
    let step = walk.steps[0];
    let block = |first: usize, out: &mut [T]| {
        // The first element of the block; the others lie beside it and `step` apart.
        let mut base = 0;
        walk.pieces(first, 1, |_, [i], _| base = i);
        let height = out.len() / columns;
        for column in 0..columns {
            let from = base + column * step;
            for (row, &value) in all[from..from + height].iter().enumerate() {
                out[row * columns + column] = value;
            }
        }
    };
    let mut out = take(n);
    let size = rows * columns;
    let plane = |plane: usize, out: &mut [T]| {
        let blocks = out.chunks_mut(BLOCK * columns).enumerate();
        blocks.for_each(|(i, out)| block(plane * size + i * BLOCK * columns, out));
    };
    if n / size >= 8 || n < PARALLEL {
        for_pieces(&mut out, size, 1, &plane);
    } else {
        for (plane, out) in out.chunks_mut(size).enumerate() {
            for_pieces(out, BLOCK * columns, 1, &|i, out| block(plane * size + i * BLOCK * columns, out));
        }
    }
    out
}

/// Zeros with `x` in their midst; see [`crate::ops::elementwise::embed`].
pub(crate) fn embed(op: &'static str, x: &Tensor, shape: Dims, place: Place) -> Result<Tensor> {
    fn run<T: Element>(op: &'static str, x: &Tensor, shape: Dims, place: Place) -> Result<Tensor> {
        let Place { inner, size, length, start, step, .. } = place;
        let values = x.cpu_slice::<T>(op)?;
        let out = fill_rows(place.outer, size * inner, |row, out| {
            let block = &values[row * length * inner..(row + 1) * length * inner];
            if step == 1 {
                return out[start * inner..(start + length) * inner].copy_from_slice(block);
            }
            for k in 0..length {
                let to = (start + k * step) * inner;
                out[to..to + inner].copy_from_slice(&block[k * inner..(k + 1) * inner]);
            }
        });
        Tensor::from_cpu(op, out, shape, x.device())
    }
    match x.cpu_data(op)? {
        CpuData::F32(_) => run::<f32>(op, x, shape, place),
        CpuData::F16(_) => run::<f16>(op, x, shape, place),
        CpuData::BF16(_) => run::<bf16>(op, x, shape, place),
        CpuData::F64(_) => run::<f64>(op, x, shape, place),
        CpuData::I32(_) => run::<i32>(op, x, shape, place),
        CpuData::U32(_) => run::<u32>(op, x, shape, place),
        CpuData::Bool(_) => run::<bool>(op, x, shape, place),
    }
}

/// The values of a contiguous tensor in another dtype. Every dtype fits into f64, so that is the way between most pairs.
pub(crate) fn cast(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    match x.cpu_data(op)? {
        CpuData::F32(_) => from_f32(op, x, dtype),
        CpuData::F16(_) if dtype == DType::F32 => blocks(op, x, |x: &[f16], y: &mut [f32]| x.convert_to_f32_slice(y)),
        CpuData::BF16(_) if dtype == DType::F32 => blocks(op, x, |x: &[bf16], y: &mut [f32]| x.convert_to_f32_slice(y)),
        CpuData::F16(_) => from(op, x, dtype, f16::to_f64),
        CpuData::BF16(_) => from(op, x, dtype, bf16::to_f64),
        CpuData::F64(_) => from(op, x, dtype, |v: f64| v),
        CpuData::I32(_) => from(op, x, dtype, |v: i32| f64::from(v)),
        CpuData::U32(_) => from(op, x, dtype, |v: u32| f64::from(v)),
        CpuData::Bool(_) => from(op, x, dtype, |v: bool| f64::from(u8::from(v))),
    }
}

fn from_f32(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    match dtype {
        DType::F16 => blocks(op, x, |x: &[f32], y: &mut [f16]| y.convert_from_f32_slice(x)),
        DType::BF16 => blocks(op, x, |x: &[f32], y: &mut [bf16]| y.convert_from_f32_slice(x)),
        DType::I32 => each(op, x, |v: f32| v as i32),
        DType::U32 => each(op, x, |v: f32| v as u32),
        _ => from(op, x, dtype, |v: f32| f64::from(v)),
    }
}

fn from<T: Element>(op: &'static str, x: &Tensor, dtype: DType, wide: impl Fn(T) -> f64 + Sync) -> Result<Tensor> {
    match dtype {
        DType::F32 => each(op, x, |v: T| wide(v) as f32),
        DType::F16 => each(op, x, |v: T| f16::from_f64(wide(v))),
        DType::BF16 => each(op, x, |v: T| bf16::from_f64(wide(v))),
        DType::F64 => each(op, x, wide),
        DType::I32 => each(op, x, |v: T| wide(v) as i32),
        DType::U32 => each(op, x, |v: T| wide(v) as u32),
        DType::Bool => each(op, x, |v: T| wide(v) != 0.0),
    }
}

fn each<T: Element, O: Element>(op: &'static str, x: &Tensor, f: impl Fn(T) -> O + Sync) -> Result<Tensor> {
    blocks(op, x, |x: &[T], y: &mut [O]| y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x)))
}

fn blocks<T: Element, O: Element>(op: &'static str, x: &Tensor, f: impl Fn(&[T], &mut [O]) + Sync) -> Result<Tensor> {
    Tensor::from_cpu(op, map(x.cpu_slice::<T>(op)?, f), x.dims(), x.device())
}
