//! Gated linear units, on rows: each piece of a row goes through its functions while it is in the cache.

use super::unary::{grad_of, value_of};
use crate::cpu::Float;
use crate::cpu::parallel::fill_rows;
use crate::layout::Dims;
use crate::ops::elementwise::Unary;
use crate::ops::rows::rows_of;
use crate::{DType, Result, Tensor};

/// Elements that go through the functions together.
const PIECE: usize = 1 << 10;

/// `f(gate) * up`.
pub(crate) fn gated(op: &'static str, gate: &Tensor, up: &Tensor, cols: usize, f: Unary) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, gate: &Tensor, up: &Tensor, cols: usize, f: Unary) -> Result<Tensor> {
        let rows = gate.elements() / cols;
        let shape = gate.dims();
        let ((gate, g_start, g_stride), (up, u_start, u_stride)) = (rows_of(gate, cols)?, rows_of(up, cols)?);
        let (g, u) = (gate.cpu_all::<T>(op)?, up.cpu_all::<T>(op)?);
        let out = fill_rows(rows, cols, |row, y: &mut [T]| {
            let (g, u) = (&g[g_start + row * g_stride..][..cols], &u[u_start + row * u_stride..][..cols]);
            for ((y, g), u) in y.chunks_mut(PIECE).zip(g.chunks(PIECE)).zip(u.chunks(PIECE)) {
                value_of(f, g, y);
                y.iter_mut().zip(u).for_each(|(y, &u)| *y = *y * u);
            }
        });
        Tensor::from_cpu(op, out, shape, gate.device())
    }
    match gate.dtype() {
        DType::F64 => run::<f64>(op, gate, up, cols, f),
        _ => run::<f32>(op, gate, up, cols, f),
    }
}

/// `[rows, 2, cols]`: the gradients of gate and up; that of the gate is number `first` of the two.
pub(crate) fn gated_grad(
    op: &'static str,
    gate: &Tensor,
    up: &Tensor,
    dy: &Tensor,
    cols: usize,
    f: Unary,
    first: usize,
) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, inputs: [&Tensor; 3], cols: usize, f: Unary, first: usize) -> Result<Tensor> {
        let rows = inputs[0].elements() / cols;
        let [gate, up, dy] = inputs.map(|x| rows_of(x, cols));
        let ((gate, g_start, g_stride), (up, u_start, u_stride), (dy, d_start, d_stride)) = (gate?, up?, dy?);
        let (g, u, d) = (gate.cpu_all::<T>(op)?, up.cpu_all::<T>(op)?, dy.cpu_all::<T>(op)?);
        let out = fill_rows(rows, 2 * cols, |row, both: &mut [T]| {
            let (g, u) = (&g[g_start + row * g_stride..][..cols], &u[u_start + row * u_stride..][..cols]);
            let d = &d[d_start + row * d_stride..][..cols];
            let (one, other) = both.split_at_mut(cols);
            let (dgate, dup) = if first == 0 { (one, other) } else { (other, one) };
            let pieces = dgate.chunks_mut(PIECE).zip(dup.chunks_mut(PIECE));
            let inputs = g.chunks(PIECE).zip(u.chunks(PIECE)).zip(d.chunks(PIECE));
            for ((dgate, dup), ((g, u), d)) in pieces.zip(inputs) {
                let mut through = [T::zero(); PIECE];
                let through = &mut through[..d.len()];
                through.iter_mut().zip(u.iter().zip(d)).for_each(|(t, (&u, &d))| *t = u * d);
                grad_of(f, g, through, dgate);
                value_of(f, g, dup);
                dup.iter_mut().zip(d).for_each(|(dup, &d)| *dup = *dup * d);
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[rows, 2, cols])?, gate.device())
    }
    match gate.dtype() {
        DType::F64 => run::<f64>(op, [gate, up, dy], cols, f, first),
        _ => run::<f32>(op, [gate, up, dy], cols, f, first),
    }
}
