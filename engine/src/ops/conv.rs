//! Convolutions and transposed convolutions over one or two dimensions.
//!
//! One is the adjoint of the other, so three functions make both: [`forward`] (x, weight to y), [`input`] (y, weight to x) and [`weight`]
//! (x, y to weight). Each is a matrix product with windows as rows ([`unfold`] and its adjoint [`fold`]); where a group has but few channels,
//! as in a depthwise convolution, that would be many copies for thin products, and kernels of their own read the windows in place.
//! Windows are not kept for the backward, and of large batches only a piece has them at a time: they hold each element once for each tap.

use crate::autograd::record;
use crate::cpu::conv as cpu;
use crate::device::Kind;
use crate::kernels::conv as kernels;
use crate::layout::{Dims, Layout};
use crate::ops::join;
use crate::ops::rows::{narrowed, prepared, wide};
use crate::ops::view::reshape_to;
use crate::{Device, Error, Result, Tensor};

/// Elements of windows in memory at a time.
const PIECE: usize = 1 << 26;
/// Channels of a group, of input and of output, up to which windows are read in place.
const THIN: usize = 4;

/// How the windows of a convolution over `D` dimensions lie. By default: every place, no padding, one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv<const D: usize> {
    /// Elements from a window to the next.
    pub stride: [usize; D],
    /// Zeros at both ends.
    pub padding: [usize; D],
    /// Elements from a tap of the kernel to the next.
    pub dilation: [usize; D],
    /// Parts of the channels, each of which makes its own part of the outputs.
    pub groups: usize,
    /// Of a transposed convolution: elements added at the end. Below stride or dilation.
    pub output_padding: [usize; D],
}

impl<const D: usize> Default for Conv<D> {
    fn default() -> Self {
        Conv { stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1, output_padding: [0; D] }
    }
}

/// The windows of `[channels, size]`: where they lie, and what is made of them. One dimension is two, the first of size 1.
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

