//! Convolutions and transposed convolutions over one or two dimensions.
//!
//! One is the adjoint of the other, so three functions make both: [`forward`] (x, weight to y), [`input`] (y, weight to x) and [`weight`]
//! (x, y to weight). Each is a matrix product with windows as rows (`unfold` and its adjoint `fold`); where a group has but few channels,
//! as in a depthwise convolution, that would be many copies for thin products, and kernels of their own read the windows in place.
//! Windows are not kept for the backward, and of large batches or images only a piece has them at a time: they hold each element once for
//! each tap.

mod product;
mod windows;

use crate::autograd::record;
use crate::layout::Layout;
use crate::{Error, Result, Tensor};
use product::{forward, input, weight};
pub(crate) use windows::{Windows, span, unfold_view};

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
    let flat = |t: &Tensor| if D == 1 { t.unsqueeze(3) } else { Ok(t.clone()) };
    Ok((flat(x)?, flat(weight)?))
}

/// Options of one dimension as of two.
fn two<const D: usize>(values: [usize; D], second: usize) -> [usize; 2] {
    match values[..] {
        [rows, columns] => [rows, columns],
        _ => [values.first().copied().unwrap_or(second), second],
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
            needs[0].then(|| input(op, dy, &w_saved, None, &plan)).transpose()?,
            needs[1].then(|| weight(op, &x_saved, dy, &plan)).transpose()?,
        ];
        gradients.extend(bias_gradient(dy, needs)?);
        Ok(gradients)
    });
    if D == 1 { y.squeeze(3) } else { Ok(y) }
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
    let y = input(op, &x_saved, &w_saved, bias.map(Tensor::detach).as_ref(), &plan)?;
    let inputs: Vec<&Tensor> = [Some(&x), Some(&w), bias].into_iter().flatten().collect();
    let y = record(op, y, &inputs, move |dy, needs| {
        let mut gradients = vec![
            needs[0].then(|| forward(op, dy, &w_saved, None, &plan)).transpose()?,
            needs[1].then(|| weight(op, dy, &x_saved, &plan)).transpose()?,
        ];
        gradients.extend(bias_gradient(dy, needs)?);
        Ok(gradients)
    });
    if D == 1 { y.squeeze(3) } else { Ok(y) }
}
