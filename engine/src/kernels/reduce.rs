//! Reduction kernels, and how reductions of rows are spread over invocations.

use super::{flag, gpu_of, size, window};
use crate::device::gpu::{Bind, Gpu, Launch};
use crate::layout::Dims;
use crate::{DType, Error, Result, Tensor};

/// What a reduction computes of its elements. The numbers are those of `reduce/fold.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum = 0,
    SumAbs = 1,
    SumSquares = 2,
    Prod = 3,
    Max = 4,
    Min = 5,
}

impl Fold {
    /// What is left to do with partial results.
    pub fn rest(self) -> Fold {
        match self {
            Fold::SumAbs | Fold::SumSquares => Fold::Sum,
            other => other,
        }
    }
}

/// A contiguous tensor seen as `[outer, n, inner]`, of which the middle is reduced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub outer: usize,
    pub n: usize,
    pub inner: usize,
}

/// How rows are spread: `lanes` invocations work on one row, `workgroup / lanes` rows on one workgroup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub workgroup: usize,
    pub lanes: usize,
}

impl Spread {
    /// For rows of `n` neighbouring elements: enough lanes that each has some eight elements. Software drivers run the
    /// lanes of a workgroup one after the other and pay for every barrier, so they get few.
    pub fn of_rows(gpu: &Gpu, n: usize) -> Self {
        if gpu.caps().software {
            return Spread { workgroup: 32, lanes: if n <= 16 { 1 } else { 8 } };
        }
        Spread { workgroup: 256, lanes: n.div_ceil(8).next_power_of_two().min(256) }
    }

    /// For rows of `n` neighbouring elements that are read in fours: some four of them for each lane of a GPU. A software
    /// driver's lanes have a row each.
    fn of_fours(gpu: &Gpu, n: usize) -> Self {
        match gpu.caps().software {
            true => Spread { workgroup: 8, lanes: 1 },
            false => Spread { workgroup: 256, lanes: n.div_ceil(16).next_power_of_two().min(256) },
        }
    }

    /// One invocation for each result: where neighbouring results read neighbouring elements.
    pub fn of_columns(gpu: &Gpu) -> Self {
        Spread { workgroup: if gpu.caps().software { 32 } else { 256 }, lanes: 1 }
    }

    pub fn groups(&self, rows: usize) -> u64 {
        rows.div_ceil(self.workgroup / self.lanes) as u64
    }

