//! Norm kernels, for rows of any float dtype.

use super::elementwise::aligned;
use super::reduce::{self, Axis, Fold, Spread};
use super::rows::{Rows, spread, tail, uninit};
use super::{flag, gpu_of, size};
use crate::device::gpu::{Bind, Caps, Launch};
use crate::layout::Dims;
use crate::ops::norm::{Gradients, Inputs, NormKind, Outputs, Plan};
use crate::ops::random::Dropout;
use crate::{DType, Result, Tensor};

/// A parameter from a multiple of four elements on, and its offset in fours.
fn parameter(op: &'static str, parameter: Option<&Tensor>) -> Result<(Option<Tensor>, u32)> {
    let parameter = parameter.map(|p| aligned(op, p)).transpose()?;
    let offset = parameter.as_ref().map_or(0, |p| p.layout().offset / 4);
    Ok((parameter, size(op, offset)?))
}

/// What the kernels are told of the statistics: override constants of all, and the parameters that forward and backward end with.
fn statistics(op: &'static str, plan: Plan, dropout: Option<Dropout>) -> Result<([(&'static str, f64); 6], Vec<u32>)> {
    let constants = [
        tail(plan.cols),
        ("CENTRE", flag(plan.centres())),
        ("SCALE", flag(plan.scales())),
        ("CLOSED", flag(plan.kind == NormKind::Crms)),
        ("SQUARES", flag(plan.power() == 2.0)),
        ("PART", flag(plan.is_partial())),
    ];
    let mut params = vec![size(op, plan.counted.first)?];
    params.extend([plan.counted.rest, plan.count(), plan.divisor(), plan.power()].map(|n| (n as f32).to_bits()));
    params.extend(dropout.map_or([0; 6], |dropout| dropout.words()));
    Ok((constants, params))
}

/// Rows of a workgroup of `norm/forward_lanes` and `norm/forward_streams`.
const LANES_ROWS: usize = 8;

/// The forward for subgroups of a software driver, if there is one for such rows: short ones stay in registers, and loops over longer ones than
/// these would have too many turns for Mesa's driver. There must be enough for all cores.
fn by_lanes(caps: &Caps, plan: Plan) -> Option<&'static str> {
    let plain = plan.scales() && plan.power() == 2.0 && plan.kind != NormKind::Crms && !plan.safe && !plan.is_partial();
    match plan.cols {
        _ if caps.software_lanes() != Some(8) || !plain || plan.rows < 4 * LANES_ROWS => None,
        32..=1024 => Some("norm/forward_lanes"),
        1025..=16_384 => Some("norm/forward_streams"),
        _ => None,
    }
}

/// Of `x [rows, cols]`.
pub(crate) fn forward(op: &'static str, inputs: &Inputs, plan: Plan) -> Result<Outputs> {
    let x = &inputs.x;
    let gpu = gpu_of(op, x)?;
    let Plan { rows, cols, eps, .. } = plan;
    let y = uninit(op, x.dims(), 1, x)?;
    let stats = Tensor::gpu_uninit(op, Dims::new(op, &[rows, 4])?, DType::F32, x.device())?;
    let sum = inputs.residual.as_ref().map(|_| uninit(op, x.dims(), 1, x)).transpose()?;
    let x = Rows::of(op, x, cols)?;
    let residual = inputs.residual.as_ref().map(|r| Rows::of(op, r, cols)).transpose()?;
    let (gain, gain_offset) = parameter(op, inputs.gain.as_ref())?;
    let (bias, bias_offset) = parameter(op, inputs.bias.as_ref())?;
    let (residual_offset, residual_stride) = residual.as_ref().map_or((0, 0), |r| (r.offset, r.stride));
    let mut params = vec![
        size(op, rows)?,
        size(op, cols)?,
        x.offset,
        x.stride,
        residual_offset,
        residual_stride,
        gain_offset,
        bias_offset,
        (eps as f32).to_bits(),
        (eps.powf(1.0 / plan.power()) as f32).to_bits(),
    ];
    let (statistics, rest) = statistics(op, plan, inputs.dropout)?;
    params.extend(rest);
    let dtype = x.tensor.dtype();
    let mut elems = vec![("x", dtype), ("gain", dtype), ("bias", dtype), ("y", dtype)];
    let mut constants =
        vec![("HAS_GAIN", flag(gain.is_some())), ("HAS_BIAS", flag(bias.is_some())), ("X_ALIGNED", x.aligned())];
    constants.extend(statistics);
    let mut bind = vec![
        Bind::Read(x.tensor.gpu_buffer(op)?),
        // Something must be bound for a parameter that is absent; it is not read.
        Bind::Read(gain.as_ref().unwrap_or(&x.tensor).gpu_buffer(op)?),
        Bind::Read(bias.as_ref().unwrap_or(&x.tensor).gpu_buffer(op)?),
        Bind::Write(y.gpu_buffer(op)?),
        Bind::Write(stats.gpu_buffer(op)?),
    ];
    let kernel = match (&residual, &sum) {
        (Some(residual), Some(sum)) => {
            elems.extend([("residual", dtype), ("sum", dtype)]);
            constants.push(("RESIDUAL_ALIGNED", residual.aligned()));
            bind.extend([Bind::Read(residual.tensor.gpu_buffer(op)?), Bind::Write(sum.gpu_buffer(op)?)]);
            if inputs.dropout.is_some() { "norm/drop_add_forward" } else { "norm/add_forward" }
        }
        _ => by_lanes(gpu.caps(), plan).unwrap_or("norm/forward"),
    };
    let groups = match kernel {
        "norm/forward_lanes" => {
            constants.extend([("HELD", cols.div_ceil(32) as f64), ("ROWS", LANES_ROWS as f64)]);
            rows.div_ceil(LANES_ROWS) as u64
        }
        "norm/forward_streams" => rows.div_ceil(LANES_ROWS) as u64,
        _ => {
            let (spread, groups) = spread(gpu, rows, cols);
            constants.extend(spread);
            constants.push(("SAFE", flag(plan.safe)));
            groups
        }
    };
    let params = bytemuck::cast_slice(&params);
    gpu.run(Launch { kernel, elems: &elems, constants: &constants, bind: &bind, params, groups })?;
    Ok(Outputs { y, stats, sum })
}

