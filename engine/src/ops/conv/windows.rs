//! Where the windows of a convolution lie, and windows as rows of a matrix.

use crate::autograd::record;
use crate::cpu::conv as cpu;
use crate::device::Kind;
use crate::kernels::conv as kernels;
use crate::layout::Dims;
use crate::ops::rows::{narrowed, prepared, wide};
use crate::ops::view::reshape_to;
use crate::{Device, Error, Result, Tensor};

/// Elements of windows in memory at a time.
const PIECE: usize = 1 << 26;
/// Channels of a group, of input and of output, up to which windows are read in place.
const THIN: usize = 4;

/// The windows of `[channels, size]`: where they lie, and what is made of them. One dimension is two, the second of size 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub channels: usize,
    pub size: [usize; 2],
    pub outputs: usize,
    pub out: [usize; 2],
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

/// A part of a batch: some images, or some rows of the output of one image.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// Images from this one on.
    pub first: usize,
    pub images: usize,
    /// Rows of the output from this one on.
    pub row: usize,
    pub rows: usize,
}

impl Windows {
    /// Windows along one dimension.
    pub fn line(size: usize, kernel: usize, stride: usize, out: usize) -> Self {
        Windows {
            channels: 1,
            size: [size, 1],
            outputs: 1,
            out: [out, 1],
            groups: 1,
            kernel: [kernel, 1],
            stride: [stride, 1],
            padding: [0; 2],
            dilation: [1; 2],
        }
    }

    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub fn places(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Multiplications and additions of so many images, in each direction, those with padding too.
    pub fn operations(&self, images: usize) -> u64 {
        2 * (images * self.outputs * self.places()) as u64 * (self.channels / self.groups * self.taps()) as u64
    }

    pub fn weight_shape(&self) -> [usize; 4] {
        [self.outputs, self.channels / self.groups, self.kernel[0], self.kernel[1]]
    }

    pub fn x_shape(&self, n: usize) -> [usize; 4] {
        [n, self.channels, self.size[0], self.size[1]]
    }

    pub fn y_shape(&self, n: usize) -> [usize; 4] {
        [n, self.outputs, self.out[0], self.out[1]]
    }

    /// Whether windows are read in place, since a group has but few channels.
    pub fn is_thin(&self) -> bool {
        self.groups > 1 && self.channels <= THIN * self.groups && self.outputs <= THIN * self.groups
    }

    /// Whether a window is the element at its place.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 2] && self.padding == [0; 2] && self.size == self.out
    }

    /// A batch of `n` images in pieces whose windows, and what is made of them, are not too large.
    pub(super) fn pieces(&self, n: usize, device: &Device) -> Vec<Piece> {
        let most = match device.kind() {
            Kind::Gpu(gpu) => PIECE.min(kernels::most_elements(gpu)),
            Kind::Cpu(_) => PIECE,
        };
        let windows = if self.is_thin() { 0 } else { self.places().saturating_mul(self.channels * self.taps()) };
        let image = windows.max(self.channels * self.size[0] * self.size[1]).max(self.outputs * self.places());
        let (height, images) = (self.out[0], most / image.max(1));
        if images > 0 || self.is_thin() {
            let each = images.max(1);
            let piece = |first| Piece { first, images: each.min(n - first), row: 0, rows: height };
            return (0..n).step_by(each).map(piece).collect();
        }
        let each = (most / image.div_ceil(height.max(1))).max(1);
        let band = |first, row| Piece { first, images: 1, row, rows: each.min(height - row) };
        (0..n).flat_map(|first| (0..height).step_by(each).map(move |row| band(first, row))).collect()
    }

    /// The windows of a piece alone, and the first of the rows of x that they see.
    pub(super) fn of(&self, piece: Piece) -> (Self, usize) {
        if piece.rows == self.out[0] {
            return (*self, 0);
        }
        let top = piece.row * self.stride[0];
        let bottom = top + (piece.rows - 1) * self.stride[0] + span(self.kernel[0], self.dilation[0]);
        let row = |at: usize| at.saturating_sub(self.padding[0]).min(self.size[0]);
        let (size, out) = ([row(bottom) - row(top), self.size[1]], [piece.rows, self.out[1]]);
        let padding = [self.padding[0].saturating_sub(top), self.padding[1]];
        (Windows { size, out, padding, ..*self }, row(top))
    }
}

