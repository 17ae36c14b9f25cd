//! Updates of parameters, and the norm of their gradients.

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

/// A part of a flat gradient, in elements; both ends are multiples of 4.
pub(crate) struct Range<'a> {
    pub plane: &'a GpuBuffer,
    pub start: usize,
    pub end: usize,
}

impl<'a> Range<'a> {
    fn bytes(&self) -> u64 {
        4 * (self.end - self.start) as u64
    }

    fn operand(&self) -> Operand<'a> {
        Operand::new(self.plane, self.bytes())
    }
}

/// What an update reads about all gradients: the factor they are multiplied by, their norm, 1 if they are not finite (then the
/// update changes nothing), and a zero.
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
    let shares: Vec<u64> = ranges.iter().map(|r| groups(r).min(PARTIALS / WORKGROUP)).collect();
    let count: u64 = shares.iter().sum::<u64>() * WORKGROUP;
    let partials = Tensor::gpu_uninit(OP, Dims::new(OP, &[2 * count as usize])?, DType::F32, device)?;
    let mut first = 0;
    for (range, &share) in ranges.iter().zip(&shares) {
        let (start, fours) = (range.start as u32 / 4, ((range.end - range.start) / 4) as u32);
        gpu.run(Launch {
            kernel: "optim/norm_partial",
            elems: &[],
            constants: &[],
            bind: &[Bind::Read(range.operand()), Bind::Write(partials.gpu_buffer(OP)?)],
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

fn groups(range: &Range<'_>) -> u64 {
    ((range.end - range.start) as u64 / 4).div_ceil(EACH * WORKGROUP)
}

/// Updates a range of the flat `value` and its `states` in place.
pub(crate) fn update(
    gpu: &Gpu,
    update: Update,
    value: &GpuBuffer,
    states: &[&GpuBuffer],
    gradient: &Range<'_>,
    stats: &Tensor,
    scalars: &Scalars,
) -> Result<()> {
    let (kernel, scalars) = match update {
        Update::Adam => ("optim/adam", &scalars[..]),
        Update::Sgd => ("optim/sgd", &scalars[..4]),
        Update::Lion => ("optim/lion", &scalars[..6]),
    };
    let (start, fours) = (gradient.start as u32 / 4, ((gradient.end - gradient.start) / 4) as u32);
    let mut params = vec![start, fours];
    params.extend(scalars.iter().map(|&s| (s as f32).to_bits()));
    // Read and written.
    let of = |plane| Operand::new(plane, 2 * gradient.bytes());
    let mut bind = vec![Bind::Read(gradient.operand()), Bind::Read(stats.gpu_buffer(OP)?), Bind::Write(of(value))];
    bind.extend(states.iter().map(|&state| Bind::Write(of(state))));
    let (constants, groups) = super::spread(gpu, fours);
    gpu.run(Launch {
        kernel,
        elems: &[],
        constants: &constants,
        bind: &bind,
        params: bytemuck::cast_slice(&params),
        groups,
    })
}