/// The gradient of `x [rows, cols]`, to which `extra` is added; and after it, if there is dropout, the same through it.
pub(crate) fn backward(
    op: &'static str,
    problem: &Gradients,
    plan: Plan,
    dropout: Option<Dropout>,
) -> Result<Vec<Tensor>> {
    let gpu = gpu_of(op, &problem.x)?;
    let Plan { rows, cols, .. } = plan;
    let mut made = vec![uninit(op, problem.x.dims(), 1, &problem.x)?];
    let (x, dy) = (&Rows::of(op, &problem.x, cols)?, &Rows::of(op, &problem.dy, cols)?);
    let (gain, gain_offset) = parameter(op, problem.gain.as_ref())?;
    let extra = problem.extra.as_ref().map(|extra| Rows::of(op, extra, cols)).transpose()?;
    let (has_extra, extra) = (extra.is_some(), extra.as_ref().unwrap_or(dy));
    let mut params = vec![
        size(op, rows)?,
        size(op, cols)?,
        x.offset,
        x.stride,
        dy.offset,
        dy.stride,
        extra.offset,
        extra.stride,
        gain_offset,
    ];
    let (statistics, rest) = statistics(op, plan, dropout)?;
    params.extend(rest);
    let ([workgroup, lanes], groups) = spread(gpu, rows, cols);
    let dtype = x.tensor.dtype();
    let mut elems = vec![("x", dtype), ("gain", dtype), ("dy", dtype), ("extra", dtype), ("dx", dtype)];
    let mut constants = vec![
        workgroup,
        lanes,
        ("HAS_GAIN", flag(gain.is_some())),
        ("HAS_EXTRA", flag(has_extra)),
        ("X_ALIGNED", x.aligned()),
        ("DY_ALIGNED", dy.aligned()),
        ("EXTRA_ALIGNED", extra.aligned()),
    ];
    constants.extend(statistics);
    let mut kernel = "norm/backward";
    if dropout.is_some() {
        kernel = "norm/drop_backward";
        elems.push(("through", dtype));
        made.push(uninit(op, made[0].dims(), 1, &made[0])?);
    }
    let mut bind = vec![
        Bind::Read(x.tensor.gpu_buffer(op)?),
        Bind::Read(gain.as_ref().unwrap_or(&x.tensor).gpu_buffer(op)?),
        Bind::Read(dy.tensor.gpu_buffer(op)?),
        Bind::Read(extra.tensor.gpu_buffer(op)?),
        Bind::Read(problem.stats.gpu_buffer(op)?),
    ];
    for dx in &made {
        bind.push(Bind::Write(dx.gpu_buffer(op)?));
    }
    let params = bytemuck::cast_slice(&params);
    gpu.run(Launch { kernel, elems: &elems, constants: &constants, bind: &bind, params, groups })?;
    Ok(made)
}

/// The gradients of gain and bias, a view of `[2, cols]` in f32: parts of the rows first, then the sum of the parts.
pub(crate) fn parameters(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Plan) -> Result<Tensor> {
    let gpu = gpu_of(op, x)?;
    let (x, dy) = (&Rows::of(op, x, plan.cols)?, &Rows::of(op, dy, plan.cols)?);
    let Plan { rows, cols, .. } = plan;
    let spread = Spread::of_columns(gpu);
    let fours = cols.div_ceil(4);
    let chunk = rows.div_ceil(spread.splits(gpu, fours, rows));
    let splits = rows.div_ceil(chunk);
    let parts = Tensor::gpu_uninit(op, Dims::new(op, &[2, splits, 4 * fours])?, DType::F32, x.tensor.device())?;
    let sizes = [
        size(op, cols)?,
        size(op, rows)?,
        x.offset,
        x.stride,
        dy.offset,
        dy.stride,
        size(op, splits)?,
        size(op, chunk)?,
    ];
    gpu.run(Launch {
        kernel: "norm/parameters",
        elems: &[("x", x.tensor.dtype()), ("dy", dy.tensor.dtype())],
        constants: &[("WORKGROUP", spread.workgroup as f64), ("X_ALIGNED", x.aligned()), ("DY_ALIGNED", dy.aligned())],
        bind: &[
            Bind::Read(x.tensor.gpu_buffer(op)?),
            Bind::Read(dy.tensor.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Write(parts.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&sizes),
        groups: spread.groups(splits * fours),
    })?;
    let both = reduce::fold(op, Fold::Sum, &parts, Axis { outer: 2, n: splits, inner: 4 * fours }, 1.0)?;
    let both = both.with_layout(crate::layout::Layout::row_major(Dims::new(op, &[2, 4 * fours])?));
    Ok(both.with_layout(both.layout().slice(1, 0, cols, 1)))
}
