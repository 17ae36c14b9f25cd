//! Products with packed 2:4 matrices. With few rows a kernel picks what the packed matrix keeps; with more, tiles of it are expanded in
//! workgroup memory, or it is expanded for the length of one product. The dense matrix is never kept.

use std::cell::Cell;

use crate::autograd::{record, tracks};
use crate::cpu::sparse24 as cpu;
use crate::device::Kind;
use crate::kernels::matmul::{Packed, packed_product};
use crate::kernels::sparse24 as kernels;
use crate::kernels::window;
use crate::layout::Dims;
use crate::ops::join::{PadMode, pad};
use crate::ops::matmul::{Epilogue, Finish, Output, Product, fold, transposed};
use crate::ops::view::{contiguous, reshape_to};
use crate::sparse24::BLOCK;
use crate::{DType, Device, Error, Result, Sparse24, Tensor};

/// How a product with a packed matrix is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sparse24Form {
    /// From the packed matrix, picking from the input what it keeps.
    Packed,
    /// By the tiles of the dense product, expanded from the packed matrix in workgroup memory. On the CPU as [`Expanded`](Self::Expanded).
    Tiled,
    /// By the dense product, from a matrix that is expanded for it.
    Expanded,
}

thread_local! {
    static FORCED: Cell<Option<Sparse24Form>> = const { Cell::new(None) };
}

/// Runs `f` with all products of this thread with packed matrices, forward and backward, in one form. For tests and benchmarks.
pub fn force_sparse24<R>(form: Sparse24Form, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Sparse24Form>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(form)));
    f()
}

/// Rows of the input up to which a product is computed from the packed matrix, and up to which by tiles. Measured with a matrix of
/// 2048 x 2048 on two cores of a CPU and on llvmpipe there (`wgrad-bench run sparse24 form=packed`, `tiled`, `expanded`).
fn few(device: &Device) -> [usize; 2] {
    match device.kind() {
        Kind::Cpu(_) => [32, 0],
        Kind::Gpu(gpu) if gpu.caps().software => [16, 0],
        // Not measured. By its bytes and multiplications a large GPU is bound by reading the matrix up to some eight rows, and up to some
        // hundreds a pass that writes the dense matrix costs more than expanding each tile as often as there are tiles of rows.
        Kind::Gpu(_) => [8, 512],
    }
}

/// The same for the gradient of the values, which has no tiles.
fn few_of_values(device: &Device) -> usize {
    match device.kind() {
        Kind::Cpu(_) => 2,
        Kind::Gpu(_) => 8,
    }
}

fn form(device: &Device, rows: usize) -> Sparse24Form {
    let [packed, tiled] = few(device);
    FORCED.get().unwrap_or(match rows {
        n if n <= packed => Sparse24Form::Packed,
        n if n <= tiled => Sparse24Form::Tiled,
        _ => Sparse24Form::Expanded,
    })
}

/// A matrix with its columns padded to whole blocks, as [`aligned`] makes it.
fn padded(x: &Tensor) -> Result<Tensor> {
    let columns = x.shape()[1];
    let more = columns.next_multiple_of(BLOCK) - columns;
    if more > 0 {
        return pad(&x.detach(), &[(0, 0), (0, more as isize)], PadMode::Constant(0.0));
    }
    aligned(x)
}

/// Dense, detached, and beginning with a whole four.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let dense = contiguous(&x.detach())?;
    if dense.layout().offset.is_multiple_of(4) { Ok(dense) } else { dense.copy() }
}

/// The values of a dense matrix at some positions, `[rows, 16 blocks]`; 0 past the last column.
pub(crate) fn gather(op: &'static str, dense: &Tensor, meta: &Tensor) -> Result<Tensor> {
    let (columns, meta) = (dense.shape()[1], meta.clone());
    let values = gather_raw(op, dense, &meta)?;
    Ok(record(op, values, &[dense], move |d, _| Ok(vec![Some(expand(op, d, &meta, columns)?)])))
}

fn gather_raw(op: &'static str, dense: &Tensor, meta: &Tensor) -> Result<Tensor> {
    let shape = Dims::new(op, &[meta.shape()[0], meta.shape()[1] * BLOCK / 2])?;
    if shape.elements() == 0 {
        return Tensor::zeros(&shape, dense.dtype(), dense.device());
    }
    let dense = padded(dense)?;
    match dense.device().kind() {
        Kind::Cpu(_) => cpu::gather(op, &dense, meta, shape),
        Kind::Gpu(_) => {
            let output = (shape, dense.dtype());
            window::piecewise(op, &[&dense, meta], output, 1, &|x| kernels::gather(op, &x[0], &x[1]))
        }
    }
}

