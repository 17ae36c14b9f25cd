//! Kernels of the learned choice among six patterns.

use super::random::halves;
use super::window::{Output, bytes, length, seen, side_by_side, slice, windows};
use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch};
use crate::ops::patterns::Choice;
use crate::{Error, Result, Tensor};

/// The masked weight and the mask, `[groups, 4]`.
pub(crate) fn forward(op: &'static str, gates: &Tensor, weight: &Tensor, choice: &Choice) -> Result<[Tensor; 2]> {
    let output = (weight.dims(), weight.dtype());
    let made = by_groups(op, &[gates, weight], &[output, output], &mut |first, x| {
        let make = || Tensor::gpu_uninit(op, x[1].dims(), x[1].dtype(), x[1].device());
        let (masked, mask) = (make()?, make()?);
        let dtype = weight.dtype();
        gpu_of(op, weight)?.run(Launch {
            kernel: "prune/patterns",
            elems: &[("gates", dtype), ("weight", dtype), ("masked", dtype), ("mask", dtype)],
            constants: &[("NOISE", flag(choice.noise.is_some())), ("HARD", flag(choice.hard))],
            bind: &[
                Bind::Read(x[0].gpu_buffer(op)?),
                Bind::Read(x[1].gpu_buffer(op)?),
                Bind::Write(masked.gpu_buffer(op)?),
                Bind::Write(mask.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&params(op, first, x, choice, [0, 0])?),
            groups: groups(x[0].shape()[0]),
        })?;
        Ok(vec![masked, mask])
    })?;
    made.try_into().map_err(|_| Error::argument(op, "lost a result"))
}

/// The gradient of the gates, `[groups, 6]`.
pub(crate) fn gradient(
    op: &'static str,
    gates: &Tensor,
    weight: &Tensor,
    [masked, mask]: [&Option<Tensor>; 2],
    choice: &Choice,
) -> Result<Tensor> {
    // Something must be bound for a gradient that is missing; it is not read.
    let (d_masked, d_mask) = (masked.as_ref().unwrap_or(weight), mask.as_ref().unwrap_or(weight));
    let output = (gates.dims(), gates.dtype());
    let inputs = [gates, weight, d_masked, d_mask];
    let mut made = by_groups(op, &inputs, &[output], &mut |first, x| {
        let d_gates = Tensor::gpu_uninit(op, x[0].dims(), x[0].dtype(), x[0].device())?;
        let dtype = gates.dtype();
        let offsets = [size(op, x[2].layout().offset / 4)?, size(op, x[3].layout().offset / 4)?];
        gpu_of(op, gates)?.run(Launch {
            kernel: "prune/patterns_backward",
            elems: &[("gates", dtype), ("weight", dtype), ("d_masked", dtype), ("d_mask", dtype), ("d_gates", dtype)],
            constants: &[
                ("NOISE", flag(choice.noise.is_some())),
                ("HAS_MASKED", flag(masked.is_some())),
                ("HAS_MASK", flag(mask.is_some())),
            ],
            bind: &[
                Bind::Read(x[0].gpu_buffer(op)?),
                Bind::Read(x[1].gpu_buffer(op)?),
                Bind::Read(x[2].gpu_buffer(op)?),
                Bind::Read(x[3].gpu_buffer(op)?),
                Bind::Write(d_gates.gpu_buffer(op)?),
            ],
            params: bytemuck::cast_slice(&params(op, first, x, choice, offsets)?),
            groups: groups(x[0].shape()[0]),
        })?;
        Ok(vec![d_gates])
    })?;
    made.pop().ok_or_else(|| Error::argument(op, "lost a result"))
}

/// Runs `make(first group, inputs)` on all groups, or on as many at a time as bindings hold.
fn by_groups(
    op: &'static str,
    inputs: &[&Tensor],
    outputs: &[Output],
    make: &mut dyn FnMut(usize, &[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.detach()).collect();
    let gpu = gpu_of(op, &inputs[0])?;
    if let Some(seen) = windows(gpu, &inputs, outputs) {
        return make(0, &seen);
    }
    let most = inputs.iter().map(bytes).chain(outputs.iter().map(|(shape, dtype)| dtype.gpu_bytes(shape.elements())));
    let each = length(gpu, inputs[0].shape()[0], most.max().unwrap_or(0));
    side_by_side(op, inputs[0].device(), outputs, 0, each, &mut |first, count| {
        let parts = inputs.iter().map(|x| seen(gpu, &slice(x, 0, first, count))).collect::<Result<Vec<_>>>()?;
        make(first, &parts)
    })
}

/// `Params` of `shaders/common/patterns.wgsl`.
fn params(op: &'static str, first: usize, x: &[Tensor], choice: &Choice, offsets: [u32; 2]) -> Result<[u32; 12]> {
    let state = choice.noise.as_ref().map_or([0; 4], |noise| halves(noise.state));
    let [gates, weight] = [&x[0], &x[1]].map(|x| x.layout().offset);
    Ok([
        size(op, x[0].shape()[0])?,
        size(op, first)?,
        size(op, gates)?,
        size(op, weight / 4)?,
        state[0],
        state[1],
        state[2],
        state[3],
        (choice.steep as f32).to_bits(),
        (choice.spread as f32).to_bits(),
        offsets[0],
        offsets[1],
    ])
}
