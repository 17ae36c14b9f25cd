//! Pooling and interpolation. Each is, along one dimension after the other, a sparse matrix of a few entries a row; its gradient is
//! the transposed matrix, so that one kernel serves all of them, both ways, with sums in a fixed order.

use crate::autograd::record;
use crate::cpu::resample as cpu;
use crate::device::Kind;
use crate::kernels::resample as kernels;
use crate::layout::{Dims, Layout};
use crate::ops::conv::span;
use crate::ops::view::reshape_to;
use crate::{DType, Device, Error, Result, Tensor};

/// The windows of a pooling over `D` dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool<const D: usize> {
    /// Elements of a window.
    pub kernel: [usize; D],
    /// Elements from a window to the next.
    pub stride: [usize; D],
    /// Elements added at both ends, at most half a window: they are never the maximum, and count as zeros in a mean.
    pub padding: [usize; D],
    /// Elements from one of a window to the next. Of the maximum alone.
    pub dilation: [usize; D],
    /// Whether the last window may reach beyond the padding, as long as it begins before its end.
    pub ceil_mode: bool,
    /// Whether a mean divides by the elements of the padding, too.
    pub count_include_pad: bool,
}

impl<const D: usize> Pool<D> {
    /// Windows side by side, without padding.
    pub fn new(kernel: [usize; D]) -> Self {
        Pool { kernel, stride: kernel, padding: [0; D], dilation: [1; D], ceil_mode: false, count_include_pad: true }
    }
}

/// How [`Tensor::interpolate`] makes an element of those next to it. Coordinates are those of the centres of elements; with
/// `align_corners`, the first and the last stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Element `floor(i * size / new size)`.
    Nearest,
    /// A line through two elements; over two dimensions bilinear.
    Linear {
        /// Whether the outermost elements keep their places.
        align_corners: bool,
    },
    /// Cubic convolution of four elements with a = -0.75 (Keys 1981); over two dimensions bicubic.
    Cubic {
        /// Whether the outermost elements keep their places.
        align_corners: bool,
    },
}

/// A sparse matrix `[rows, size]`, by rows.
#[derive(Debug)]
pub(crate) struct Table {
    pub size: usize,
    /// Row i has the entries `starts[i]..starts[i + 1]`.
    pub starts: Vec<u32>,
    pub sources: Vec<u32>,
    pub weights: Vec<f64>,
}

impl Table {
    /// Of rows of (column, weight), which have so many entries at most. They and their transpose are made on the host.
    fn new(
        op: &'static str,
        size: usize,
        entries: usize,
        rows: impl Iterator<Item = Vec<(usize, f64)>>,
    ) -> Result<Self> {
        if entries >= 1 << 31 || size >= 1 << 31 {
            let message = format!("windows over {size} elements hold more than a kernel counts, 2^31");
            return Err(Error::shape(op, message));
        }
        Device::cpu().expect_room(op, 4 * entries, DType::F64)?;
        let mut table = Table { size, starts: vec![0], sources: Vec::new(), weights: Vec::new() };
        for row in rows {
            for (source, weight) in row {
                table.sources.push(source as u32);
                table.weights.push(weight);
            }
            table.starts.push(table.sources.len() as u32);
        }
        Ok(table)
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entries of a row: columns and weights.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.starts[i] as usize..self.starts[i + 1] as usize;
        range.map(|e| (self.sources[e] as usize, self.weights[e]))
    }

