//! Windows of convolutions in plain Rust. The formulas stand in `shaders/conv/`.

use super::Float;
use super::parallel::fill_rows;
use super::strided::Vectorised;
use crate::layout::Dims;
use crate::ops::conv::Windows;
use crate::profile::{operations, touched};
use crate::{DType, Result, Tensor};

impl Windows {
    /// Calls `f(tap, element of a plane)` for each tap of the window at output place `at` that sees an element.
    fn window(&self, at: usize, mut f: impl FnMut(usize, usize)) {
        let corner = [at / self.out[1] * self.stride[0], at % self.out[1] * self.stride[1]];
        for tap in 0..self.taps() {
            let steps = [tap / self.kernel[1] * self.dilation[0], tap % self.kernel[1] * self.dilation[1]];
            let place = |d: usize| (corner[d] + steps[d]).checked_sub(self.padding[d]).filter(|&i| i < self.size[d]);
            if let (Some(row), Some(column)) = (place(0), place(1)) {
                f(tap, row * self.size[1] + column);
            }
        }
    }

    /// Whether a plane is one column: a convolution over one dimension.
    fn is_column(&self) -> bool {
        self.kernel[1] == 1 && self.size[1] == 1 && self.out[1] == 1
    }

    /// Elements from what a place of a run sees to what the next sees.
    fn stride_of_runs(&self) -> usize {
        self.stride[if self.is_column() { 0 } else { 1 }]
    }

    /// Calls `f(tap, first output place, first element of a plane, count)` for the places of each row (or of the one column) that see an element
    /// through a tap, in the order of taps.
    #[inline(always)]
    fn runs(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        for tap in 0..self.taps() {
            let steps = [tap / self.kernel[1] * self.dilation[0], tap % self.kernel[1] * self.dilation[1]];
            // Places of which the element `place * stride + step - padding` is there.
            let seen = |d: usize| {
                let (stride, size) = (self.stride[d], self.size[d] + self.padding[d]);
                let first = self.padding[d].saturating_sub(steps[d]).div_ceil(stride);
                let end = size.saturating_sub(steps[d]).div_ceil(stride).min(self.out[d]);
                first.min(end)..end
            };
            let columns = seen(1);
            if columns.is_empty() {
                continue;
            }
            if self.is_column() {
                let rows = seen(0);
                if !rows.is_empty() {
                    f(tap, rows.start, rows.start * self.stride[0] + steps[0] - self.padding[0], rows.len());
                }
                continue;
            }
            let column = columns.start * self.stride[1] + steps[1] - self.padding[1];
            for at in seen(0) {
                let row = at * self.stride[0] + steps[0] - self.padding[0];
                f(tap, at * self.out[1] + columns.start, row * self.size[1] + column, columns.len());
            }
        }
    }

    fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// The first channel of the group of an output.
    fn first_channel(&self, output: usize) -> usize {
        output / (self.outputs / self.groups) * (self.channels / self.groups)
    }
}

/// Of dense `x [n, channels, size]`: `[n, places, channels * taps]`.
pub(crate) fn unfold(op: &'static str, x: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, width) = (x.shape()[0], plan.channels * plan.taps());
        let all = x.cpu_slice::<T>(op)?;
        let out = fill_rows(n * plan.places(), width, |row, out: &mut [T]| {
            let image = &all[row / plan.places() * plan.channels * plan.plane()..];
            plan.window(row % plan.places(), |tap, i| {
                for channel in 0..plan.channels {
                    out[channel * plan.taps() + tap] = image[channel * plan.plane() + i];
                }
            });
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[n, plan.places(), width])?, x.device())
    }
    if x.dtype() == DType::F64 { run::<f64>(op, x, plan) } else { run::<f32>(op, x, plan) }
}

/// Of dense `y [n, places, channels * taps]`: `[n, channels, size]`.
pub(crate) fn fold(op: &'static str, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, y: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, width) = (y.shape()[0], plan.channels * plan.taps());
        let all = y.cpu_slice::<T>(op)?;
        let out = fill_rows(n * plan.channels, plan.plane(), |row, out: &mut [T]| {
            let (image, channel) = (row / plan.channels, row % plan.channels);
            for at in 0..plan.places() {
                let from = &all[(image * plan.places() + at) * width + channel * plan.taps()..];
                plan.window(at, |tap, i| out[i] += from[tap]);
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[n, plan.channels, plan.size[0], plan.size[1]])?, y.device())
    }
    if y.dtype() == DType::F64 { run::<f64>(op, y, plan) } else { run::<f32>(op, y, plan) }
}

/// A plane of outputs from the planes of its group.
struct Direct<'a, T> {
    plan: &'a Windows,
    planes: &'a [T],
    taps: &'a [T],
    each: usize,
    out: &'a mut [T],
}

impl<T: Float> Vectorised for Direct<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Direct { plan, planes, taps, each, out } = self;
        plan.runs(|tap, at, i, count| {
            for c in 0..each {
                let (tap, from) = (taps[c * plan.taps() + tap], &planes[c * plan.plane() + i..]);
                let out = &mut out[at..at + count];
                match plan.stride_of_runs() {
                    1 => out.iter_mut().zip(&from[..count]).for_each(|(out, &x)| *out += tap * x),
                    stride => out.iter_mut().zip(from.iter().step_by(stride)).for_each(|(out, &x)| *out += tap * x),
                }
            }
        });
    }
}

