//! Matrix products of the CPU device, by the `gemm` crate.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::Float;
use super::elementwise::value_of;
use super::parallel::{for_chunks, for_pieces};
use super::pool::take;
use crate::layout::Layout;
use crate::ops::elementwise::Unary;
use crate::ops::matmul::{Output, Product};
use crate::profile::operations;
use crate::storage::Element;
use crate::{DType, Error, Result, Tensor};
use gemm::Parallelism;

/// Multiplications below which a product stays on one core.
const PARALLEL_WORK: usize = 1 << 20;

/// Rows of `a` up to which halves of `b` are widened piece by piece: with more, a product takes so long that widening all of them costs little.
const FEW: usize = 16;
/// Elements of such a piece, which stay in a core's cache.
const PIECE: usize = 1 << 14;

/// The finished product of f32 or f64 operands, contiguous. What [`takes_halves`] says may be a matrix of halves.
pub(crate) fn product(product: &Product) -> Result<Output> {
    match product.a.dtype() {
        DType::F32 if product.b.dtype().is_half() => typed::<f32>(product, multiply_by_halves),
        DType::F32 => typed::<f32>(product, multiply),
        DType::F64 => typed::<f64>(product, multiply),
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

/// Whether b may be left in halves: few rows of a, and one matrix whose columns or rows are dense in memory, as a layer's are.
pub(crate) fn takes_halves(product: &Product) -> bool {
    let (m, n, k) = product.sizes();
    let strides = &product.b.layout().strides;
    let [.., row, column] = **strides else { return false };
    let dense = row == 1 && column >= k || column == 1 && row >= n;
    product.batch().iter().all(|&size| size == 1) && m <= FEW && n > 0 && k > 0 && dense
}

fn typed<T: Float>(product: &Product, multiply: fn(&Product, &mut [T]) -> Result<()>) -> Result<Output> {
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

/// As [`multiply`] where b is of halves, as [`takes_halves`] says.
fn multiply_by_halves(product: &Product, out: &mut [f32]) -> Result<()> {
    match product.b.dtype() {
        DType::F16 => by_columns(product, out, |halves: &[f16], wide| halves.convert_to_f32_slice(wide)),
        _ => by_columns(product, out, |halves: &[bf16], wide| halves.convert_to_f32_slice(wide)),
    }
}

fn by_columns<H: Element>(product: &Product, out: &mut [f32], widen: fn(&[H], &mut [f32])) -> Result<()> {
    let Product { op, finish, .. } = *product;
    let (m, n, k) = product.sizes();
    let a = product.a.contiguous()?;
    let a = a.cpu_slice::<f32>(op)?;
    let (layout, halves) = (product.b.layout(), product.b.cpu_all::<H>(op)?);
    let (row, column) = (layout.strides[layout.rank() - 2], layout.strides[layout.rank() - 1]);
    if layout.offset + (k - 1) * row + (n - 1) * column >= halves.len() || a.len() != m * k {
        return Err(Error::shape(op, "a view beyond the end of its buffer"));
    }
    operations(2 * (m * n * k) as u64);
    // By column, then by row.
    let mut sums = take::<f32>(m * n);
    let along_k = row == 1;
    // Short pieces of rows would be widened slowly.
    let columns = (PIECE / k).max(if along_k { 1 } else { 64 });
    for_pieces(&mut sums, columns * m, k, &|piece, sums| {
        let count = sums.len() / m;
        let mut wide = vec![0.0; count * k];
        let (line, apart) = if along_k { (k, column) } else { (count, row) };
        for (number, wide) in wide.chunks_exact_mut(line).enumerate() {
            let start = layout.offset + piece * columns * column + number * apart;
            widen(&halves[start..start + line], wide);
        }
        let (b_row, b_column) = if along_k { (1, k) } else { (count, 1) };
        // SAFETY: `a` has m * k elements, `wide` count * k, and `sums` m * count, which is borrowed mutably.
        unsafe {
            gemm::gemm(
                m,
                count,
                k,
                sums.as_mut_ptr(),
                m as isize,
                1,
                false,
                a.as_ptr(),
                1,
                k as isize,
                wide.as_ptr(),
                b_column as isize,
                b_row as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    });
    let (scale, biased) = (finish.scale as f32, finish.bias.is_some());
    for (row, out) in out.chunks_exact_mut(n).enumerate() {
        for (out, sums) in out.iter_mut().zip(sums.chunks_exact(m)) {
            let before = if biased { *out } else { 0.0 };
            *out = before + scale * sums[row];
        }
    }
    Ok(())
}
