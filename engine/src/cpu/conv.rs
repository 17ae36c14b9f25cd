//! Windows of convolutions in plain Rust. The formulas stand in `shaders/conv/`.

use super::Float;
use super::parallel::fill_rows;
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

/// Of dense `x [n, channels, size]` and weight: `[n, outputs, out]`.
pub(crate) fn direct(op: &'static str, x: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, weight: &Tensor, plan: &Windows) -> Result<Tensor> {
        let (n, each) = (x.shape()[0], plan.channels / plan.groups);
        let (all, weight) = (x.cpu_slice::<T>(op)?, weight.cpu_slice::<T>(op)?);
        let out = fill_rows(n * plan.outputs, plan.places(), |row, out: &mut [T]| {
            let (image, output) = (row / plan.outputs, row % plan.outputs);
            let planes = &all[(image * plan.channels + plan.first_channel(output)) * plan.plane()..];
            let taps = &weight[output * each * plan.taps()..];
            for (at, out) in out.iter_mut().enumerate() {
                plan.window(at, |tap, i| {
                    for c in 0..each {
                        *out += taps[c * plan.taps() + tap] * planes[c * plan.plane() + i];
                    }
                });
            }
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
                for (at, &v) in from.iter().enumerate() {
                    plan.window(at, |tap, i| out[i] += taps[tap] * v);
                }
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
                for (at, &dy) in dy.iter().enumerate() {
                    plan.window(at, |tap, i| out[tap] += dy * from[i]);
                }
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &plan.weight_shape())?, x.device())
    }
    touched(op, 0);
    operations(plan.operations(x.shape()[0]));
    if x.dtype() == DType::F64 { run::<f64>(op, x, y, plan) } else { run::<f32>(op, x, y, plan) }
}
