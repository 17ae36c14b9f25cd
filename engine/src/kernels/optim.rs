//! Updates of parameters, and the norm of their gradients.

use std::sync::Arc;

use crate::device::gpu::{Bind, Gpu, GpuBuffer, Launch, Operand};
use crate::layout::Dims;
use crate::optim::{Scalars, Update};
use crate::{DType, Device, Error, Result, Tensor};

const OP: &str = "Optimizer";
/// As in the shaders.
const WORKGROUP: u64 = 256;
/// Invocations that sum squares, at most; each keeps one partial sum.
const PARTIALS: u64 = 1 << 14;
/// vec4s for one of them, at least.
const EACH: u64 = 16;

/// A part of a buffer of gradients, in elements; both ends are multiples of 4. The parameters that they belong to begin at `value` in
/// their own, a multiple of 4 too.
pub(crate) struct Range<'a> {
    pub plane: &'a Arc<GpuBuffer>,
    pub start: usize,
    pub end: usize,
    pub value: usize,
}

impl Range<'_> {
    /// The ranges of what kernels see of the gradients, each with where its parameters begin: one, or several where a binding does not hold
    /// all of the gradients, or of parameters `of` so many bytes.
    fn windows(&self, gpu: &Gpu, of: u64) -> Vec<(usize, Window)> {
        let limit = gpu.caps().max_binding_bytes;
        if self.plane.padded_bytes().max(of) <= limit {
            return vec![(self.value, Window { plane: self.plane.clone(), start: self.start, end: self.end })];
        }
        let most = (limit / 4 / 128 * 64) as usize;
        let window = |at: usize| (at - self.start + self.value, Window::of(self.plane, at, most.min(self.end - at)));
        (self.start..self.end).step_by(most).map(window).collect()
    }
}

/// A range of a buffer that a kernel can bind.
struct Window {
    plane: Arc<GpuBuffer>,
    start: usize,
    end: usize,
}

impl Window {
    /// `count` elements of a buffer from `at` on. Windows begin at multiples of 64 elements.
    fn of(plane: &Arc<GpuBuffer>, at: usize, count: usize) -> Self {
        let (first, start) = (at - at % 64, at % 64);
        Window { plane: plane.window(4 * first as u64, 4 * (start + count) as u64), start, end: start + count }
    }

    fn fours(&self) -> [u32; 2] {
        [self.start as u32 / 4, ((self.end - self.start) / 4) as u32]
    }

    fn bytes(&self) -> u64 {
        4 * (self.end - self.start) as u64
    }

    fn groups(&self) -> u64 {
        ((self.end - self.start) as u64 / 4).div_ceil(EACH * WORKGROUP)
    }
}

/// What an update reads about all gradients: the factor they are multiplied by, their norm, 1 if they are not finite (then the
/// update changes nothing), and how many steps before were skipped for that.
pub(crate) fn stats(device: &Device, values: [f64; 4]) -> Result<Tensor> {
    match device.is_gpu() {
        true => Tensor::from_slice(&values.map(|v| v as f32), &[4], device),
        false => Tensor::from_slice(&values, &[4], device),
    }
}

/// The numbers of [`stats`] on the host.
pub(crate) fn stats_of(stats: &Tensor) -> Result<[f64; 4]> {
    let values = stats.to_f64_vec()?;
    values.try_into().map_err(|_| Error::argument(OP, "statistics of another size than 4"))
}