impl Windows {
    /// Windows along one dimension.
    pub fn line(size: usize, kernel: usize, stride: usize, out: usize) -> Self {
        Windows {
            channels: 1,
            size: [1, size],
            outputs: 1,
            out: [1, out],
            groups: 1,
            kernel: [1, kernel],
            stride: [1, stride],
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

    pub fn weight_shape(&self) -> [usize; 4] {
        [self.outputs, self.channels / self.groups, self.kernel[0], self.kernel[1]]
    }

    fn x_shape(&self, n: usize) -> [usize; 4] {
        [n, self.channels, self.size[0], self.size[1]]
    }

    fn y_shape(&self, n: usize) -> [usize; 4] {
        [n, self.outputs, self.out[0], self.out[1]]
    }

    fn is_thin(&self) -> bool {
        self.groups > 1 && self.channels <= THIN * self.groups && self.outputs <= THIN * self.groups
    }

    /// Whether a window is the element at its place.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 2] && self.padding == [0; 2] && self.size == self.out
    }

    /// Runs `f(first image, number of images)` for pieces of a batch whose tensors are not too large.
    fn pieces<R>(&self, n: usize, device: &Device, f: impl FnMut(usize, usize) -> Result<R>) -> Result<Vec<R>> {
        let most = match device.kind() {
            Kind::Gpu(gpu) => PIECE.min(kernels::most_elements(gpu)),
            Kind::Cpu(_) => PIECE,
        };
        let windows = if self.is_thin() { 0 } else { self.places().saturating_mul(self.channels * self.taps()) };
        let image = windows.max(self.channels * self.size[0] * self.size[1]).max(self.outputs * self.places());
        let each = (most / image.max(1)).max(1);
        let mut f = f;
        (0..n).step_by(each).map(|first| f(first, each.min(n - first))).collect()
    }
}

/// Windows of `x [n, channels, size]` as rows: `[n, places, channels * taps]`. Not recorded.
fn unfold(op: &'static str, x: &Tensor, plan: &Windows) -> Result<Tensor> {
    let n = x.shape()[0];
    if plan.is_pointwise() {
        let x = x.permute(&[0, 2, 3, 1])?;
        return reshape_to(&x, Dims::new(op, &[n, plan.places(), plan.channels])?);
    }
    let elements = n.saturating_mul(plan.places()).saturating_mul(plan.channels * plan.taps());
    x.device().expect_room(op, elements, x.dtype())?;
    match x.device().kind() {
        Kind::Cpu(_) => cpu::unfold(op, &prepared(x)?, plan),
        Kind::Gpu(_) => kernels::unfold(op, x, plan),
    }
}

/// The adjoint of [`unfold`], of f32 or f64.
pub(crate) fn fold(op: &'static str, rows: &Tensor, plan: &Windows) -> Result<Tensor> {
    let n = rows.shape()[0];
    if plan.is_pointwise() {
        let shape = [n, plan.out[0], plan.out[1], plan.channels];
        return reshape_to(rows, Dims::new(op, &shape)?)?.permute(&[0, 3, 1, 2]);
    }
    let rows = rows.contiguous()?;
    match rows.device().kind() {
        Kind::Cpu(_) => cpu::fold(op, &rows, plan),
        Kind::Gpu(_) => kernels::fold(op, &rows, plan),
    }
}

/// `[.., groups * width]` as `[groups, rows, width]`.
fn by_group(op: &'static str, x: &Tensor, groups: usize) -> Result<Tensor> {
    let width = x.shape().last().copied().unwrap_or(1) / groups;
    let rows = x.elements() / (groups * width).max(1);
    reshape_to(x, Dims::new(op, &[rows, groups, width])?)?.permute(&[1, 0, 2])
}

/// The inverse of [`by_group`], as rows of each of `n` images.
fn from_groups(op: &'static str, x: &Tensor, n: usize) -> Result<Tensor> {
    let &[groups, rows, width] = x.shape() else {
        return Err(Error::shape(op, format!("a product of shape {:?}", x.shape())));
    };
    reshape_to(&x.permute(&[1, 0, 2])?, Dims::new(op, &[n, rows / n.max(1), groups * width])?)
}

/// The weight as a matrix for each group: `[groups, outputs, channels * taps]`.
fn matrices(op: &'static str, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    let shape = [plan.groups, plan.outputs / plan.groups, plan.channels / plan.groups * plan.taps()];
    reshape_to(weight, Dims::new(op, &shape)?)
}

/// `y [n, outputs, out]` as rows: `[n, places, outputs]`.
fn output_rows(op: &'static str, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let shape = [y.shape()[0], plan.places(), plan.outputs];
    reshape_to(&y.permute(&[0, 2, 3, 1])?, Dims::new(op, &shape)?)
}

fn joined(op: &'static str, parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [one] => Ok(one.clone()),
        parts => join::concat(op, &parts.iter().collect::<Vec<_>>(), 0),
    }
}

