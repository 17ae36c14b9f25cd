//! Tensors larger than one binding of the device: kernels run on pieces of them, each seen through a window of its buffer, and the
//! results are laid side by side.

use super::gpu_of;
use crate::device::gpu::Gpu;
use crate::layout::{Dims, Layout};
use crate::ops::{elementwise, join, view};
use crate::storage::Storage;
use crate::{DType, Device, Error, Result, Tensor};

/// Cuts fall on multiples of this where they can, so that pieces begin with whole vectors and whole words.
const GRAIN: usize = 8;
/// Bytes by which a window may exceed what is seen through it, since it begins and ends at aligned addresses.
const SLACK: u64 = 512;

/// Shape and dtype of an output.
pub(crate) type Output = (Dims, DType);

/// The same view of no more of its buffer than it spans; None where that is more than a binding holds.
pub(crate) fn window(gpu: &Gpu, x: &Tensor) -> Option<Tensor> {
    let Storage::Gpu(buffer) = x.storage() else { return None };
    let limit = gpu.caps().max_binding_bytes;
    if buffer.padded_bytes() <= limit {
        return Some(x.clone());
    }
    let each = if x.dtype().is_half() { 2 } else { 4 };
    let layout = x.layout();
    let (start, bytes) = buffer.window_of(each * layout.offset as u64, each * (layout.offset + span(layout)) as u64);
    if bytes > limit {
        return None;
    }
    let storage = Storage::Gpu(buffer.window(start, bytes));
    let layout = Layout { offset: layout.offset - (start / each) as usize, ..*layout };
    Some(Tensor::from_parts(storage, layout, x.dtype(), x.device()))
}

/// The same view through a window, or else a copy, of a tensor that a binding holds.
pub(crate) fn seen(gpu: &Gpu, x: &Tensor) -> Result<Tensor> {
    window(gpu, x).map_or_else(|| x.copy(), Ok)
}

/// Elements of memory from the first of a view to its last.
fn span(layout: &Layout) -> usize {
    1 + (0..layout.rank()).map(|d| reach(layout, d)).sum::<usize>()
}

/// Elements of memory from the first along a dimension to the last.
fn reach(layout: &Layout, d: usize) -> usize {
    layout.shape[d].saturating_sub(1) * layout.strides[d]
}

fn fits(gpu: &Gpu, (shape, dtype): &Output) -> bool {
    dtype.gpu_bytes(shape.elements()) <= gpu.caps().max_binding_bytes
}

/// All inputs through windows, if they and outputs of these shapes fit into a binding each.
pub(crate) fn windows(gpu: &Gpu, inputs: &[Tensor], outputs: &[Output]) -> Option<Vec<Tensor>> {
    if !outputs.iter().all(|output| fits(gpu, output)) {
        return None;
    }
    inputs.iter().map(|x| window(gpu, x)).collect()
}

/// Runs `kernel` on all of the inputs where every binding holds what it must. Else cuts inputs and outputs along one of their `lead`
/// common leading dimensions, until the pieces fit. The kernel's outputs are new tensors.
pub(crate) fn pieces(
    op: &'static str,
    inputs: &[&Tensor],
    outputs: &[Output],
    lead: usize,
    kernel: &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let Some(first) = inputs.first() else { return kernel(&inputs) };
    let gpu = gpu_of(op, first)?;
    if let Some(windows) = windows(gpu, &inputs, outputs) {
        return kernel(&windows);
    }
    let (d, length) = cut(gpu, &inputs, outputs, lead).ok_or_else(|| too_large(op, gpu, &inputs, outputs))?;
    side_by_side(op, first.device(), outputs, d, length, &mut |start, length| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| slice(x, d, start, length)).collect();
        let short = |&(mut shape, dtype): &Output| {
            shape[d] = length;
            (shape, dtype)
        };
        let outputs: Vec<Output> = outputs.iter().map(short).collect();
        pieces(op, &inputs.iter().collect::<Vec<_>>(), &outputs, lead, kernel)
    })
}