/// Statistics of gradients that are `scale` times too large and whose norm is to be clipped to `max_norm`. Stays on the GPU.
pub(crate) fn norm(device: &Device, ranges: &[Range<'_>], max_norm: f64, scale: f64) -> Result<Tensor> {
    let gpu = device.gpu_ref().ok_or_else(|| Error::argument(OP, "a GPU kernel asked for on a CPU device"))?;
    let windows: Vec<Window> =
        ranges.iter().flat_map(|range| range.windows(gpu, 0)).map(|(_, window)| window).collect();
    let shares: Vec<u64> = windows.iter().map(|window| window.groups().min(PARTIALS / WORKGROUP)).collect();
    let count: u64 = shares.iter().sum::<u64>() * WORKGROUP;
    let partials = Tensor::gpu_uninit(OP, Dims::new(OP, &[2 * count as usize])?, DType::F32, device)?;
    let mut first = 0;
    for (window, &share) in windows.iter().zip(&shares) {
        let [start, fours] = window.fours();
        gpu.run(Launch {
            kernel: "optim/norm_partial",
            elems: &[],
            constants: &[],
            bind: &[Bind::Read(Operand::new(&window.plane, window.bytes())), Bind::Write(partials.gpu_buffer(OP)?)],
            params: bytemuck::cast_slice(&[start, fours, (share * WORKGROUP) as u32, first]),
            groups: share,
        })?;
        first += (share * WORKGROUP) as u32;
    }
    let out = Tensor::gpu_uninit(OP, Dims::new(OP, &[4])?, DType::F32, device)?;
    // A software GPU runs a workgroup's invocations one after another: there barriers only cost.
    let workgroup = if gpu.caps().software { 1.0 } else { WORKGROUP as f64 };
    let (max_norm, scale) = ((max_norm as f32).to_bits(), (scale as f32).to_bits());
    gpu.run(Launch {
        kernel: "optim/norm_finish",
        elems: &[],
        constants: &[("WORKGROUP", workgroup)],
        bind: &[Bind::Read(partials.gpu_buffer(OP)?), Bind::Write(out.gpu_buffer(OP)?)],
        params: bytemuck::cast_slice(&[count as u32, max_norm, scale]),
        groups: 1,
    })?;
    Ok(out)
}

/// The statistics of a scaled step from those of its gradients as they are. Changes `scaler`, the scale and its good steps, and
/// `skipped`, the number of skipped steps, in place.
pub(crate) fn scale(
    device: &Device,
    found: &Tensor,
    max_norm: f64,
    interval: u64,
    scaler: &Tensor,
    skipped: &Tensor,
) -> Result<Tensor> {
    let gpu = device.gpu_ref().ok_or_else(|| Error::argument(OP, "a GPU kernel asked for on a CPU device"))?;
    let stats = Tensor::gpu_uninit(OP, Dims::new(OP, &[4])?, DType::F32, device)?;
    gpu.run(Launch {
        kernel: "optim/scale",
        elems: &[],
        constants: &[],
        bind: &[
            Bind::Read(found.gpu_buffer(OP)?),
            Bind::Write(stats.gpu_buffer(OP)?),
            Bind::Write(scaler.gpu_buffer(OP)?),
            Bind::Write(skipped.gpu_buffer(OP)?),
        ],
        params: bytemuck::cast_slice(&[max_norm as f32, interval as f32]),
        groups: 1,
    })?;
    Ok(stats)
}

/// Updates a range of the flat `value` and its `states` in place.
pub(crate) fn update(
    gpu: &Gpu,
    update: Update,
    value: &Arc<GpuBuffer>,
    states: &[&Arc<GpuBuffer>],
    gradient: &Range<'_>,
    stats: &Tensor,
    scalars: &Scalars,
) -> Result<()> {
    let sr_ste = update.sr_ste(scalars) != 0.0;
    let (kernel, scalars) = match update {
        Update::Adam => ("optim/adam", &scalars[..]),
        Update::Sgd => ("optim/sgd", &scalars[..5]),
        Update::Lion => ("optim/lion", &scalars[..6]),
    };
    let whole = gradient.plane.padded_bytes().max(value.padded_bytes()) <= gpu.caps().max_binding_bytes;
    for (at, window) in gradient.windows(gpu, value.padded_bytes()) {
        let [from, fours] = window.fours();
        let changed = |plane: &Arc<GpuBuffer>| match whole {
            true => Window { plane: plane.clone(), start: at, end: at + 4 * fours as usize },
            false => Window::of(plane, at, 4 * fours as usize),
        };
        let value = changed(value);
        let mut params = vec![value.fours()[0], from, fours];
        params.extend(scalars.iter().map(|&s| (s as f32).to_bits()));
        let changed: Vec<Window> = [value].into_iter().chain(states.iter().copied().map(changed)).collect();
        let mut bind = vec![Bind::Read(Operand::new(&window.plane, window.bytes())), Bind::Read(stats.gpu_buffer(OP)?)];
        // Read and written.
        bind.extend(changed.iter().map(|part| Bind::Write(Operand::new(&part.plane, 2 * window.bytes()))));
        let (constants, groups) = super::spread(gpu, fours);
        let mut constants = constants.to_vec();
        if sr_ste {
            constants.push(("SR_STE", 1.0));
        }
        gpu.run(Launch {
            kernel,
            elems: &[],
            constants: &constants,
            bind: &bind,
            params: bytemuck::cast_slice(&params),
            groups,
        })?;
    }
    Ok(())
}
