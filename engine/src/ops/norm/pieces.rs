//! The kernels on rows of any number, which are cut where a binding does not hold them all.

use super::{Both, Gradients, Inputs, Outputs, Plan};
use crate::device::Kind;
use crate::kernels::window::{Output, pieces, window, windows};
use crate::kernels::{norm as kernels, rows};
use crate::layout::Dims;
use crate::ops::random::Dropout;
use crate::ops::rows::{as_rows, from_rows};
use crate::{DType, Error, Result, Tensor};

/// Whether bindings hold these whole.
fn fit(inputs: &[Tensor], outputs: &[Output]) -> bool {
    let gpu = inputs.first().and_then(|x| x.device().gpu_ref());
    gpu.is_some_and(|gpu| windows(gpu, inputs, outputs).is_some())
}

pub(super) fn forward(op: &'static str, mut inputs: Inputs, plan: Plan) -> Result<Outputs> {
    let (shape, dtype) = (inputs.x.dims(), inputs.x.dtype());
    let rows = rows::padded_shape(Dims::new(op, &[plan.rows, plan.cols])?);
    let mut outputs = vec![(rows, dtype), (Dims::new(op, &[plan.rows, 4])?, DType::F32)];
    let mut seen = vec![as_rows(op, &inputs.x, plan.cols)?];
    if let Some(residual) = &inputs.residual {
        seen.push(as_rows(op, residual, plan.cols)?);
        outputs.push((rows, dtype));
    }
    // The kernel counts the words of dropout from its first row on, so a part of the rows would get the words of another.
    if let Some(dropout) = inputs.dropout.take_if(|_| !fit(&seen, &outputs)) {
        seen[0] = as_rows(op, &dropout.apply(op, &inputs.x)?, plan.cols)?;
    }
    let seen: Vec<&Tensor> = seen.iter().collect();
    let made = pieces(op, &seen, &outputs, 1, &|x| {
        let (gain, bias) = (inputs.gain.clone(), inputs.bias.clone());
        let (x, residual) = (x[0].clone(), x.get(1).cloned());
        let part = Plan { rows: x.shape()[0], ..plan };
        let made = kernels::forward(op, &Inputs { x, residual, gain, bias, dropout: inputs.dropout }, part)?;
        let sum = made.sum.as_ref().map(rows::padded);
        Ok([Some(rows::padded(&made.y)), Some(made.stats), sum].into_iter().flatten().collect())
    })?;
    match &made[..] {
        [y, stats, rest @ ..] => Ok(Outputs {
            y: from_rows(y, shape, plan.dims),
            stats: stats.clone(),
            sum: rest.first().map(|sum| from_rows(sum, shape, plan.dims)),
        }),
        _ => Err(Error::argument(op, "a norm without its outputs")),
    }
}

pub(super) fn backward(
    op: &'static str,
    problem: &Gradients,
    plan: Plan,
    dropout: Option<Dropout>,
) -> Result<(Option<Both>, Option<Tensor>)> {
    let rows = |x: &Tensor| as_rows(op, x, plan.cols);
    let (x, dy, stats) = (rows(&problem.x)?, rows(&problem.dy)?, problem.stats.clone());
    let parameters =
        if problem.wants_parameters { Some(parameters_in_pieces(op, &x, &dy, &stats, plan)?) } else { None };
    if !problem.wants_x {
        return Ok((None, parameters));
    }
    let output = (rows::padded_shape(x.dims()), x.dtype());
    let seen: Vec<Tensor> = [x, dy, stats].into_iter().chain(problem.extra.as_ref().map(rows).transpose()?).collect();
    let fused = dropout.filter(|_| fit(&seen, &[output]));
    let outputs = vec![output; if fused.is_some() { 2 } else { 1 }];
    let made = pieces(op, &seen.iter().collect::<Vec<_>>(), &outputs, 1, &|x| {
        let (gain, stats) = (problem.gain.clone(), &from_start(&x[2])?);
        let (x, dy, extra) = (x[0].clone(), x[1].clone(), x.get(3).cloned());
        let plan = Plan { rows: x.shape()[0], ..plan };
        let part = Gradients { x, gain, dy, extra, stats, wants_x: true, wants_parameters: false };
        let made = kernels::backward(op, &part, plan, fused)?;
        Ok(made.iter().map(rows::padded).collect())
    })?;
    let made: Vec<Tensor> = made.iter().map(|dx| from_rows(dx, problem.x.dims(), plan.dims)).collect();
    let both = match (&made[..], dropout) {
        ([dx, through], _) => [dx.clone(), through.clone()],
        ([dx], Some(dropout)) => [dx.clone(), dropout.apply(op, dx)?],
        ([dx], None) => [dx.clone(), dx.clone()],
        _ => return Err(Error::argument(op, "a kernel without output")),
    };
    Ok((Some(both), parameters))
}

/// Kernels read the statistics of their rows from the start of a buffer.
fn from_start(stats: &Tensor) -> Result<Tensor> {
    if stats.layout().offset == 0 { Ok(stats.clone()) } else { stats.copy() }
}

fn parameters_in_pieces(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Plan) -> Result<Tensor> {
    let Plan { rows, cols, .. } = plan;
    let whole = [x, dy, stats];
    let Kind::Gpu(gpu) = x.device().kind() else {
        return Err(Error::argument(op, "a CPU tensor reached a GPU kernel"));
    };
    let seen: Option<Vec<Tensor>> = whole.iter().map(|x| window(gpu, x)).collect();
    match seen.as_deref() {
        Some([x, dy, stats]) => kernels::parameters(op, x, dy, &from_start(stats)?, plan),
        _ if rows < 2 => Err(Error::TooLarge { op, bytes: 4 * cols as u64, limit: gpu.caps().max_binding_bytes }),
        _ => {
            let part = |start: usize, rows: usize| {
                let [x, dy, stats] = whole.map(|x| x.with_layout(x.layout().slice(0, start, rows, 1)));
                parameters_in_pieces(op, &x, &dy, &stats, Plan { rows, ..plan })
            };
            part(0, rows / 2)?.add(&part(rows / 2, rows - rows / 2)?)
        }
    }
}
