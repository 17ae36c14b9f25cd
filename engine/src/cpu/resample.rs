//! Sparse matrices along a dimension, in plain Rust. The formulas stand in `shaders/resample/`.

use super::Float;
use super::parallel::{fill_rows, for_pieces};
use crate::layout::Dims;
use crate::ops::resample::Table;
use crate::{DType, Result, Tensor};

/// Of dense `x [outer, size, inner]`: `[outer, rows, inner]`. With `chosen`, of the shape of x, an element counts where that is the row.
pub(crate) fn weighted(op: &'static str, x: &Tensor, table: &Table, chosen: Option<&Tensor>) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, table: &Table, chosen: Option<&Tensor>) -> Result<Tensor> {
        let (outer, inner) = (x.shape()[0], x.shape()[2]);
        let all = x.cpu_slice::<T>(op)?;
        let chosen = chosen.map(|c| c.cpu_slice::<u32>(op)).transpose()?;
        let out = fill_rows(outer * table.rows(), inner, |at, out: &mut [T]| {
            let (first, row) = (at / table.rows() * table.size, at % table.rows());
            for (source, weight) in table.row(row) {
                let from = (first + source) * inner..(first + source + 1) * inner;
                match chosen {
                    None => out.iter_mut().zip(&all[from]).for_each(|(y, &v)| *y += T::of(weight) * v),
                    Some(chosen) => {
                        for ((y, &v), &c) in out.iter_mut().zip(&all[from.clone()]).zip(&chosen[from]) {
                            if c as usize == row {
                                *y += v;
                            }
                        }
                    }
                }
            }
        });
        Tensor::from_cpu(op, out, Dims::new(op, &[outer, table.rows(), inner])?, x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, table, chosen),
        _ => run::<f32>(op, x, table, chosen),
    }
}

/// Of dense `x [outer, size, inner]`, the highest of each row of the matrix, and its place: `[outer, rows, inner]` each.
pub(crate) fn highest(op: &'static str, x: &Tensor, table: &Table) -> Result<(Tensor, Tensor)> {
    fn run<T: Float>(op: &'static str, x: &Tensor, table: &Table) -> Result<(Tensor, Tensor)> {
        let (outer, inner) = (x.shape()[0], x.shape()[2]);
        let all = x.cpu_slice::<T>(op)?;
        let value =
            |at: usize, source: usize, column: usize| all[(at / table.rows() * table.size + source) * inner + column];
        let mut chosen = vec![0u32; outer * table.rows() * inner];
        for_pieces(&mut chosen, inner, 1, &|at, chosen| {
            for (column, chosen) in chosen.iter_mut().enumerate() {
                let mut row = table.row(at % table.rows()).map(|(source, _)| source);
                let mut best = row.next().unwrap_or_default();
                for source in row {
                    if value(at, source, column) > value(at, best, column) {
                        best = source;
                    }
                }
                *chosen = best as u32;
            }
        });
        let out = fill_rows(outer * table.rows(), inner, |at, out: &mut [T]| {
            for (column, out) in out.iter_mut().enumerate() {
                *out = value(at, chosen[at * inner + column] as usize, column);
            }
        });
        let shape = Dims::new(op, &[outer, table.rows(), inner])?;
        Ok((Tensor::from_cpu(op, out, shape, x.device())?, Tensor::from_cpu(op, chosen, shape, x.device())?))
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, table),
        _ => run::<f32>(op, x, table),
    }
}