    pub fn constants(&self) -> [(&'static str, f64); 2] {
        [("WORKGROUP", self.workgroup as f64), ("LANES", self.lanes as f64)]
    }

    /// In how many parts to cut `n` elements so that `results` of them keep the device busy. No lane adds more than a
    /// thousand numbers one after the other, which also keeps rounding errors small.
    pub fn splits(&self, gpu: &Gpu, results: usize, n: usize) -> usize {
        let busy = if gpu.caps().software { 1 << 11 } else { 1 << 16 };
        let wanted = (busy / (results * self.lanes).max(1)).min(n / (self.lanes * 32));
        wanted.max(n.div_ceil(self.lanes * 1024)).max(1)
    }
}

/// The dtype of results: halves are folded to f32.
fn wide(dtype: DType) -> DType {
    if dtype.is_half() { DType::F32 } else { dtype }
}

/// As [`fold`], of tensors beyond what a binding holds too: rows by rows, or where a single one is too large, part by part.
pub(crate) fn fold_any(op: &'static str, how: Fold, x: &Tensor, axis: Axis, scale: f64) -> Result<Tensor> {
    let Axis { outer, n, inner } = axis;
    let limit = gpu_of(op, x)?.caps().max_binding_bytes;
    let row = x.dtype().gpu_bytes(n * inner);
    if row <= limit / 2 {
        let rows = window::shaped(op, x, &[outer, n * inner])?;
        let output = (Dims::new(op, &[outer, inner])?, wide(x.dtype()));
        let kernel = |x: &[Tensor]| fold(op, how, &x[0], Axis { outer: x[0].shape()[0], ..axis }, scale);
        return window::piecewise(op, &[&rows], output, 1, &kernel);
    }
    if DType::F32.gpu_bytes(8 * inner) > limit {
        let output = (Dims::new(op, &[outer, inner])?, wide(x.dtype()));
        return columnwise(op, x, axis, output, &|x, axis| fold_any(op, how, x, axis, scale));
    }
    // Parts of an even number of elements, so that each begins with a word.
    let chunk = n.div_ceil(row.div_ceil(limit / 4) as usize).next_multiple_of(2);
    let parts = n.div_ceil(chunk);
    let dense = window::shaped(op, x, &[outer * n, inner])?;
    let mut folded = Vec::new();
    for (row, part) in (0..outer).flat_map(|row| (0..parts).map(move |part| (row, part))) {
        let length = chunk.min(n - part * chunk);
        let part = dense.with_layout(dense.layout().slice(0, row * n + part * chunk, length, 1));
        let seen = window::window(gpu_of(op, x)?, &part).ok_or(Error::TooLarge {
            op,
            bytes: x.dtype().gpu_bytes(part.elements()),
            limit,
        })?;
        folded.push(fold(op, how, &seen, Axis { outer: 1, n: length, inner }, 1.0)?);
    }
    let together = Tensor::gpu_uninit(op, Dims::new(op, &[outer, parts, inner])?, wide(x.dtype()), x.device())?;
    for (i, part) in folded.iter().enumerate() {
        let bytes = 4 * inner as u64;
        let (from, to) = (part.gpu_storage(op)?, together.gpu_storage(op)?);
        gpu_of(op, x)?.copy(from, 0, to, bytes * i as u64, bytes)?;
    }
    fold_any(op, how.rest(), &together, Axis { n: parts, ..axis }, scale)
}

/// Reduces [outer, n, inner], of which a binding holds only a few rows of `inner`, in pieces along `inner`.
fn columnwise(
    op: &'static str,
    x: &Tensor,
    axis: Axis,
    output: window::Output,
    reduce: &dyn Fn(&Tensor, Axis) -> Result<Tensor>,
) -> Result<Tensor> {
    let Axis { outer, n, inner } = axis;
    let (gpu, x) = (gpu_of(op, x)?, window::shaped(op, x, &[outer, n, inner])?);
    let each = window::length(gpu, inner, DType::F32.gpu_bytes(8 * inner));
    window::one_side_by_side(op, x.device(), output, 1, each, &mut |start, inner| {
        reduce(&window::slice(&x, 2, start, inner).contiguous()?, Axis { inner, ..axis })
    })
}

/// How `reduce/fold.wgsl` goes through its elements; the numbers are those of the shader.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Any = 0,
    Rows = 1,
    Columns = 2,
}

impl Shape {
    fn of(offset: usize, axis: Axis) -> Self {
        let Axis { outer, n, inner } = axis;
        match offset % 4 {
            0 if inner == 1 && (outer == 1 || n.is_multiple_of(4)) => Shape::Rows,
            0 if inner.is_multiple_of(4) => Shape::Columns,
            _ => Shape::Any,
        }
    }

    fn spread(self, gpu: &Gpu, n: usize, inner: usize) -> Spread {
        match self {
            Shape::Rows => Spread::of_fours(gpu, n),
            Shape::Any if inner == 1 => Spread::of_rows(gpu, n),
            _ => Spread::of_columns(gpu),
        }
    }

    /// For how many results lanes go over `n` elements in how many steps.
    fn work(self, results: usize, n: usize) -> (usize, usize) {
        match self {
            Shape::Any => (results, n),
            Shape::Rows => (results, n.div_ceil(4)),
            Shape::Columns => (results / 4, n),
        }
    }
}

pub(crate) fn fold(op: &'static str, fold: Fold, x: &Tensor, axis: Axis, scale: f64) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let shape = Shape::of(x.layout().offset, axis);
    let (lines, steps) = shape.work(axis.outer * axis.inner, axis.n);
    let splits = shape.spread(gpu, axis.n, axis.inner).splits(gpu, lines, steps);
    if splits == 1 {
        return part(op, fold, x, axis, axis.n, scale);
    }
    // Parts of whole fours, none of them empty.
    let chunk = axis.n.div_ceil(splits).next_multiple_of(4);
    let parts = part(op, fold, x, axis, chunk, 1.0)?;
    self::fold(op, fold.rest(), &parts, Axis { n: axis.n.div_ceil(chunk), ..axis }, scale)
}

