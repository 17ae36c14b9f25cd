//! Tensors larger than one binding of the device: kernels run on pieces of them, each seen through a window of its buffer, and the
//! results are laid side by side by the copy engine.

use super::gpu_of;
use crate::device::gpu::Gpu;
use crate::layout::{Dims, Layout};
use crate::storage::Storage;
use crate::{DType, Error, Result, Tensor};

/// Cuts fall on multiples of this, so that pieces begin with whole vectors and whole words.
const GRAIN: usize = 8;

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
    let reach: usize =
        layout.shape.iter().zip(layout.strides.iter()).map(|(&n, &stride)| n.saturating_sub(1) * stride).sum();
    let (start, bytes) = buffer.window_of(each * layout.offset as u64, each * (layout.offset + reach + 1) as u64);
    if bytes > limit {
        return None;
    }
    let storage = Storage::Gpu(buffer.window(start, bytes));
    let layout = Layout { offset: layout.offset - (start / each) as usize, ..*layout };
    Some(Tensor::from_parts(storage, layout, x.dtype(), x.device()))
}

/// All inputs through windows, if they and outputs of these shapes fit into a binding each.
fn windows(gpu: &Gpu, inputs: &[Tensor], outputs: &[Output]) -> Option<Vec<Tensor>> {
    let fits = |(shape, dtype): &Output| dtype.gpu_bytes(shape.elements()) <= gpu.caps().max_binding_bytes;
    if !outputs.iter().all(fits) {
        return None;
    }
    inputs.iter().map(|x| window(gpu, x)).collect()
}

/// Runs `kernel` on all of the inputs where every binding holds what it must. Else cuts inputs and outputs along the first of their `lead`
/// common leading dimensions, until the pieces fit. The kernel's outputs are new contiguous tensors.
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
    let whole: Vec<Tensor> = outputs
        .iter()
        .map(|(shape, dtype)| Tensor::gpu_uninit(op, *shape, *dtype, first.device()))
        .collect::<Result<_>>()?;
    let job = Job { op, gpu, lead, whole: &whole, kernel };
    job.run(&inputs, outputs, &vec![0; outputs.len()])?;
    Ok(whole)
}

/// As [`pieces`], for one output.
pub(crate) fn piecewise(
    op: &'static str,
    inputs: &[&Tensor],
    output: Output,
    lead: usize,
    kernel: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut made = pieces(op, inputs, &[output], lead, &|inputs| Ok(vec![kernel(inputs)?]))?;
    made.pop().ok_or_else(|| Error::argument(op, "a kernel without output"))
}

struct Job<'a> {
    op: &'static str,
    gpu: &'a Gpu,
    lead: usize,
    whole: &'a [Tensor],
    kernel: &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>,
}

impl Job<'_> {
    /// `at`: index of the first element of this piece in each output.
    fn run(&self, inputs: &[Tensor], outputs: &[Output], at: &[usize]) -> Result<()> {
        if let Some(windows) = windows(self.gpu, inputs, outputs) {
            for ((made, whole), &at) in (self.kernel)(&windows)?.iter().zip(self.whole).zip(at) {
                let (start, bytes) = (made.dtype().gpu_bytes(at), made.dtype().gpu_bytes(made.elements()));
                let (from, to) = (made.gpu_buffer(self.op)?, whole.gpu_buffer(self.op)?);
                self.gpu.copy(&from, 0, &to, start, bytes)?;
            }
            return Ok(());
        }
        let shape = outputs.first().map_or(Dims::default(), |(shape, _)| *shape);
        let Some(d) = (0..self.lead).find(|&d| shape[d] > 1) else { return Err(too_large(self.op, self.gpu, inputs)) };
        let cut = match shape[d] / 2 {
            small if small < GRAIN => small,
            half => half.next_multiple_of(GRAIN),
        };
        let inner = |shape: &Dims| shape[d + 1..].iter().product::<usize>();
        // Two halves share a word, and only words can be copied.
        if outputs.iter().any(|(shape, dtype)| dtype.is_half() && !(cut * inner(shape)).is_multiple_of(2)) {
            return Err(too_large(self.op, self.gpu, inputs));
        }
        for (start, length) in [(0, cut), (cut, shape[d] - cut)] {
            let part = |x: &Tensor| x.with_layout(x.layout().slice(d, start, length, 1));
            let short = |(mut shape, dtype): Output| {
                shape[d] = length;
                (shape, dtype)
            };
            let inputs: Vec<Tensor> = inputs.iter().map(part).collect();
            let at: Vec<usize> = at.iter().zip(outputs).map(|(at, (shape, _))| at + start * inner(shape)).collect();
            let outputs: Vec<Output> = outputs.iter().copied().map(short).collect();
            self.run(&inputs, &outputs, &at)?;
        }
        Ok(())
    }
}

fn too_large(op: &'static str, gpu: &Gpu, inputs: &[Tensor]) -> Error {
    let bytes = inputs.iter().map(|x| x.dtype().gpu_bytes(x.elements())).max().unwrap_or(0);
    Error::TooLarge { op, bytes, limit: gpu.caps().max_binding_bytes }
}

/// A contiguous tensor as rows.
pub(crate) fn rows_of(op: &'static str, x: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
    Ok(x.with_layout(Layout { offset: x.layout().offset, ..Layout::row_major(Dims::new(op, &[rows, cols])?) }))
}

/// A contiguous result from its start, in another shape.
pub(crate) fn shaped(x: &Tensor, shape: Dims) -> Tensor {
    x.with_layout(Layout { offset: x.layout().offset, ..Layout::row_major(shape) })
}
