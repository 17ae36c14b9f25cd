//! Cross-entropy kernels, for rows of f32.

use super::reduce::Spread;
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
    let weight = weight_of(problem, x);
    let (fault, code) = gpu.fault(op, problem.targets.dtype() == DType::I32)?;
    size(op, rows * classes)?;
    let params = [
        size(op, rows)?,
        size(op, classes)?,
        size(op, x.layout().offset)?,
        size(op, problem.targets.layout().offset)?,
        size(op, weight.layout().offset)?,
        problem.ignored.unwrap_or(0),
        (problem.smoothing as f32).to_bits(),
        code,
    ];
    let spread = Spread::of_rows(gpu, classes);
    let [workgroup, lanes] = spread.constants();
    let weighted = ("WEIGHTED", flag(problem.class_weight.is_some()));
    gpu.run(Launch {
        kernel: "cross_entropy/forward",
        elems: &[],
        constants: &[workgroup, lanes, weighted, ("IGNORES", flag(problem.ignored.is_some()))],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(problem.targets.gpu_buffer(op)?),
            Bind::Read(weight.gpu_buffer(op)?),
            Bind::Write(stats.gpu_buffer(op)?),
            Bind::Write((&*fault).into()),
        ],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(rows),
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
    let dx = Tensor::gpu_uninit(op, x.dims(), DType::F32, x.device())?;
    let weight = weight_of(problem, x);
    let params = [
        size(op, rows)?,
        size(op, classes)?,
        size(op, x.layout().offset)?,
        size(op, problem.targets.layout().offset)?,
        size(op, weight.layout().offset)?,
        size(op, gradient.layout().offset)?,
        (problem.smoothing as f32).to_bits(),
    ];
    let spread = Spread::of_rows(gpu, classes);
    let [workgroup, lanes] = spread.constants();
    gpu.run(Launch {
        kernel: "cross_entropy/backward",
        elems: &[],
        constants: &[workgroup, lanes, ("WEIGHTED", flag(problem.class_weight.is_some()))],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(problem.targets.gpu_buffer(op)?),
            Bind::Read(weight.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Read(gradient.gpu_buffer(op)?),
            Bind::Write(dx.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: spread.groups(rows),
    })?;
    Ok(dx)
}
