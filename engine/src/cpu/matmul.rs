//! Matrix products of the CPU device, by the `gemm` crate.

use super::Float;
use super::elementwise::value_of;
use super::parallel::{for_chunks, for_pieces};
use super::pool::take;
use crate::layout::Layout;
use crate::ops::elementwise::Unary;
use crate::ops::matmul::{Output, Product};
use crate::profile::operations;
use crate::{DType, Error, Result, Tensor};
use gemm::Parallelism;

/// Multiplications below which a product stays on one core.
const PARALLEL_WORK: usize = 1 << 20;

/// The finished product of f32 or f64 operands, contiguous.
pub(crate) fn product(product: &Product) -> Result<Output> {
    match product.a.dtype() {
        DType::F32 => typed::<f32>(product),
        DType::F64 => typed::<f64>(product),
        got => Err(Error::DType { op: product.op, got, expected: "f32 or f64" }),
    }
}

/// Where the matrices of an operand lie.
struct Matrices<'a, T> {
    data: &'a [T],
    /// Index of the first element of each matrix.
    starts: Vec<usize>,
    row: usize,
    column: usize,
}

impl<'a, T: Float> Matrices<'a, T> {
    fn new(op: &'static str, x: &'a Tensor) -> Result<Self> {
        let data = x.cpu_all::<T>(op)?;
        let layout = x.layout();
        let lead = layout.rank() - 2;
        let (row, column) = (layout.strides[lead], layout.strides[lead + 1]);
        let mut starts = Vec::new();
        let mut batch = Layout::contiguous(op, &layout.shape[..lead])?;
        batch.strides.copy_from_slice(&layout.strides[..lead]);
        batch.offset = layout.offset;
        batch.for_each_index(|i| starts.push(i));
        let reach = (layout.shape[lead].max(1) - 1) * row + (layout.shape[lead + 1].max(1) - 1) * column;
        match x.elements() == 0 || starts.iter().all(|start| start + reach < data.len()) {
            true => Ok(Matrices { data, starts, row, column }),
            false => Err(Error::shape(op, "a view beyond the end of its buffer")),
        }
    }
}

fn typed<T: Float>(product: &Product) -> Result<Output> {
    let Product { op, finish, .. } = *product;
    let shape = product.shape()?;
    let device = product.a.device();
    // Of anything: the product is written over it.
    let mut out = take::<T>(shape.elements());
    add_bias(product, &mut out)?;
    multiply(product, &mut out)?;
    let z = if finish.keep { Some(out.clone()) } else { None };
    if let Some(activation) = finish.activation {
        let f = Unary::new(activation.op());
        for_chunks(&mut out, |_, y| {
            let z = y.to_vec();
            value_of(f, &z, y);
        });
    }
    if let Some(residual) = finish.residual {
        let residual = residual.contiguous()?;
        let residual = residual.cpu_slice::<T>(op)?;
        for_chunks(&mut out, |start, out| out.iter_mut().zip(&residual[start..]).for_each(|(y, &r)| *y += r));
    }
    let tensor = |values| Tensor::from_cpu(op, values, shape, device);
    Ok(Output { y: tensor(out)?, z: z.map(tensor).transpose()? })
}

/// Puts the bias into every row.
fn add_bias<T: Float>(product: &Product, out: &mut [T]) -> Result<()> {
    let (_, n, _) = product.sizes();
    if let Some(bias) = product.finish.bias
        && n > 0
    {
        let bias = bias.contiguous()?;
        let bias = bias.cpu_slice::<T>(product.op)?;
        for_pieces(out, 64 * n, 1, &|_, rows| rows.chunks_exact_mut(n).for_each(|row| row.copy_from_slice(bias)));
    }
    Ok(())
}

/// Adds the scaled products to `out`, or sets it to them if there is no bias.
fn multiply<T: Float>(product: &Product, out: &mut [T]) -> Result<()> {
    let Product { op, finish, .. } = *product;
    let (m, n, k) = product.sizes();
    if out.is_empty() || k == 0 {
        if finish.bias.is_none() {
            out.fill(T::zero());
        }
        return Ok(());
    }
    let a = Matrices::<T>::new(op, product.a)?;
    let b = Matrices::<T>::new(op, product.b)?;
    let one = |index: usize, y: &mut [T], threads: Parallelism| {
        let (a_start, b_start) = (a.starts[index], b.starts[index]);
        // SAFETY: `Matrices::new` checked that the last element of every matrix lies in its buffer, `y` has m * n
        // elements in row-major order, and is borrowed mutably, so that it overlaps with neither.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_ptr(),
                1,
                n as isize,
                finish.bias.is_some(),
                a.data.as_ptr().add(a_start),
                a.column as isize,
                a.row as isize,
                b.data.as_ptr().add(b_start),
                b.column as isize,
                b.row as isize,
                T::one(),
                T::of(finish.scale),
                false,
                false,
                false,
                threads,
            );
        }
    };
    let work = m.saturating_mul(n).saturating_mul(k);
    let matrices = out.len() / (m * n);
    operations(2 * work as u64 * matrices as u64);
    if matrices >= rayon::current_num_threads() && work.saturating_mul(matrices) > PARALLEL_WORK {
        let batch = (PARALLEL_WORK / 8 / work).max(1);
        for_pieces(out, batch * m * n, k, &|i, piece| {
            let matrices = piece.chunks_exact_mut(m * n).enumerate();
            matrices.for_each(|(k, y)| one(i * batch + k, y, Parallelism::None));
        });
    } else {
        let threads = if work > PARALLEL_WORK { Parallelism::Rayon(0) } else { Parallelism::None };
        out.chunks_exact_mut(m * n).enumerate().for_each(|(index, y)| one(index, y, threads));
    }
    Ok(())
}