/// The dense matrix `[rows, columns]`, a view of one with whole blocks; not recorded.
fn expand(op: &'static str, values: &Tensor, meta: &Tensor, columns: usize) -> Result<Tensor> {
    let shape = Dims::new(op, &[meta.shape()[0], meta.shape()[1] * BLOCK])?;
    values.device().expect_room(op, shape.elements(), values.dtype())?;
    if shape.elements() == 0 {
        return Tensor::zeros(&[shape[0], columns], values.dtype(), values.device());
    }
    let values = aligned(values)?;
    let dense = match values.device().kind() {
        Kind::Cpu(_) => cpu::expand(op, &values, meta, shape)?,
        Kind::Gpu(_) => {
            let output = (shape, values.dtype());
            window::piecewise(op, &[&values, meta], output, 1, &|x| kernels::expand(op, &x[0], &x[1]))?
        }
    };
    Ok(window::slice(&dense, 1, 0, columns))
}

pub(crate) fn to_dense(packed: &Sparse24) -> Result<Tensor> {
    let op = "Sparse24::to_dense";
    let (values, meta) = (packed.values(), packed.meta().clone());
    let dense = contiguous(&expand(op, &values.detach(), &meta, packed.cols())?)?;
    Ok(record(op, dense, &[values], move |d, _| Ok(vec![Some(gather_raw(op, d, &meta)?)])))
}

fn check(op: &'static str, x: &Tensor, packed: &Sparse24, bias: Option<&Tensor>) -> Result<Dims> {
    x.expect_float(op)?;
    x.expect_like(op, packed.values())?;
    let (outputs, inputs) = (packed.rows(), packed.cols());
    let &[ref lead @ .., last] = x.shape() else {
        return Err(Error::shape(op, format!("a scalar, expected an input that ends in {inputs} columns")));
    };
    if last != inputs {
        let message = format!(
            "input of shape {:?} does not end in the {inputs} columns of a packed [{outputs}, {inputs}]",
            x.shape()
        );
        return Err(Error::shape(op, message));
    }
    if let Some(bias) = bias {
        x.expect_like(op, bias)?;
        if bias.shape() != [outputs] {
            return Err(Error::shape(op, format!("bias of shape {:?}, expected [{outputs}]", bias.shape())));
        }
    }
    Dims::new(op, &[lead, &[outputs]].concat())
}

/// [`Tensor::linear_sparse24`].
pub(crate) fn linear(x: &Tensor, packed: &Sparse24, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "linear_sparse24";
    let shape = check(op, x, packed, bias)?;
    let rows = fold(op, x)?;
    let added = bias.map(Tensor::detach);
    let finish = Finish { bias: added.as_ref(), ..Finish::default() };
    let y = reshape_to(&forward(op, &rows, packed, finish)?, shape)?;

    let weight = packed.detach();
    let (old, outputs, with_bias) = (x.dims(), packed.rows(), bias.is_some());
    let inputs: Vec<&Tensor> = [Some(x), Some(packed.values()), bias].into_iter().flatten().collect();
    Ok(record(op, y, &inputs, move |dy, needs| {
        let dy = fold(op, dy)?;
        let dx = || {
            let form = form(dy.device(), dy.shape()[0]);
            if let Some(transposed) = weight.transposed().filter(|_| form == Sparse24Form::Packed) {
                return reshape_to(&forward(op, &dy, transposed, Finish::default())?, old);
            }
            if form == Sparse24Form::Tiled
                && let Some(dx) = tiled(op, &dy, &weight, false, Finish::default())?
            {
                return reshape_to(&dx, old);
            }
            let dense = expand(op, weight.values(), weight.meta(), weight.cols())?;
            reshape_to(&Product::new(op, &dy, &dense).value()?, old)
        };
        let mut gradients = vec![needs[0].then(dx).transpose()?];
        gradients.push(needs[1].then(|| values_gradient(op, &rows, &dy, weight.meta())).transpose()?);
        if with_bias {
            gradients.push(needs[2].then(|| dy.sum_to(&[outputs])).transpose()?);
        }
        Ok(gradients)
    }))
}

/// [`Tensor::linear_sparse24_then`]: in one pass where the dense product's kernels run and no gradient is wanted.
pub(crate) fn linear_then(x: &Tensor, packed: &Sparse24, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
    let op = "linear_sparse24";
    let shape = check(op, x, packed, bias)?;
    if let Some(residual) = &then.residual {
        x.expect_like(op, residual)?;
        if residual.dims() != shape {
            return Err(Error::shape(op, format!("residual of shape {:?}, expected {shape:?}", residual.shape())));
        }
    }
    let inputs: Vec<&Tensor> =
        [Some(x), Some(packed.values()), bias, then.residual.as_ref()].into_iter().flatten().collect();
    let rows = x.elements() / packed.cols().max(1);
    if !tracks(&inputs) && form(x.device(), rows) != Sparse24Form::Packed {
        let (bias, residual) = (bias.map(Tensor::detach), then.residual.as_ref().map(|r| fold(op, r)).transpose()?);
        let (scale, activation) = (then.scale, then.activation);
        let finish = Finish { scale, bias: bias.as_ref(), activation, residual: residual.as_ref(), keep: false };
        return reshape_to(&forward(op, &fold(op, x)?, packed, finish)?, shape);
    }
    let mut y = match then.scale == 1.0 {
        true => linear(x, packed, bias)?,
        false => {
            let y = linear(x, packed, None)?.mul_scalar(then.scale)?;
            bias.map_or(Ok(y.clone()), |bias| y.add(bias))?
        }
    };
    if let Some(activation) = then.activation {
        y = activation.apply(&y)?;
    }
    then.residual.as_ref().map_or(Ok(y.clone()), |residual| y.add(residual))
}