/// The convolution of `x [n, channels, size]`: `[n, outputs, out]`, maybe with the channels last in memory. All detached.
fn forward(op: &'static str, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, plan: &Windows) -> Result<Tensor> {
    let (n, dtype) = (x.shape()[0], x.dtype());
    let shape = Dims::new(op, &plan.y_shape(n))?;
    x.device().expect_room(op, shape.elements(), dtype)?;
    let biased = |y: Tensor| match bias {
        Some(bias) => y.add(&bias.reshape(&[-1, 1, 1])?),
        None => Ok(y),
    };
    if shape.elements() == 0 || x.elements() == 0 {
        return biased(Tensor::zeros(&shape, dtype, x.device())?);
    }
    let (x, weight) = (prepared(x)?, prepared(weight)?.contiguous()?);
    if plan.is_thin() {
        let parts = plan.pieces(n, x.device(), |first, images| {
            let x = x.narrow(0, first, images)?;
            match x.device().kind() {
                Kind::Cpu(_) => cpu::direct(op, &x, &weight, plan),
                Kind::Gpu(_) => kernels::direct(op, &x, &weight, plan),
            }
        })?;
        return biased(narrowed(&joined(op, &parts)?, dtype)?);
    }
    let matrices = matrices(op, &weight, plan)?;
    let bias_of_rows = bias.filter(|_| plan.groups == 1).map(prepared).transpose()?;
    let parts = plan.pieces(n, x.device(), |first, images| {
        let rows = unfold(op, &x.narrow(0, first, images)?, plan)?;
        if plan.groups == 1 {
            return rows.linear(&matrices.squeeze(0)?, bias_of_rows.as_ref());
        }
        from_groups(op, &by_group(op, &rows, plan.groups)?.matmul(&matrices.transpose(1, 2)?)?, images)
    })?;
    let rows = narrowed(&joined(op, &parts)?, dtype)?;
    let y = reshape_to(&rows, Dims::new(op, &[n, plan.out[0], plan.out[1], plan.outputs])?)?.permute(&[0, 3, 1, 2])?;
    if plan.groups == 1 { Ok(y) } else { biased(y) }
}

/// The adjoint of [`forward`] in x: of `y [n, outputs, out]` the `[n, channels, size]`. Sums are rounded to a half once, at the end.
fn input(op: &'static str, y: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    let (n, dtype) = (y.shape()[0], y.dtype());
    let shape = Dims::new(op, &plan.x_shape(n))?;
    y.device().expect_room(op, shape.elements(), dtype)?;
    if shape.elements() == 0 || y.elements() == 0 {
        return Tensor::zeros(&shape, dtype, y.device());
    }
    if plan.is_thin() {
        let (y, weight) = (prepared(y)?, prepared(weight)?.contiguous()?);
        let parts = plan.pieces(n, y.device(), |first, images| {
            let y = y.narrow(0, first, images)?;
            match y.device().kind() {
                Kind::Cpu(_) => cpu::direct_input(op, &y, &weight, plan),
                Kind::Gpu(_) => kernels::direct_input(op, &y, &weight, plan),
            }
        })?;
        return narrowed(&joined(op, &parts)?, dtype);
    }
    let (y, matrices) = (wide(y)?, matrices(op, &wide(weight)?, plan)?);
    let parts = plan.pieces(n, y.device(), |first, images| {
        let rows = output_rows(op, &y.narrow(0, first, images)?, plan)?;
        let windows = by_group(op, &rows, plan.groups)?.matmul(&matrices)?;
        fold(op, &from_groups(op, &windows, images)?, plan)
    })?;
    narrowed(&joined(op, &parts)?, dtype)
}

/// The adjoint of [`forward`] in the weight, of `x [n, channels, size]` and `y [n, outputs, out]`.
fn weight(op: &'static str, x: &Tensor, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let (n, dtype) = (x.shape()[0], x.dtype());
    let shape = Dims::new(op, &plan.weight_shape())?;
    if shape.elements() == 0 || x.elements() == 0 || y.elements() == 0 {
        return Tensor::zeros(&shape, dtype, x.device());
    }
    let (x, y) = (prepared(x)?, prepared(y)?);
    let parts = plan.pieces(n, x.device(), |first, images| {
        let (x, y) = (x.narrow(0, first, images)?, y.narrow(0, first, images)?);
        if plan.is_thin() {
            return match x.device().kind() {
                Kind::Cpu(_) => cpu::direct_weight(op, &x, &y, plan),
                Kind::Gpu(_) => kernels::direct_weight(op, &x, &y, plan),
            };
        }
        let rows = by_group(op, &output_rows(op, &y, plan)?, plan.groups)?;
        rows.transpose(1, 2)?.matmul(&by_group(op, &unfold(op, &x, plan)?, plan.groups)?)
    })?;
    let mut parts = parts.into_iter();
    let first = parts.next().ok_or_else(|| Error::argument(op, "a batch without pieces"))?;
    let sum = parts.try_fold(first, |sum, part| sum.add(&part))?;
    reshape_to(&narrowed(&sum, dtype)?, shape)
}

