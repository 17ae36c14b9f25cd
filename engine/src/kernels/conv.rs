//! Convolution kernels, of any float dtype. Batches come in pieces that a binding holds.

use super::window::seen;
use super::{gpu_of, groups, rows, size};
use crate::device::gpu::{Bind, Gpu, Launch};
use crate::layout::{Dims, Layout};
use crate::ops::conv::Windows;
use crate::{DType, Result, Tensor};

/// Strides of the four dimensions of images, and their offset before.
fn place(op: &'static str, x: &Layout) -> Result<[u32; 5]> {
    let mut place = [size(op, x.offset)?, 0, 0, 0, 0];
    for (to, &stride) in place[1..].iter_mut().zip(x.strides.iter()) {
        *to = size(op, stride)?;
    }
    Ok(place)
}

/// `struct Params` of `shaders/common/windows.wgsl`.
fn params(
    op: &'static str,
    count: usize,
    images: usize,
    plan: &Windows,
    x: &Layout,
    y: &Layout,
    weight: usize,
) -> Result<[u32; 29]> {
    let sizes = [
        &[count, plan.channels][..],
        &plan.size,
        &plan.kernel,
        &plan.out,
        &plan.stride,
        &plan.padding,
        &plan.dilation,
        &[plan.outputs, plan.channels / plan.groups, plan.outputs / plan.groups, images],
    ]
    .concat();
    let mut params = [0; 29];
    for (to, n) in params.iter_mut().zip(sizes) {
        *to = size(op, n)?;
    }
    params[18..23].copy_from_slice(&place(op, x)?);
    params[23..28].copy_from_slice(&place(op, y)?);
    params[28] = size(op, weight)?;
    Ok(params)
}

/// The dense layout of images.
fn images(op: &'static str, n: usize, channels: usize, size: [usize; 2]) -> Result<Layout> {
    Ok(Layout::row_major(Dims::new(op, &[n, channels, size[0], size[1]])?))
}

/// Runs a kernel whose invocations make four elements each of a new tensor of dtype `to`, the last binding.
fn fours(
    op: &'static str,
    kernel: &'static str,
    reads: &[(&'static str, &Tensor)],
    write: (&'static str, Dims, DType),
    params: &[u32],
    operations: u64,
) -> Result<Tensor> {
    let first = reads[0].1;
    let out = Tensor::gpu_uninit(op, write.1, write.2, first.device())?;
    let mut elems: Vec<(&str, DType)> = reads.iter().map(|(name, x)| (*name, x.dtype())).collect();
    elems.push((write.0, out.dtype()));
    let mut bind = Vec::new();
    for (_, x) in reads {
        bind.push(Bind::Read(x.gpu_buffer(op)?));
    }
    bind.push(Bind::Write(out.gpu_buffer(op)?));
    let launch = Launch {
        kernel,
        elems: &elems,
        constants: &[],
        bind: &bind,
        params: bytemuck::cast_slice(params),
        groups: groups(out.elements().div_ceil(4)),
    };
    gpu_of(op, first)?.run_counted(launch, operations)?;
    Ok(out)
}

/// Of `x [n, channels, size]`, any view: `[n, places, channels * taps]`.
pub(crate) fn unfold(op: &'static str, x: &Tensor, plan: &Windows) -> Result<Tensor> {
    let x = seen(gpu_of(op, x)?, x)?;
    let n = x.shape()[0];
    let shape = Dims::new(op, &[n, plan.places(), plan.channels * plan.taps()])?;
    let layout = images(op, n, plan.outputs, plan.out)?;
    let params = params(op, shape.elements(), n, plan, x.layout(), &layout, 0)?;
    fours(op, "conv/unfold", &[("x", &x)], ("y", shape, x.dtype()), &params, 0)
}

/// Of dense `y [n, places, channels * taps]`: `[n, channels, size]`.
pub(crate) fn fold(op: &'static str, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let y = seen(gpu_of(op, y)?, y)?;
    let n = y.shape()[0];
    let x = images(op, n, plan.channels, plan.size)?;
    let at = Layout { offset: y.layout().offset, ..images(op, n, plan.outputs, plan.out)? };
    size(op, y.elements())?;
    let params = params(op, x.elements(), n, plan, &x, &at, 0)?;
    fours(op, "conv/fold", &[("y", &y)], ("x", x.shape, y.dtype()), &params, 0)
}

/// Of `x [n, channels, size]`, any view, and a dense weight: `[n, outputs, out]`, as `to`.
pub(crate) fn direct(op: &'static str, x: &Tensor, weight: &Tensor, plan: &Windows, to: DType) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let (x, weight) = (seen(gpu, x)?, seen(gpu, weight)?);
    let n = x.shape()[0];
    let y = images(op, n, plan.outputs, plan.out)?;
    let params = params(op, y.elements(), n, plan, x.layout(), &y, weight.layout().offset)?;
    fours(op, "conv/direct", &[("x", &x), ("weight", &weight)], ("y", y.shape, to), &params, plan.operations(n))
}

/// Of `y [n, outputs, out]`, any view, and a dense weight: `[n, channels, size]`, as `to`.
pub(crate) fn direct_input(op: &'static str, y: &Tensor, weight: &Tensor, plan: &Windows, to: DType) -> Result<Tensor> {
    let gpu = gpu_of(op, y)?;
    let (y, weight) = (seen(gpu, y)?, seen(gpu, weight)?);
    let n = y.shape()[0];
    let x = images(op, n, plan.channels, plan.size)?;
    let params = params(op, x.elements(), n, plan, &x, y.layout(), weight.layout().offset)?;
    fours(op, "conv/direct_input", &[("y", &y), ("weight", &weight)], ("x", x.shape, to), &params, plan.operations(n))
}

/// Of `x [n, channels, size]` and `y [n, outputs, out]`, any views: the f32 gradient of the weight.
pub(crate) fn direct_weight(op: &'static str, x: &Tensor, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let (x, y) = (seen(gpu, x)?, seen(gpu, y)?);
    let n = x.shape()[0];
    let shape = Dims::new(op, &plan.weight_shape())?;
    let out = Tensor::gpu_uninit(op, shape, DType::F32, x.device())?;
    let params = params(op, shape.elements(), n, plan, x.layout(), y.layout(), 0)?;
    let ([workgroup, lanes], groups) = rows::spread(gpu, shape.elements(), n * plan.places());
    let launch = Launch {
        kernel: "conv/direct_weight",
        elems: &[("x", x.dtype()), ("y", y.dtype())],
        constants: &[workgroup, lanes],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Read(y.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups,
    };
    gpu.run_counted(launch, plan.operations(n))?;
    Ok(out)
}

/// Elements that one tensor of a piece of a batch may have.
pub(crate) fn most_elements(gpu: &Gpu) -> usize {
    usize::try_from(gpu.caps().max_binding_bytes / 4).unwrap_or(usize::MAX)
}
