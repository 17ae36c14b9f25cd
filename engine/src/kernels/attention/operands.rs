//! Operands as the kernels take them: in fours of elements, what is added to scores in one tensor, masks as bits.

use crate::device::gpu::{Bind, Launch};
use crate::kernels::{gpu_of, groups, size};
use crate::layout::{Dims, Layout};
use crate::ops::join::PadMode;
use crate::{DType, Result, Tensor};

/// Bits of a contiguous bool tensor [matrices, height, width], as `attention/pack.wgsl` lays them out.
pub(crate) fn pack_bits(
    op: &'static str,
    seen: &Tensor,
    matrices: usize,
    height: usize,
    width: usize,
) -> Result<Tensor> {
    let (columns, blocks) = (width.div_ceil(32), height.div_ceil(32));
    let words = Dims::new(op, &[matrices * (height + blocks) * columns])?;
    let words = Tensor::gpu_uninit(op, words, DType::U32, seen.device())?;
    gpu_of(op, seen)?.run(Launch {
        kernel: "attention/pack",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(seen.gpu_buffer(op)?), Bind::Write(words.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[
            size(op, matrices)?,
            size(op, height)?,
            size(op, width)?,
            size(op, seen.layout().offset)?,
        ]),
        groups: groups(matrices * blocks * columns),
    })?;
    Ok(words)
}

/// [batch, heads, rows, width] with a width of whole fours, in memory by whole aligned fours: itself where it is.
pub(in crate::kernels) fn fours(x: &Tensor) -> Result<Tensor> {
    let x = padded(x)?;
    let layout = x.layout();
    let aligned = |dim: usize| layout.strides[dim].is_multiple_of(4) || layout.shape[dim] == 1;
    let strides_fit = (0..3).all(aligned) && layout.strides[3] == 1;
    match strides_fit && layout.offset.is_multiple_of(4) {
        true => Ok(x),
        false => x.copy(),
    }
}

/// With zeros up to a width of whole fours.
fn padded(x: &Tensor) -> Result<Tensor> {
    match x.shape().last().map_or(0, |width| width % 4) {
        0 => Ok(x.clone()),
        rest => {
            let mut pads = vec![(0, 0); x.rank()];
            pads[x.rank() - 1].1 = 4 - rest as isize;
            x.pad(&pads, PadMode::Constant(0.0))
        }
    }
}

/// [batch, heads, rows, width] as a dense [batch, rows, heads, width of whole fours]: itself where a kernel made it so.
pub(super) fn by_rows(x: &Tensor) -> Result<Tensor> {
    let x = padded(&x.transpose(1, 2)?)?;
    let x = x.contiguous()?;
    if x.layout().offset.is_multiple_of(4) { Ok(x) } else { x.copy() }
}

/// The inverse of [`by_rows`], a view.
pub(in crate::kernels) fn by_heads(x: &Tensor, width: usize) -> Result<Tensor> {
    x.narrow(3, 0, width)?.transpose(1, 2)
}

/// What is added to scores, in one tensor: first the flat ones, in their order, then the bias.
pub(in crate::kernels) struct Aux {
    pub tensor: Option<Tensor>,
    /// Where each of the flat ones begins.
    pub starts: Vec<usize>,
    /// First element and strides.
    pub bias: [usize; 5],
}

impl Aux {
    pub fn new(bias: &Option<Tensor>, flat: &[&Option<Tensor>]) -> Result<Self> {
        let mut parts = Vec::new();
        let (mut starts, mut end) = (Vec::with_capacity(flat.len()), 0);
        for x in flat {
            starts.push(end);
            if let Some(x) = x {
                end += x.elements();
                parts.push(x.contiguous()?.reshape(&[-1])?);
            }
        }
        if let (Some(bias), []) = (bias, &parts[..]) {
            let Layout { offset, strides, .. } = *bias.layout();
            let bias_at = [offset, strides[0], strides[1], strides[2], strides[3]];
            return Ok(Aux { tensor: Some(bias.clone()), starts, bias: bias_at });
        }
        let mut bias_at = [0; 5];
        if let Some(bias) = bias {
            let (bias, [b, h, r, c]) = compact(bias)?;
            bias_at = [end, b, h, r, c];
            parts.push(bias);
        }
        let tensor = match &parts[..] {
            [] => None,
            [one] => Some(if one.layout().offset == 0 { one.clone() } else { one.copy()? }),
            _ => Some(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?),
        };
        Ok(Aux { tensor, starts, bias: bias_at })
    }
}

/// An expanded tensor without what it repeats, flat, and its strides.
fn compact(x: &Tensor) -> Result<(Tensor, [usize; 4])> {
    let mut small = x.clone();
    for dim in 0..4 {
        if x.layout().strides[dim] == 0 {
            small = small.narrow(dim as isize, 0, 1)?;
        }
    }
    let small = small.contiguous()?;
    let mut strides = [0; 4];
    for (dim, stride) in strides.iter_mut().enumerate() {
        *stride = if small.shape()[dim] == 1 { 0 } else { small.layout().strides[dim] };
    }
    Ok((small.reshape(&[-1])?, strides))
}
