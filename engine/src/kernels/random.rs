//! Random number kernels.

use super::{flag, gpu_of, groups, size, window};
use crate::device::RngState;
use crate::device::gpu::{Bind, Launch};
use crate::ops::random::{Law, Noise};
use crate::{DType, Device, Dims, Result, Tensor};

pub(crate) fn draw(
    op: &'static str,
    law: Law,
    noise: &Noise,
    shape: Dims,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let flat = (Dims::new(op, &[shape.elements()])?, dtype);
    let out = window::flat(op, device, flat, &[], &mut |first, count, _| {
        draw_part(op, law, noise, first, (Dims::new(op, &[count])?, dtype), device)
    })?;
    window::shaped(op, &out, &shape)
}

/// The elements from `first` on, a multiple of four.
fn draw_part(
    op: &'static str,
    law: Law,
    noise: &Noise,
    first: usize,
    (shape, dtype): window::Output,
    device: &Device,
) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, shape, dtype, device)?;
    let count = out.elements();
    // Which law, three floats, two words.
    let (kind, floats, words) = match law {
        Law::Uniform { low, high } => {
            let (low, high) = (low as f32, high as f32);
            (0, [low, high - low, high.next_down()], [0, 0])
        }
        Law::Normal { mean, std } => (1, [mean as f32, std as f32, 0.0], [0, 0]),
        Law::Gumbel => (2, [0.0; 3], [0, 0]),
        Law::Bernoulli { threshold } => (3, [0.0; 3], [0, word(threshold)]),
        Law::Integer { low, range } => (4, [0.0; 3], [low as u32, range]),
    };
    let state = halves(noise.state);
    let params: [u32; 11] = [
        size(op, count)?,
        state[0],
        state[1],
        state[2],
        state[3],
        floats[0].to_bits(),
        floats[1].to_bits(),
        floats[2].to_bits(),
        words[0],
        words[1],
        size(op, first / 4)?,
    ];
    gpu_of(op, &out)?.run(Launch {
        kernel: "random/draw",
        elems: &[("y", dtype)],
        constants: &[("LAW", f64::from(kind))],
        bind: &[Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(count.div_ceil(4)),
    })?;
    Ok(out)
}

pub(crate) fn dropout(op: &'static str, x: &Tensor, threshold: u64, scale: f64, noise: &Noise) -> Result<Tensor> {
    let flat = window::shaped(op, x, &[x.elements()])?;
    let output = (flat.dims(), x.dtype());
    let out = window::flat(op, x.device(), output, &[&flat], &mut |first, _, x| {
        dropout_part(op, &x[0], first, threshold, scale, noise)
    })?;
    window::shaped(op, &out, x.shape())
}

/// Of the elements from `first` on, a multiple of four.
fn dropout_part(
    op: &'static str,
    x: &Tensor,
    first: usize,
    threshold: u64,
    scale: f64,
    noise: &Noise,
) -> Result<Tensor> {
    let out = Tensor::gpu_uninit(op, x.dims(), x.dtype(), x.device())?;
    let (count, offset) = (out.elements(), x.layout().offset);
    let state = halves(noise.state);
    let params: [u32; 9] = [
        size(op, count)?,
        size(op, offset)?,
        state[0],
        state[1],
        state[2],
        state[3],
        word(threshold),
        (scale as f32).to_bits(),
        size(op, first / 4)?,
    ];
    gpu_of(op, x)?.run(Launch {
        kernel: "random/dropout",
        elems: &[("x", x.dtype()), ("y", x.dtype())],
        constants: &[("ALIGNED", flag(offset % 4 == 0))],
        bind: &[Bind::Read(x.gpu_buffer(op)?), Bind::Write(out.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&params),
        groups: groups(count.div_ceil(4)),
    })?;
    Ok(out)
}

/// Seed and draw as words, lower first.
pub(crate) fn halves(state: RngState) -> [u32; 4] {
    [state.seed as u32, (state.seed >> 32) as u32, state.draws as u32, (state.draws >> 32) as u32]
}

/// A threshold below 2^32; the operations treat certain events themselves.
fn word(threshold: u64) -> u32 {
    u32::try_from(threshold).unwrap_or(u32::MAX)
}
