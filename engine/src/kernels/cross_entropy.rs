//! Cross-entropy kernels, for rows of any float dtype.

use super::rows::{Rows, spread, tail, uninit};
use super::{flag, gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::layout::Dims;
use crate::ops::cross_entropy::Problem;
use crate::{DType, Result, Tensor};

/// Buffer and offset of the class weights; any other tensor stands in for absent ones, which are not read.
fn weight_of<'a>(problem: &'a Problem, other: &'a Tensor) -> &'a Tensor {
    problem.class_weight.as_ref().unwrap_or(other)
}

pub(crate) fn forward(op: &'static str, x: &Tensor, problem: &Problem) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Problem { rows, classes, .. } = *problem;
    let stats = Tensor::gpu_uninit(op, Dims::new(op, &[5, rows])?, DType::F32, x.device())?;
    let x = Rows::of(op, x, classes)?;
    let weight = weight_of(problem, &x.tensor);
    let (fault, code) = gpu.fault(op, problem.targets.dtype() == DType::I32)?;
    let params = [
        size(op, rows)?,
        size(op, classes)?,
        x.offset,
        x.stride,
        size(op, problem.targets.layout().offset)?,
        size(op, weight.layout().offset)?,
        problem.ignored.unwrap_or(0),
        (problem.smoothing as f32).to_bits(),
        code,
    ];
    let ([workgroup, lanes], groups) = spread(gpu, rows, classes);
    gpu.run(Launch {
        kernel: "cross_entropy/forward",
        elems: &[("x", x.tensor.dtype())],
        constants: &[
            workgroup,
            lanes,
            tail(classes),
            ("X_ALIGNED", x.aligned()),
            ("WEIGHTED", flag(problem.class_weight.is_some())),
            ("IGNORES", flag(problem.ignored.is_some())),
            ("SMOOTH", flag(problem.smoothing > 0.0)),
        ],
        bind: &[
            Bind::Read(x.tensor.gpu_buffer(op)?),
            Bind::Read(problem.targets.gpu_buffer(op)?),
            Bind::Read(weight.gpu_buffer(op)?),
            Bind::Write(stats.gpu_buffer(op)?),
            Bind::Write((&*fault).into()),
        ],
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(stats)
}

pub(crate) fn backward(
    op: &'static str,
    x: &Tensor,
    problem: &Problem,
    stats: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let Problem { rows, classes, .. } = *problem;
    let dx = uninit(op, x.dims(), 1, x)?;
    let x = Rows::of(op, x, classes)?;
    let weight = weight_of(problem, &x.tensor);
    let params = [
        size(op, rows)?,
        size(op, classes)?,
        x.offset,
        x.stride,
        size(op, problem.targets.layout().offset)?,
        size(op, weight.layout().offset)?,
        size(op, gradient.layout().offset)?,
        (problem.smoothing as f32).to_bits(),
    ];
    let ([workgroup, lanes], groups) = spread(gpu, rows, classes);
    gpu.run(Launch {
        kernel: "cross_entropy/backward",
        elems: &[("x", x.tensor.dtype()), ("dx", dx.dtype())],
        constants: &[
            workgroup,
            lanes,
            tail(classes),
            ("X_ALIGNED", x.aligned()),
            ("WEIGHTED", flag(problem.class_weight.is_some())),
        ],
        bind: &[
            Bind::Read(x.tensor.gpu_buffer(op)?),
            Bind::Read(problem.targets.gpu_buffer(op)?),
            Bind::Read(weight.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Read(gradient.gpu_buffer(op)?),
            Bind::Write(dx.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups,
    })?;
    Ok(dx)
}