/// `x W^T` (`transposed`) or `x W` by tiles; not recorded. `None` where the device has no such kernels, or nothing is to be computed.
fn tiled(op: &'static str, x: &Tensor, packed: &Sparse24, transposed: bool, finish: Finish) -> Result<Option<Tensor>> {
    let Kind::Gpu(gpu) = x.device().kind() else { return Ok(None) };
    let (values, meta) = (aligned(packed.values())?, packed.meta());
    let n = if transposed { packed.rows() } else { packed.cols() };
    if x.elements() == 0 || n == 0 {
        return Ok(None);
    }
    packed_product(gpu, op, x, &Packed { values: &values, meta, transposed }, n, finish)
}

/// `x W^T` for rows of `x`, finished; not recorded. Kernels of the packed matrix add a bias at most.
fn forward(op: &'static str, x: &Tensor, packed: &Sparse24, finish: Finish) -> Result<Tensor> {
    let (rows, outputs, dtype, device) = (x.shape()[0], packed.rows(), x.dtype(), x.device());
    let (values, meta) = (packed.values().detach(), packed.meta());
    device.expect_room(op, rows.saturating_mul(outputs), dtype)?;
    let plain = finish.scale == 1.0 && finish.activation.is_none() && finish.residual.is_none();
    let empty = rows == 0 || outputs == 0 || packed.cols() == 0;
    let form = form(device, rows);
    if form == Sparse24Form::Tiled
        && let Some(y) = tiled(op, x, packed, true, finish)?
    {
        return Ok(y);
    }
    if plain && !empty && form == Sparse24Form::Packed {
        let x = padded(x)?;
        match device.kind() {
            Kind::Cpu(_) if dtype.is_half() => {
                let bias = finish.bias.map(|bias| bias.cast(DType::F32)).transpose()?;
                return cpu::dot(op, &x.cast(DType::F32)?, &values, meta, bias.as_ref())?.cast(dtype);
            }
            Kind::Cpu(_) => return cpu::dot(op, &x, &values, meta, finish.bias),
            Kind::Gpu(gpu) => {
                // One binding must hold each; the dense product cuts what is larger.
                let given = [Some(&x), Some(&values), Some(meta), finish.bias];
                let given: Vec<Tensor> = given.into_iter().flatten().cloned().collect();
                let output = (Dims::new(op, &[rows, outputs])?, DType::F32);
                if let Some([x, values, meta, bias @ ..]) = window::windows(gpu, &given, &[output]).as_deref() {
                    return kernels::dot(op, x, values, meta, bias.first());
                }
            }
        }
    }
    let dense = expand(op, &values, meta, packed.cols())?;
    let Output { y, .. } = Product { op, a: x, b: &transposed(&dense), finish }.run()?;
    Ok(y)
}

/// The gradient of the values: of `dy^T x` what stands at the positions.
fn values_gradient(op: &'static str, x: &Tensor, dy: &Tensor, meta: &Tensor) -> Result<Tensor> {
    let (rows, dtype, device) = (x.shape()[0], x.dtype(), x.device());
    let few = FORCED.get().map_or(rows <= few_of_values(device), |form| form == Sparse24Form::Packed);
    if rows > 0 && meta.elements() > 0 && few {
        let (x, dy) = (padded(x)?, contiguous(dy)?);
        let shape = Dims::new(op, &[meta.shape()[0], meta.shape()[1] * BLOCK / 2])?;
        match device.kind() {
            Kind::Cpu(_) if dtype.is_half() => {
                let wide = |x: &Tensor| x.cast(DType::F32);
                return cpu::sampled(op, &wide(&x)?, &wide(&dy)?, meta, shape)?.cast(dtype);
            }
            Kind::Cpu(_) => return cpu::sampled(op, &x, &dy, meta, shape),
            Kind::Gpu(gpu) => {
                let given = [x, dy, meta.clone()];
                if let Some([x, dy, meta]) = window::windows(gpu, &given, &[(shape, dtype)]).as_deref() {
                    return kernels::sampled(op, x, dy, meta);
                }
            }
        }
    }
    gather_raw(op, &Product::new(op, &transposed(dy), x).value()?, meta)
}