    fn transposed(&self) -> Self {
        let mut starts = vec![0u32; self.size + 1];
        self.sources.iter().for_each(|&source| starts[source as usize + 1] += 1);
        for i in 0..self.size {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let (mut sources, mut weights) = (vec![0; self.sources.len()], vec![0.0; self.sources.len()]);
        for i in 0..self.rows() {
            for (source, weight) in self.row(i) {
                let at = next[source] as usize;
                (sources[at], weights[at]) = (i as u32, weight);
                next[source] += 1;
            }
        }
        Table { size: self.rows(), starts, sources, weights }
    }
}

/// A tensor as `[outer, size of dimension d, inner]`.
fn around(op: &'static str, x: &Tensor, d: usize) -> Result<Tensor> {
    let (outer, inner) = (x.shape()[..d].iter().product(), x.shape()[d + 1..].iter().product());
    reshape_to(&x.detach().contiguous()?, Dims::new(op, &[outer, x.shape()[d], inner])?)
}

fn with_rows(x: &Tensor, d: usize, rows: usize) -> Dims {
    let mut shape = x.dims();
    shape[d] = rows;
    shape
}

/// The matrix along dimension `d` of f32 or f64; see [`kernels::weighted`]. Not recorded.
fn multiply(op: &'static str, x: &Tensor, d: usize, table: &Table, chosen: Option<&Tensor>) -> Result<Tensor> {
    let shape = with_rows(x, d, table.rows());
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    if shape.elements() == 0 || x.elements() == 0 {
        return Tensor::zeros(&shape, x.dtype(), x.device());
    }
    let (rows, chosen) = (around(op, x, d)?, chosen.map(|c| around(op, c, d)).transpose()?);
    let y = match x.device().kind() {
        Kind::Cpu(_) => cpu::weighted(op, &rows, table, chosen.as_ref()),
        Kind::Gpu(_) => kernels::weighted(op, &rows, table, chosen.as_ref()),
    }?;
    reshape_to(&y, shape)
}

/// The matrix along dimension `d`.
fn weighted(op: &'static str, x: &Tensor, d: usize, table: Table) -> Result<Tensor> {
    let y = multiply(op, &x.detach(), d, &table, None)?;
    let adjoint = table.transposed();
    Ok(record(op, y, &[x], move |dy, _| Ok(vec![Some(multiply(op, dy, d, &adjoint, None)?)])))
}

/// The highest element of each row along dimension `d`. Of equal ones the first is it, and gets the gradient.
fn highest(op: &'static str, x: &Tensor, d: usize, table: Table) -> Result<Tensor> {
    let shape = with_rows(x, d, table.rows());
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    if shape.elements() == 0 {
        let (like, y) = (x.detach(), Tensor::zeros(&shape, x.dtype(), x.device())?);
        return Ok(record(op, y, &[x], move |_, _| Ok(vec![Some(like.zeros_like()?)])));
    }
    let rows = around(op, x, d)?;
    let (y, chosen) = match x.device().kind() {
        Kind::Cpu(_) => cpu::highest(op, &rows, &table)?,
        Kind::Gpu(_) => kernels::highest(op, &rows, &table)?,
    };
    let (y, chosen, adjoint) = (reshape_to(&y, shape)?, reshape_to(&chosen, shape)?, table.transposed());
    Ok(record(op, y, &[x], move |dy, _| Ok(vec![Some(multiply(op, dy, d, &adjoint, Some(&chosen))?)])))
}

type Along = fn(&'static str, &Tensor, usize, Table) -> Result<Tensor>;

/// One matrix after the other along the last dimensions, the last first; halves are widened for it, and rounded once.
fn each(op: &'static str, x: &Tensor, along: Along, tables: Vec<Table>) -> Result<Tensor> {
    let first = x.rank() - tables.len();
    let wide = if x.dtype().is_half() { x.cast(DType::F32)? } else { x.clone() };
    let mut tables: Vec<(usize, Table)> = tables.into_iter().enumerate().collect();
    tables.reverse();
    let y = tables.into_iter().try_fold(wide, |y, (i, table)| along(op, &y, first + i, table))?;
    y.cast(x.dtype())
}

/// Sizes of the dimensions behind batch and channels.
fn sizes<const D: usize>(op: &'static str, x: &Tensor) -> Result<[usize; D]> {
    x.expect_float(op)?;
    let refuse = || Error::shape(op, format!("shape {:?}, expected {} dimensions", x.shape(), D + 2));
    match x.shape() {
        [_, _, sizes @ ..] => sizes.try_into().map_err(|_| refuse()),
        _ => Err(refuse()),
    }
}

impl<const D: usize> Pool<D> {
    /// The windows along dimension `d` of `size` elements: first element and end of each, counted from the start of the padding.
    fn windows(&self, op: &'static str, d: usize, size: usize) -> Result<Vec<(usize, usize)>> {
        let (kernel, stride, padding) = (self.kernel[d], self.stride[d], self.padding[d]);
        if kernel == 0 || stride == 0 || self.dilation[d] == 0 || padding > kernel / 2 {
            let message = format!(
                "kernel {kernel}, stride {stride}, dilation {}, padding {padding}: expected numbers from 1 on, and a padding of at most half the kernel",
                self.dilation[d]
            );
            return Err(Error::argument(op, message));
        }
        let span = span(kernel, self.dilation[d]);
        let padded = size.saturating_add(2 * padding);
        let Some(room) = padded.checked_sub(span).filter(|_| padded < 1 << 31) else {
            let message =
                format!("a window that spans {span} elements for {padded} with their padding, of at most 2^31");
            return Err(Error::shape(op, message));
        };
        let steps = if self.ceil_mode { room.div_ceil(stride) } else { room / stride };
        let starts = (0..=steps).map(|i| i * stride).filter(|&start| start < size + padding);
        Ok(starts.map(|start| (start, start + span)).collect())
    }
}

/// See [`Tensor::max_pool2d`].
pub(crate) fn max_pool<const D: usize>(op: &'static str, x: &Tensor, pool: &Pool<D>) -> Result<Tensor> {
    let sizes = sizes::<D>(op, x)?;
    let table = |d: usize| {
        let (size, padding) = (sizes[d], pool.padding[d]);
        let windows = pool.windows(op, d, size)?;
        let row = |(start, end): (usize, usize)| -> Vec<(usize, f64)> {
            let dilation = pool.dilation[d];
            let first = start + padding.saturating_sub(start).div_ceil(dilation).saturating_mul(dilation);
            (first..end.min(size + padding)).step_by(dilation).map(|i| (i - padding, 1.0)).collect()
        };
        let entries = windows.len().saturating_mul(pool.kernel[d].min(size));
        let table = Table::new(op, size, entries, windows.into_iter().map(row))?;
        match table.starts.windows(2).any(|row| row[0] == row[1]) {
            true => Err(Error::argument(op, format!("a window lies in the padding of {padding} alone"))),
            false => Ok(table),
        }
    };
    each(op, x, highest, (0..D).map(table).collect::<Result<_>>()?)
}

/// See [`Tensor::avg_pool2d`].
pub(crate) fn avg_pool<const D: usize>(op: &'static str, x: &Tensor, pool: &Pool<D>) -> Result<Tensor> {
    let sizes = sizes::<D>(op, x)?;
    if pool.dilation != [1; D] {
        return Err(Error::argument(
            op,
            format!("dilation {:?}, expected 1: a mean takes all of a window", pool.dilation),
        ));
    }
    let table = |d: usize| {
        let (size, padding) = (sizes[d], pool.padding[d]);
        let windows = pool.windows(op, d, size)?;
        let row = |(start, end): (usize, usize)| {
            let (first, last) = (start.max(padding) - padding, end.saturating_sub(padding).min(size));
            let padded = end.min(size + 2 * padding) - start;
            let count = if pool.count_include_pad { padded } else { last.saturating_sub(first) };
            (first..last).map(|i| (i, 1.0 / count as f64)).collect()
        };
        let entries = windows.len().saturating_mul(pool.kernel[d].min(size));
        Table::new(op, size, entries, windows.into_iter().map(row))
    };
    each(op, x, weighted, (0..D).map(table).collect::<Result<_>>()?)
}

/// See [`Tensor::adaptive_avg_pool2d`].
pub(crate) fn adaptive_avg_pool<const D: usize>(op: &'static str, x: &Tensor, out: [usize; D]) -> Result<Tensor> {
    let sizes = sizes::<D>(op, x)?;
    expect_output(op, x, &sizes, &out)?;
    let table = |d: usize| {
        let size = sizes[d];
        let row = |i: usize| {
            let (start, end) = (i * size / out[d], ((i + 1) * size).div_ceil(out[d]));
            (start..end).map(|j| (j, 1.0 / (end - start) as f64)).collect()
        };
        Table::new(op, size, size.saturating_add(2 * out[d]), (0..out[d]).map(row))
    };
    each(op, x, weighted, (0..D).map(table).collect::<Result<_>>()?)
}

/// Errs unless new sizes can be had of the last ones of x, and are not too large.
fn expect_output(op: &'static str, x: &Tensor, sizes: &[usize], out: &[usize]) -> Result<()> {
    let lead = x.rank() - sizes.len();
    let shape = Layout::contiguous(op, &[&x.shape()[..lead], out].concat())?.shape;
    // Before tables are made for it.
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    if let Kind::Gpu(_) = x.device().kind() {
        crate::kernels::size(op, shape.elements())?;
    }
    if sizes.contains(&0) || out.iter().chain(sizes).any(|&n| n >= 1 << 31) {
        let message = format!("sizes {out:?} of {sizes:?}: expected some elements, and less than 2^31");
        return Err(Error::shape(op, message));
    }
    Ok(())
}

/// See [`Tensor::interpolate`].
pub(crate) fn interpolate(x: &Tensor, out: &[usize], how: Interpolation) -> Result<Tensor> {
    let op = "interpolate";
    x.expect_float(op)?;
    let Some(lead) = x.rank().checked_sub(out.len()) else {
        return Err(Error::shape(op, format!("sizes {out:?} for shape {:?}, which has fewer dimensions", x.shape())));
    };
    let sizes = x.shape()[lead..].to_vec();
    expect_output(op, x, &sizes, out)?;
    let table =
        |(&size, &out): (&usize, &usize)| Table::new(op, size, 4 * out, (0..out).map(|i| taps(i, size, out, how)));
    each(op, x, weighted, sizes.iter().zip(out).map(table).collect::<Result<_>>()?)
}

/// What element `i` of `out` is made of.
fn taps(i: usize, size: usize, out: usize, how: Interpolation) -> Vec<(usize, f64)> {
    let source = |align_corners: bool| match align_corners {
        true if out > 1 => i as f64 * (size - 1) as f64 / (out - 1) as f64,
        true => 0.0,
        false => (i as f64 + 0.5) * size as f64 / out as f64 - 0.5,
    };
    let inside = |at: f64| at.clamp(0.0, (size - 1) as f64) as usize;
    match how {
        Interpolation::Nearest => vec![((i * size / out).min(size - 1), 1.0)],
        Interpolation::Linear { align_corners } => {
            let at = source(align_corners).max(0.0);
            let part = at - at.floor();
            vec![(inside(at.floor()), 1.0 - part), (inside(at.floor() + 1.0), part)]
        }
        Interpolation::Cubic { align_corners } => {
            let at = source(align_corners);
            let part = at - at.floor();
            (-1..3).map(|k| (inside(at.floor() + f64::from(k)), cubic((f64::from(k) - part).abs()))).collect()
        }
    }
}

/// The kernel of cubic convolution at a distance (Keys, "Cubic convolution interpolation for digital image processing", 1981).
fn cubic(distance: f64) -> f64 {
    let (a, d) = (-0.75, distance);
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
