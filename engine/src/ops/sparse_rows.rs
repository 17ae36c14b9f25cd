//! Products with matrices that list few weights a row. For inference: they have no backward.

use crate::autograd::record_without_backward;
use crate::cpu::sparse_rows as cpu;
use crate::device::Kind;
use crate::kernels::{sparse_rows as kernels, window};
use crate::layout::Dims;
use crate::ops::matmul::fold;
use crate::ops::view::{contiguous, reshape_to};
use crate::{DType, Device, Epilogue, Error, Result, SparseRows, Tensor};

/// Of 2048 x 2048 weights a fifth took 0.32 ms to the dense matrix's 0.27 with one row of input, and 0.91 to 2.33 with sixteen; a tenth was
/// faster with any number (`wgrad-bench run sparse_rows`, two cores).
pub(crate) fn is_fast(device: &Device, density: f64) -> bool {
    !device.is_gpu() && density <= SparseRows::FAST
}

/// [`Tensor::linear_sparse_rows_then`], one step after the other.
pub(crate) fn linear_then(x: &Tensor, weight: &SparseRows, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
    let mut y = match then.scale == 1.0 {
        true => linear(x, weight, bias)?,
        false => {
            let y = linear(x, weight, None)?.mul_scalar(then.scale)?;
            bias.map_or(Ok(y.clone()), |bias| y.add(bias))?
        }
    };
    if let Some(activation) = then.activation {
        y = activation.apply(&y)?;
    }
    then.residual.as_ref().map_or(Ok(y.clone()), |residual| y.add(residual))
}

pub(crate) fn linear(x: &Tensor, weight: &SparseRows, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "linear_sparse_rows";
    x.expect_float(op)?;
    x.expect_like(op, weight.values())?;
    let (outputs, inputs) = (weight.rows(), weight.cols());
    let lead = match x.shape() {
        [lead @ .., last] if *last == inputs => lead,
        shape => {
            let message =
                format!("input of shape {shape:?} does not end in the {inputs} columns of [{outputs}, {inputs}]");
            return Err(Error::shape(op, message));
        }
    };
    if let Some(bias) = bias {
        x.expect_like(op, bias)?;
        if bias.shape() != [outputs] {
            return Err(Error::shape(op, format!("bias of shape {:?}, expected [{outputs}]", bias.shape())));
        }
    }
    let shape = Dims::new(op, &[lead, &[outputs]].concat())?;
    x.device().expect_room(op, shape.elements(), x.dtype())?;
    let y = if shape.elements() == 0 || inputs == 0 {
        Tensor::zeros(&shape, x.dtype(), x.device())?
    } else {
        reshape_to(&product(op, &contiguous(&fold(op, x)?)?, weight)?, shape)?
    };
    let y = bias.map_or(Ok(y.clone()), |bias| y.add(&bias.detach()))?;
    let inputs: Vec<&Tensor> = [Some(x), bias].into_iter().flatten().collect();
    Ok(record_without_backward(op, y, &inputs))
}

/// `x W^T` for rows of `x`.
fn product(op: &'static str, x: &Tensor, weight: &SparseRows) -> Result<Tensor> {
    let dtype = x.dtype();
    match x.device().kind() {
        Kind::Cpu(_) if dtype.is_half() => cpu::dot(op, &x.cast(DType::F32)?, weight)?.cast(dtype),
        Kind::Cpu(_) => cpu::dot(op, x, weight),
        Kind::Gpu(gpu) => {
            let given = [x, weight.starts(), weight.places(), weight.values()].map(Clone::clone);
            let output = (Dims::new(op, &[x.shape()[0], weight.rows()])?, DType::F32);
            match window::windows(gpu, &given, &[output]).as_deref() {
                Some([x, starts, places, values]) => kernels::dot(op, x, starts, places, values),
                _ => Err(window::too_large(op, gpu, &given, &[output])),
            }
        }
    }
}

pub(crate) fn to_dense(sparse: &SparseRows) -> Result<Tensor> {
    let op = "SparseRows::to_dense";
    let (rows, columns) = (sparse.rows(), sparse.cols());
    let shape = Dims::new(op, &[rows, columns])?;
    sparse.device().expect_room(op, shape.elements(), sparse.dtype())?;
    let (starts, places) = (sparse.starts().to_vec::<u32>()?, sparse.places().to_vec::<u32>()?);
    let values = sparse.values().cast(DType::F32)?.to_vec::<f32>()?;
    let mut dense = vec![0.0f32; rows * columns];
    for (row, ends) in starts.windows(2).enumerate() {
        let list = places.iter().zip(&values).take(ends[1] as usize).skip(ends[0] as usize);
        list.for_each(|(&column, &value)| dense[row * columns + column as usize] = value);
    }
    Tensor::from_vec(dense, &[rows, columns], sparse.device())?.cast(sparse.dtype())
}