/// Folds each part of `chunk` elements of the middle dimension: `[outer, parts, inner]`.
fn part(op: &'static str, fold: Fold, x: &Tensor, axis: Axis, chunk: usize, scale: f64) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Axis { outer, n, inner } = axis;
    let (offset, parts) = (x.layout().offset, n.div_ceil(chunk.max(1)).max(1));
    let shape = Shape::of(offset, axis);
    let results = outer * parts * inner;
    let spread = shape.spread(gpu, chunk, inner);
    let y = Tensor::gpu_uninit(op, Dims::new(op, &[outer, parts, inner])?, wide(x.dtype()), x.device())?;
    let sizes = [results, n, inner, parts, chunk, offset];
    let mut params: Vec<u32> = sizes.iter().map(|&s| size(op, s)).collect::<Result<_>>()?;
    size(op, outer * n * inner)?;
    params.push((scale as f32).to_bits());
    let [workgroup, lanes] = spread.constants();
    gpu.run(Launch {
        kernel: "reduce/fold",
        elems: &[("x", x.dtype()), ("y", y.dtype())],
        constants: &[workgroup, lanes, ("FOLD", f64::from(fold as u32)), ("SHAPE", f64::from(shape as u32))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(y.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(shape.work(results, n).0),
    })?;
    Ok(y)
}

/// Indices of extremes. Of parts, where a binding does not hold a row: then of the extremes of the parts.
pub(crate) fn arg(op: &'static str, largest: bool, x: &Tensor, axis: Axis) -> Result<Tensor> {
    let (gpu, Axis { outer, n, inner }) = (gpu_of(op, x)?, axis);
    let limit = gpu.caps().max_binding_bytes;
    let row = x.dtype().gpu_bytes(n * inner);
    let output = (Dims::new(op, &[outer, inner])?, DType::U32);
    if row <= limit {
        let rows = window::shaped(op, x, &[outer, n * inner])?;
        let kernel = |x: &[Tensor]| arg_part(op, largest, &x[0], Axis { outer: x[0].shape()[0], ..axis });
        return window::piecewise(op, &[&rows], output, 1, &kernel);
    }
    if DType::F32.gpu_bytes(8 * inner) > limit {
        return columnwise(op, x, axis, output, &|x, axis| arg(op, largest, x, axis));
    }
    let (x, each) = (window::shaped(op, x, &[outer, n, inner])?, window::length(gpu, n, row));
    let (mut extremes, mut places) = (Vec::new(), Vec::new());
    for start in (0..n).step_by(each) {
        let part = window::slice(&x, 1, start, each.min(n - start)).contiguous()?;
        let axis = Axis { n: part.shape()[1], ..axis };
        let extreme = fold_any(op, if largest { Fold::Max } else { Fold::Min }, &part, axis, 1.0)?;
        let first = Tensor::scalar(start as f64, DType::U32, x.device())?;
        extremes.push(window::shaped(op, &extreme, &[outer, 1, inner])?);
        places.push(window::shaped(op, &arg(op, largest, &part, axis)?.add(&first)?, &[outer, 1, inner])?);
    }
    let together = |parts: &[Tensor]| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1);
    let part = arg(op, largest, &together(&extremes)?, Axis { n: extremes.len(), ..axis })?;
    let place = together(&places)?.gather(1, &window::shaped(op, &part, &[outer, 1, inner])?)?;
    window::shaped(op, &place, &[outer, inner])
}

fn arg_part(op: &'static str, largest: bool, x: &Tensor, axis: Axis) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Axis { outer, n, inner } = axis;
    let results = outer * inner;
    let spread = if inner == 1 { Spread::of_rows(gpu, n) } else { Spread::of_columns(gpu) };
    let y = Tensor::gpu_uninit(op, Dims::new(op, &[outer, inner])?, DType::U32, x.device())?;
    let params = [size(op, results)?, size(op, n)?, size(op, inner)?, size(op, x.layout().offset)?];
    size(op, outer * n * inner)?;
    let [workgroup, lanes] = spread.constants();
    gpu.run(Launch {
        kernel: "reduce/arg",
        elems: &[("x", x.dtype())],
        constants: &[workgroup, lanes, ("LARGEST", flag(largest))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(y.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(results),
    })?;
    Ok(y)
}
