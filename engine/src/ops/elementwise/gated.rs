//! Gated linear units: `f(gate) * up`, fused both ways.

use super::{Activation, Unary, unary_grad};
use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::device::gpu::Gpu;
use crate::kernels::{elementwise as kernels, window};
use crate::layout::{Dims, Layout};
use crate::ops::rows::{narrowed, wide};
use crate::ops::{join, view};
use crate::{Error, Result, Tensor};

/// `f(gate) * up` of two tensors of one shape.
pub(crate) fn gated(op: &'static str, gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    gate.expect_float(op)?;
    gate.expect_like(op, up)?;
    if gate.shape() != up.shape() {
        let (gate, up) = (gate.shape(), up.shape());
        return Err(Error::shape(op, format!("gate of shape {gate:?} and up of shape {up:?}, expected the same")));
    }
    let (shape, cols) = (gate.dims(), gate.shape().last().copied().unwrap_or(1));
    let pair = Pair { op, gate: gate.detach(), up: up.detach(), cols, f: Unary::new(kind.op()), first: 0 };
    if gate.elements() == 0 {
        let out = gate.detach();
        return Ok(record(op, out, &[gate, up], |dy, _| Ok(vec![Some(dy.clone()), Some(dy.clone())])));
    }
    Ok(record(op, pair.value()?, &[gate, up], move |dy, _| {
        let both = pair.gradient(dy)?;
        let half = |i: usize| {
            let layout = Layout::rows(shape, 1, 2 * both.layout().strides[1]);
            both.with_layout(Layout { offset: i * both.layout().strides[1], ..layout })
        };
        Ok(vec![Some(half(0)), Some(half(1))])
    }))
}

/// `f(gate) * up` of the two halves of one dimension; which of them is the gate is `gate`.
pub(crate) fn glu(op: &'static str, x: &Tensor, dim: isize, kind: Activation, gate: usize) -> Result<Tensor> {
    x.expect_float(op)?;
    let d = x.dim(op, dim)?;
    let size = x.shape()[d];
    if !size.is_multiple_of(2) {
        return Err(Error::shape(op, format!("dimension {d} of size {size} does not split into two halves")));
    }
    let shape = x.dims();
    let inner: usize = shape[d + 1..].iter().product();
    let saved = view::contiguous(&x.detach())?;
    let half = |i: usize| saved.with_layout(saved.layout().slice(d, i * (size / 2), size / 2, 1));
    let (f, cols) = (Unary::new(kind.op()), size / 2 * inner);
    let pair = Pair { op, gate: half(gate), up: half(1 - gate), cols, f, first: gate };
    if x.elements() == 0 {
        return Ok(record(op, pair.gate, &[x], move |dy, _| {
            Tensor::zeros(&shape, dy.dtype(), dy.device()).map(|z| vec![Some(z)])
        }));
    }
    Ok(record(op, pair.value()?, &[x], move |dy, _| Ok(vec![Some(view::reshape_to(&pair.gradient(dy)?, shape)?)])))
}

/// A gate and what passes it, as rows of `cols` elements.
struct Pair {
    op: &'static str,
    gate: Tensor,
    up: Tensor,
    cols: usize,
    f: Unary,
    /// Which of the two gradients is that of the gate.
    first: usize,
}

impl Pair {
    fn value(&self) -> Result<Tensor> {
        let Pair { op, gate, up, cols, f, .. } = self;
        match gate.device().kind() {
            Kind::Cpu(_) => narrowed(&cpu::gated(op, &wide(gate)?, &wide(up)?, *cols, *f)?, gate.dtype()),
            Kind::Gpu(gpu) => match self.windows(gpu, &[gate, up], 1)?.as_deref() {
                Some([gate, up]) => kernels::gated(op, gate, up, *cols, *f),
                _ => super::unary(op, gate, *f)?.mul(up),
            },
        }
    }

    /// `[rows, 2, cols]`: the gradients of gate and up, of up and gate where `first` is 1.
    fn gradient(&self, dy: &Tensor) -> Result<Tensor> {
        let Pair { op, gate, up, cols, f, first } = self;
        match gate.device().kind() {
            Kind::Cpu(_) => {
                let both = cpu::gated_grad(op, &wide(gate)?, &wide(up)?, &wide(dy)?, *cols, *f, *first)?;
                narrowed(&both, gate.dtype())
            }
            Kind::Gpu(gpu) => match self.windows(gpu, &[gate, up, &dy.detach()], 2)?.as_deref() {
                Some([gate, up, dy]) => kernels::gated_grad(op, gate, up, dy, *cols, *f, *first),
                _ => {
                    let dy = dy.detach();
                    let (d_up, passed) = (super::unary(op, gate, *f)?.mul(&dy)?, up.mul(&dy)?.contiguous()?);
                    let d_gate = unary_grad(op, &gate.contiguous()?, &passed, *f)?;
                    let both = if *first == 0 { [&d_gate, &d_up] } else { [&d_up, &d_gate] };
                    let rows = Dims::new(op, &[gate.elements() / cols, 1, *cols])?;
                    let [a, b] = both.map(|x| view::reshape_to(x, rows));
                    join::concat(op, &[&a?, &b?], 1)
                }
            },
        }
    }

    /// The inputs as the kernels see them, if a binding holds each, and `outputs` results side by side.
    fn windows(&self, gpu: &Gpu, inputs: &[&Tensor], outputs: usize) -> Result<Option<Vec<Tensor>>> {
        let rows = self.gate.elements() / self.cols;
        let shape = Dims::new(self.op, &[rows, outputs, self.cols.next_multiple_of(4)])?;
        let inputs: Vec<Tensor> = inputs.iter().map(|&x| x.clone()).collect();
        Ok(window::windows(gpu, &inputs, &[(shape, self.gate.dtype())]))
    }
}

/// [`Tensor::gated`] from primitive operations.
///
/// # Errors
/// As [`Tensor::gated`].
pub fn reference(gate: &Tensor, up: &Tensor, kind: Activation) -> Result<Tensor> {
    super::unary("gated", gate, Unary::new(kind.op()))?.mul(up)
}
