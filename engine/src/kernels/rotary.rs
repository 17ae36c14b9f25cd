//! Rotary positions.

use super::attention::by_heads;
use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::rotary::Turn;
use crate::{DType, Error, Result, Tensor};

/// `x` [batch, heads, time, width], `positions` [batch, axes, time]. The result is a view of [batch, time, heads, width in whole fours], as
/// attention takes it.
pub(crate) fn turn(
    op: &'static str,
    x: &Tensor,
    positions: &Tensor,
    turns: &Tensor,
    turn: &Turn<'_>,
) -> Result<Tensor> {
    let &[batch, heads, time, width] = x.shape() else {
        return Err(Error::shape(op, format!("input of shape {:?}", x.shape())));
    };
    let fours = width.div_ceil(4);
    let y = Tensor::gpu_uninit(op, Dims::new(op, &[batch, time, heads, 4 * fours])?, x.dtype(), x.device())?;
    // Heads turn alike: an invocation takes some of them, as long as there are enough invocations.
    let (gpu, cells) = (gpu_of(op, x)?, batch * time * heads * fours);
    let enough = if gpu.caps().software { 512 } else { 1 << 16 };
    let each = (cells / enough).clamp(1, heads.max(1));
    let pairs = turn.frequencies.len();
    let layout = x.layout();
    let whole = |n: usize| n.is_multiple_of(4);
    let in_fours = layout.strides[3] == 1
        && layout.strides[..3].iter().all(|&stride| whole(stride))
        && whole(layout.offset)
        && whole(width)
        && (turn.interleaved || whole(pairs));
    let axes = positions.shape().get(1).copied().unwrap_or(1);
    let mut params = Vec::with_capacity(17);
    for n in [batch, heads, time, width, pairs, axes] {
        params.push(size(op, n)?);
    }
    params.extend([turn.magnitude, turn.direction].map(|n| (n as f32).to_bits()));
    for (x, rank) in [(x, 4), (positions, 3)] {
        params.push(size(op, x.layout().offset)?);
        for dim in 0..rank {
            params.push(size(op, x.layout().strides[dim])?);
        }
    }
    params.push(size(op, each)?);
    gpu.run(Launch {
        kernel: "attention/rotary",
        elems: &[("x", x.dtype()), ("positions", positions.dtype()), ("y", x.dtype())],
        constants: &[
            ("INTERLEAVED", flag(turn.interleaved)),
            ("SIGNED", flag(positions.dtype() == DType::I32)),
            ("FOURS", flag(in_fours)),
        ],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(positions.gpu_buffer(op)?),
            Bind::Read(turns.gpu_buffer(op)?),
            Bind::Write(y.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: groups(batch * time * heads.div_ceil(each) * fours),
    })?;
    by_heads(&y, width)
}