/// What a plane of outputs adds to the gradient of one of its inputs.
struct DirectInput<'a, T> {
    plan: &'a Windows,
    from: &'a [T],
    taps: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Vectorised for DirectInput<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let DirectInput { plan, from, taps, out } = self;
        plan.runs(|tap, at, i, count| {
            let (tap, from) = (taps[tap], &from[at..at + count]);
            match plan.stride_of_runs() {
                1 => out[i..i + count].iter_mut().zip(from).for_each(|(out, &y)| *out += tap * y),
                stride => out[i..].iter_mut().step_by(stride).zip(from).for_each(|(out, &y)| *out += tap * y),
            }
        });
    }
}

/// What a plane of inputs and one of gradients add to the gradient of their taps.
struct DirectWeight<'a, T> {
    plan: &'a Windows,
    from: &'a [T],
    dy: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Vectorised for DirectWeight<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let DirectWeight { plan, from, dy, out } = self;
        plan.runs(|tap, at, i, count| {
            let dy = &dy[at..at + count];
            let stride = plan.stride_of_runs();
            if stride > 1 {
                out[tap] += dy.iter().zip(from[i..].iter().step_by(stride)).map(|(&dy, &x)| dy * x).sum::<T>();
                return;
            }
            // Lanes of their own, so that the loop becomes vector code with a fixed order of additions.
            let mut lanes = [T::zero(); 8];
            let (whole, rest) = dy.as_chunks::<8>();
            let (of_x, rest_of_x) = from[i..i + count].as_chunks::<8>();
            for (dy, x) in whole.iter().zip(of_x) {
                lanes.iter_mut().zip(dy.iter().zip(x)).for_each(|(sum, (&dy, &x))| *sum += dy * x);
            }
            let last: T = rest.iter().zip(rest_of_x).map(|(&dy, &x)| dy * x).sum();
            out[tap] += lanes.iter().copied().sum::<T>() + last;
        });
    }
}

/// Of dense `x [n, channels, size]` and weight: `[n, outputs, out]`.
pub(crate) fn direct(op: &'static str, x: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, each) = (x.shape()[0], plan.channels / plan.groups);
        let (all, weight) = (x.cpu_slice::<T>(op)?, weight.cpu_slice::<T>(op)?);
        let out = fill_rows(n * plan.outputs, plan.places(), |row, out: &mut [T]| {
            let (image, output) = (row / plan.outputs, row % plan.outputs);
            let planes = &all[(image * plan.channels + plan.first_channel(output)) * plan.plane()..];
            let taps = &weight[output * each * plan.taps()..];
            Direct { plan, planes, taps, each, out }.dispatch();
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[n, plan.outputs, plan.out[0], plan.out[1]])?, x.device())
    }
    touched(op, 0);
    operations(plan.operations(x.shape()[0]));
    if x.dtype() == DType::F64 { run::<f64>(op, x, weight, plan) } else { run::<f32>(op, x, weight, plan) }
}

/// Of dense `y [n, outputs, out]` and weight: `[n, channels, size]`.
pub(crate) fn direct_input(op: &'static str, y: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, y: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, each, outputs) = (y.shape()[0], plan.channels / plan.groups, plan.outputs / plan.groups);
        let (all, weight) = (y.cpu_slice::<T>(op)?, weight.cpu_slice::<T>(op)?);
        let out = fill_rows(n * plan.channels, plan.plane(), |row, out: &mut [T]| {
            let (image, channel) = (row / plan.channels, row % plan.channels);
            for output in channel / each * outputs..(channel / each + 1) * outputs {
                let from = &all[(image * plan.outputs + output) * plan.places()..][..plan.places()];
                let taps = &weight[(output * each + channel % each) * plan.taps()..];
                DirectInput { plan, from, taps, out }.dispatch();
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[n, plan.channels, plan.size[0], plan.size[1]])?, y.device())
    }
    touched(op, 0);
    operations(plan.operations(y.shape()[0]));
    if y.dtype() == DType::F64 { run::<f64>(op, y, weight, plan) } else { run::<f32>(op, y, weight, plan) }
}

/// Of dense `x [n, channels, size]` and `y [n, outputs, out]`: the gradient of the weight.
pub(crate) fn direct_weight(op: &'static str, x: &Tensor, y: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, y: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, each) = (x.shape()[0], plan.channels / plan.groups);
        let (x_all, y_all) = (x.cpu_slice::<T>(op)?, y.cpu_slice::<T>(op)?);
        let out = fill_rows(plan.outputs * each, plan.taps(), |row, out: &mut [T]| {
            let (output, channel) = (row / each, plan.first_channel(row / each) + row % each);
            for image in 0..n {
                let from = &x_all[(image * plan.channels + channel) * plan.plane()..];
                let dy = &y_all[(image * plan.outputs + output) * plan.places()..][..plan.places()];
                DirectWeight { plan, from, dy, out }.dispatch();
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &plan.weight_shape())?, x.device())
    }
    touched(op, 0);
    operations(plan.operations(x.shape()[0]));
    if x.dtype() == DType::F64 { run::<f64>(op, x, y, plan) } else { run::<f32>(op, x, y, plan) }
}