/// Checks ranks, dtypes and devices, and returns one dimension as two.
fn images<const D: usize>(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<(Tensor, Tensor)> {
    x.expect_float(op)?;
    x.expect_like(op, weight)?;
    for (name, t) in [("x", x), ("weight", weight)] {
        if t.rank() != D + 2 {
            let shape = t.shape();
            return Err(Error::shape(op, format!("{name} of shape {shape:?}, expected {} dimensions", D + 2)));
        }
    }
    let flat = |t: &Tensor| if D == 1 { t.unsqueeze(2) } else { Ok(t.clone()) };
    Ok((flat(x)?, flat(weight)?))
}

/// Options of one dimension as of two.
fn two<const D: usize>(values: [usize; D], first: usize) -> [usize; 2] {
    match values[..] {
        [rows, columns] => [rows, columns],
        _ => [first, values.first().copied().unwrap_or(first)],
    }
}

/// What both kinds check: groups, and windows that fit kernels' 32-bit numbers.
fn plan<const D: usize>(op: &'static str, weight: &Tensor, options: &Conv<D>) -> Result<Windows> {
    let &[outputs, each, rows, columns] = weight.shape() else {
        return Err(Error::shape(op, format!("weight of shape {:?}", weight.shape())));
    };
    let groups = options.groups;
    if groups == 0 || !outputs.is_multiple_of(groups) {
        return Err(Error::argument(
            op,
            format!("{groups} groups do not divide {outputs}, the first size of the weight"),
        ));
    }
    let (stride, dilation) = (two(options.stride, 1), two(options.dilation, 1));
    if rows == 0 || columns == 0 || stride.contains(&0) || dilation.contains(&0) {
        let message =
            format!("kernel [{rows}, {columns}], stride {stride:?}, dilation {dilation:?}: expected numbers from 1 on");
        return Err(Error::argument(op, message));
    }
    Ok(Windows {
        channels: each.saturating_mul(groups),
        size: [0; 2],
        outputs,
        out: [0; 2],
        groups,
        kernel: [rows, columns],
        stride,
        padding: two(options.padding, 0),
        dilation,
    })
}

fn check_bias(op: &'static str, x: &Tensor, bias: Option<&Tensor>, outputs: usize) -> Result<()> {
    let Some(bias) = bias else { return Ok(()) };
    x.expect_like(op, bias)?;
    match bias.shape() == [outputs] {
        true => Ok(()),
        false => Err(Error::shape(op, format!("bias of shape {:?}, expected [{outputs}]", bias.shape()))),
    }
}

/// Elements that a kernel spans.
pub(crate) fn span(kernel: usize, dilation: usize) -> usize {
    (kernel - 1).saturating_mul(dilation).saturating_add(1)
}

/// See [`Tensor::conv2d`].
pub(crate) fn conv<const D: usize>(
    op: &'static str,
    x: &Tensor,
    weight_of: &Tensor,
    bias: Option<&Tensor>,
    options: &Conv<D>,
) -> Result<Tensor> {
    let (x, w) = images::<D>(op, x, weight_of)?;
    let mut plan = plan(op, &w, options)?;
    if x.shape()[1] != plan.channels {
        let (channels, groups, shape) = (x.shape()[1], plan.groups, weight_of.shape());
        let message =
            format!("{channels} channels, but a weight of shape {shape:?} in {groups} groups takes {}", plan.channels);
        return Err(Error::shape(op, message));
    }
    check_bias(op, &x, bias, plan.outputs)?;
    plan.size = [x.shape()[2], x.shape()[3]];
    for d in 0..2 {
        let padded = plan.padding[d].saturating_mul(2).saturating_add(plan.size[d]);
        let span = span(plan.kernel[d], plan.dilation[d]);
        if span > padded || padded >= 1 << 31 {
            let message =
                format!("a kernel that spans {span} elements for {padded} with their padding, of at most 2^31");
            return Err(Error::shape(op, message));
        }
        plan.out[d] = (padded - span) / plan.stride[d] + 1;
    }
    Layout::contiguous(op, &plan.y_shape(x.shape()[0]))?;
    let (x_saved, w_saved) = (x.detach(), w.detach());
    let y = forward(op, &x_saved, &w_saved, bias.map(Tensor::detach).as_ref(), &plan)?;
    let inputs: Vec<&Tensor> = [Some(&x), Some(&w), bias].into_iter().flatten().collect();
    let y = record(op, y, &inputs, move |dy, needs| {
        let mut gradients = vec![
            needs[0].then(|| input(op, dy, &w_saved, &plan)).transpose()?,
            needs[1].then(|| weight(op, &x_saved, dy, &plan)).transpose()?,
        ];
        gradients.extend(bias_gradient(dy, needs)?);
        Ok(gradients)
    });
    if D == 1 { y.squeeze(2) } else { Ok(y) }
}

/// The gradient of a bias, where there is a third input.
fn bias_gradient(dy: &Tensor, needs: &[bool]) -> Result<Option<Option<Tensor>>> {
    needs.get(2).map(|need| need.then(|| dy.sum(&[0, 2, 3], false)).transpose()).transpose()
}

/// See [`Tensor::conv_transpose2d`].
pub(crate) fn conv_transpose<const D: usize>(
    op: &'static str,
    x: &Tensor,
    weight_of: &Tensor,
    bias: Option<&Tensor>,
    options: &Conv<D>,
) -> Result<Tensor> {
    let (x, w) = images::<D>(op, x, weight_of)?;
    // As the convolution whose adjoint this is: its output is the x here.
    let mut plan = plan(op, &w, options)?;
    if x.shape()[1] != plan.outputs {
        let (channels, shape) = (x.shape()[1], weight_of.shape());
        return Err(Error::shape(
            op,
            format!("{channels} channels, but a weight of shape {shape:?} takes {}", plan.outputs),
        ));
    }
    check_bias(op, &x, bias, plan.channels)?;
    plan.out = [x.shape()[2], x.shape()[3]];
    let added = two(options.output_padding, 0);
    for d in 0..2 {
        let (stride, dilation) = (plan.stride[d], plan.dilation[d]);
        if added[d] >= stride.max(dilation) {
            let message =
                format!("output padding {}, expected less than stride {stride} or dilation {dilation}", added[d]);
            return Err(Error::argument(op, message));
        }
        let whole = plan.out[d].saturating_sub(1).saturating_mul(stride).saturating_add(span(plan.kernel[d], dilation));
        let whole = if plan.out[d] == 0 { 0 } else { whole.saturating_add(added[d]) };
        let cropped = plan.padding[d].saturating_mul(2);
        if whole < cropped || whole >= 1 << 31 {
            let message = format!("{whole} elements, of at most 2^31, from which the padding takes {cropped}");
            return Err(Error::shape(op, message));
        }
        plan.size[d] = whole - cropped;
    }
    Layout::contiguous(op, &plan.x_shape(x.shape()[0]))?;
    let (x_saved, w_saved) = (x.detach(), w.detach());
    let mut y = input(op, &x_saved, &w_saved, &plan)?;
    if let Some(bias) = bias {
        y = y.add(&bias.detach().reshape(&[-1, 1, 1])?)?;
    }
    let inputs: Vec<&Tensor> = [Some(&x), Some(&w), bias].into_iter().flatten().collect();
    let y = record(op, y, &inputs, move |dy, needs| {
        let mut gradients = vec![
            needs[0].then(|| forward(op, dy, &w_saved, None, &plan)).transpose()?,
            needs[1].then(|| weight(op, dy, &x_saved, &plan)).transpose()?,
        ];
        gradients.extend(bias_gradient(dy, needs)?);
        Ok(gradients)
    });
    if D == 1 { y.squeeze(2) } else { Ok(y) }
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