/// As [`pieces`], for one output.
pub(crate) fn piecewise(
    op: &'static str,
    inputs: &[&Tensor],
    output: Output,
    lead: usize,
    kernel: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Tensor> {
    one(op, pieces(op, inputs, &[output], lead, &|inputs| Ok(vec![kernel(inputs)?]))?)
}

fn one(op: &'static str, mut made: Vec<Tensor>) -> Result<Tensor> {
    made.pop().ok_or_else(|| Error::argument(op, "a kernel without output"))
}

/// `start..start + length` of one dimension.
pub(crate) fn slice(x: &Tensor, d: usize, start: usize, length: usize) -> Tensor {
    x.with_layout(x.layout().slice(d, start, length, 1))
}

/// Along which dimension to cut, and how long the pieces are: outputs that do not fit are cut along their first dimension, so that
/// pieces follow each other in memory; then inputs along the dimension that spans most of their memory.
fn cut(gpu: &Gpu, inputs: &[Tensor], outputs: &[Output], lead: usize) -> Option<(usize, usize)> {
    let (shape, _) = outputs.first()?;
    let open = |&d: &usize| shape[d] > 1;
    if let Some((_, dtype)) = outputs.iter().find(|output| !fits(gpu, output)) {
        let d = (0..lead).find(open)?;
        return Some((d, length(gpu, shape[d], dtype.gpu_bytes(shape.elements()))));
    }
    let x = inputs.iter().find(|x| window(gpu, x).is_none())?;
    let d = (0..lead).rev().filter(open).max_by_key(|&d| reach(x.layout(), d))?;
    Some((d, length(gpu, shape[d], bytes(x))))
}

/// Bytes of memory that a view spans.
pub(crate) fn bytes(x: &Tensor) -> u64 {
    x.dtype().gpu_bytes(span(x.layout()))
}

/// The dimension along which a view spans most memory.
pub(crate) fn widest(x: &Tensor) -> Option<usize> {
    (0..x.rank()).rev().filter(|&d| x.shape()[d] > 1).max_by_key(|&d| reach(x.layout(), d))
}

/// The length of pieces of a dimension of `size`, at least 2, by which memory of `bytes` falls into what bindings hold.
pub(crate) fn length(gpu: &Gpu, size: usize, bytes: u64) -> usize {
    let pieces = bytes.div_ceil(gpu.caps().max_binding_bytes - SLACK).max(2) as usize;
    let length = (size / pieces).max(1);
    if length < GRAIN { length } else { length - length % GRAIN }
}

/// Outputs of these shapes, on `device`, from pieces of `length` along dimension `d`, in order: `make(start, length)`.
pub(crate) fn side_by_side(
    op: &'static str,
    device: &Device,
    outputs: &[Output],
    d: usize,
    length: usize,
    make: &mut dyn FnMut(usize, usize) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let size = outputs.first().map_or(0, |(shape, _)| shape[d]);
    let mut parts = (0..size).step_by(length).map(|start| (start, length.min(size - start)));
    if !outputs.iter().all(|(shape, _)| shape[..d].iter().all(|&n| n == 1)) {
        let parts = parts.map(|(start, length)| make(start, length)).collect::<Result<Vec<_>>>()?;
        let join =
            |i: usize| join::concat(op, &parts.iter().filter_map(|made| made.get(i)).collect::<Vec<_>>(), d as isize);
        return (0..outputs.len()).map(join).collect();
    }
    let whole = outputs.iter().map(|&(shape, dtype)| Tensor::gpu_uninit(op, shape, dtype, device));
    let whole: Vec<Tensor> = whole.collect::<Result<_>>()?;
    parts.try_for_each(|(start, length)| {
        let made = make(start, length)?;
        made.iter().zip(&whole).try_for_each(|(made, whole)| place(op, made, whole, start * (whole.elements() / size)))
    })?;
    Ok(whole)
}

/// As [`side_by_side`], for one output.
pub(crate) fn one_side_by_side(
    op: &'static str,
    device: &Device,
    output: Output,
    d: usize,
    length: usize,
    make: &mut dyn FnMut(usize, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    one(op, side_by_side(op, device, &[output], d, length, &mut |start, length| Ok(vec![make(start, length)?]))?)
}

/// Elementwise results whose kernels count elements, in pieces that begin at multiples of four: `make(first, count, inputs)`.
pub(crate) fn flat(
    op: &'static str,
    device: &Device,
    output: Output,
    inputs: &[&Tensor],
    make: &mut dyn FnMut(usize, usize, &[Tensor]) -> Result<Tensor>,
) -> Result<Tensor> {
    let gpu = device.gpu_ref().ok_or_else(|| Error::argument(op, "a GPU kernel asked for on a CPU device"))?;
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let count = output.0.elements();
    if let Some(inputs) = windows(gpu, &inputs, &[output]) {
        return make(0, count, &inputs);
    }
    let each = length(gpu, count, inputs.iter().map(bytes).fold(output.1.gpu_bytes(count), u64::max));
    one_side_by_side(op, device, output, 0, each, &mut |first, count| {
        let part = |x: &Tensor| seen(gpu, &slice(x, 0, first, count));
        make(first, count, &inputs.iter().map(part).collect::<Result<Vec<_>>>()?)
    })
}

/// Writes elements to the dense `whole` from element `at` on. What follows them in memory is written after them.
pub(crate) fn place(op: &'static str, made: &Tensor, whole: &Tensor, at: usize) -> Result<()> {
    let made = view::contiguous(made)?;
    let (dtype, count, offset) = (made.dtype(), made.elements(), made.layout().offset);
    let gpu = gpu_of(op, whole)?;
    if count == 0 {
        return Ok(());
    }
    let flat = |x: &Tensor, start: usize, count: usize| {
        let layout = Layout::row_major(Dims::new(op, &[count])?);
        Ok::<_, Error>(x.with_layout(Layout { offset: x.layout().offset + start, ..layout }))
    };
    let words = |x: &Tensor, from: usize, to: usize, count: usize| {
        let [from, to, bytes] = [from, to, count].map(|n| dtype.gpu_bytes(n));
        gpu.copy(x.gpu_storage(op)?, from, whole.gpu_storage(op)?, to, bytes)
    };
    if !dtype.is_half() || at.is_multiple_of(2) && offset.is_multiple_of(2) {
        return words(&made, offset, at, count);
    }
    if at.is_multiple_of(2) {
        return words(&elementwise::copy(op, &made)?, 0, at, count);
    }
    // The first half shares its word with the last of what is there already.
    let word = join::concat(op, &[&flat(whole, at - 1, 1)?, &flat(&made, 0, 1)?], 0)?;
    words(&word, 0, at - 1, 2)?;
    place(op, &flat(&made, 1, count - 1)?, whole, at + 1)
}

pub(crate) fn too_large(op: &'static str, gpu: &Gpu, inputs: &[Tensor], outputs: &[Output]) -> Error {
    let made = outputs.iter().map(|(shape, dtype)| dtype.gpu_bytes(shape.elements()));
    let bytes = inputs.iter().map(bytes).chain(made).max().unwrap_or(0);
    Error::TooLarge { op, bytes, limit: gpu.caps().max_binding_bytes }
}

/// A contiguous tensor under another shape of as many elements.
pub(crate) fn shaped(op: &'static str, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Ok(x.with_layout(Layout { offset: x.layout().offset, ..Layout::row_major(Dims::new(op, shape)?) }))
}