/// Elements that a kernel spans.
pub(crate) fn span(kernel: usize, dilation: usize) -> usize {
    (kernel - 1).saturating_mul(dilation).saturating_add(1)
}

/// Windows of `x [n, channels, size]` as rows: `[n, places, channels * taps]`. Not recorded.
pub(super) fn unfold(op: &'static str, x: &Tensor, plan: &Windows) -> Result<Tensor> {
    let n = x.shape()[0];
    if plan.is_pointwise() {
        let x = x.permute(&[0, 2, 3, 1])?;
        return reshape_to(&x, Dims::new(op, &[n, plan.places(), plan.channels])?);
    }
    let shape = Dims::new(op, &[n, plan.places(), plan.channels * plan.taps()])?;
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    if x.elements() == 0 {
        return Tensor::zeros(&shape, x.dtype(), x.device());
    }
    match x.device().kind() {
        Kind::Cpu(_) => cpu::unfold(op, &prepared(x)?, plan),
        Kind::Gpu(_) => kernels::unfold(op, x, plan),
    }
}

/// The adjoint of [`unfold`], of f32 or f64.
pub(super) fn fold(op: &'static str, rows: &Tensor, plan: &Windows) -> Result<Tensor> {
    let n = rows.shape()[0];
    if plan.is_pointwise() {
        let shape = [n, plan.out[0], plan.out[1], plan.channels];
        return reshape_to(rows, Dims::new(op, &shape)?)?.permute(&[0, 3, 1, 2]);
    }
    let shape = Dims::new(op, &plan.x_shape(n))?;
    if shape.elements() == 0 {
        return Tensor::zeros(&shape, rows.dtype(), rows.device());
    }
    let rows = rows.contiguous()?;
    match rows.device().kind() {
        Kind::Cpu(_) => cpu::fold(op, &rows, plan),
        Kind::Gpu(_) => kernels::fold(op, &rows, plan),
    }
}

/// See [`Tensor::unfold`].
pub(crate) fn unfold_view(x: &Tensor, dim: isize, length: usize, step: usize) -> Result<Tensor> {
    let op = "unfold";
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if length == 0 || step == 0 || length > size {
        let message = format!("windows of {length} every {step} do not fit dimension {d} of size {size}");
        return Err(Error::argument(op, message));
    }
    let out = (size - length) / step + 1;
    let mut layout = x.layout().slice(d, 0, out, step);
    let stride = x.layout().strides[d];
    layout.shape = Dims::new(op, &[&*layout.shape, &[length]].concat())?;
    layout.strides = Dims::new(op, &[&*layout.strides, &[stride]].concat())?;
    let view = x.with_layout(layout);
    let (shape, rank) = (x.dims(), x.rank());
    Ok(record(op, view, &[x], move |dy, _| {
        // The dimension next to its windows, the others before; then back.
        let others = || (0..rank as isize).filter(|&i| i != d as isize);
        let axes: Vec<isize> = others().chain([d as isize, rank as isize]).collect();
        let rest: Vec<usize> = others().map(|i| shape[i as usize]).collect();
        let n = rest.iter().product();
        let rows = reshape_to(&wide(dy)?.permute(&axes)?, Dims::new(op, &[n, out, length])?)?;
        let dx = if n == 0 {
            Tensor::zeros(&[0, size], rows.dtype(), rows.device())?
        } else {
            fold(op, &rows, &Windows::line(size, length, step, out))?
        };
        let dx = reshape_to(&dx, Dims::new(op, &[&rest[..], &[size]].concat())?)?;
        let mut back: Vec<isize> = (0..rank as isize - 1).collect();
        back.insert(d, rank as isize - 1);
        Ok(vec![Some(narrowed(&dx.permute(&back)?, dy.dtype())?)])
    }))
}
