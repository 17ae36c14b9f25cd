//! Layer norm and root-mean-square norm, fused: forward saves mean and reciprocal deviation, backward is one kernel for x and a
//! two-stage sum for gain and bias.

use crate::autograd::record;
use crate::cpu::norm as cpu;
use crate::device::Kind;
use crate::kernels::{norm as kernels, window};
use crate::layout::{Dims, Layout};
use crate::ops::rows::{dense, narrowed, trailing};
use crate::{Error, Result, Tensor};

/// Which norm, over which rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub rows: usize,
    pub cols: usize,
    pub eps: f64,
    /// Without subtracting the mean.
    pub rms: bool,
}

/// Checks that a parameter has the shape of the trailing dimensions it is to scale or shift.
fn expect_parameter(op: &'static str, name: &str, x: &Tensor, parameter: &Tensor, dims: usize) -> Result<()> {
    x.expect_like(op, parameter)?;
    let lead = x.rank().saturating_sub(dims);
    if parameter.shape() == &x.shape()[lead..] {
        return Ok(());
    }
    let (p, x) = (parameter.shape(), x.shape());
    Err(Error::shape(op, format!("{name} of shape {p:?} is not the end of shape {x:?}, expected {:?}", &x[lead..])))
}

/// The kernels on rows of any number, which are cut where a binding does not hold them all.
fn forward_in_pieces(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    plan: Rows,
) -> Result<(Tensor, Tensor)> {
    let Rows { rows, cols, .. } = plan;
    let wide = window::rows_of(op, x, rows, cols)?;
    let outputs = [(wide.dims(), wide.dtype()), (Dims::new(op, &[rows, 2])?, wide.dtype())];
    let made = window::pieces(op, &[&wide], &outputs, 1, &|x| {
        let (y, stats) = kernels::forward(op, &x[0], gain, bias, Rows { rows: x[0].shape()[0], ..plan })?;
        Ok(vec![y, stats])
    })?;
    match &made[..] {
        [y, stats] => Ok((window::shaped(y, x.dims()), stats.clone())),
        _ => Err(Error::argument(op, "a norm without its two outputs")),
    }
}

fn backward_in_pieces(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    dy: &Tensor,
    stats: &Tensor,
    plan: Rows,
) -> Result<Tensor> {
    let Rows { rows, cols, .. } = plan;
    let (wide, wide_dy) = (window::rows_of(op, x, rows, cols)?, window::rows_of(op, dy, rows, cols)?);
    let dx = window::piecewise(op, &[&wide, &wide_dy, stats], (wide.dims(), wide.dtype()), 1, &|x| {
        kernels::backward(op, &x[0], gain, &x[1], &from_start(&x[2])?, Rows { rows: x[0].shape()[0], ..plan })
    })?;
    Ok(window::shaped(&dx, x.dims()))
}

/// Kernels read the statistics of their rows from the start of a buffer.
fn from_start(stats: &Tensor) -> Result<Tensor> {
    if stats.layout().offset == 0 { Ok(stats.clone()) } else { stats.copy() }
}

fn parameters_in_pieces(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Rows) -> Result<Tensor> {
    let Rows { rows, cols, .. } = plan;
    let whole = [window::rows_of(op, x, rows, cols)?, window::rows_of(op, dy, rows, cols)?, stats.clone()];
    let Kind::Gpu(gpu) = x.device().kind() else {
        return Err(Error::argument(op, "a CPU tensor reached a GPU kernel"));
    };
    let seen: Option<Vec<Tensor>> = whole.iter().map(|x| window::window(gpu, x)).collect();
    match seen.as_deref() {
        Some([x, dy, stats]) => kernels::parameters(op, x, dy, &from_start(stats)?, plan),
        _ if rows < 2 => Err(Error::TooLarge { op, bytes: 4 * cols as u64, limit: gpu.caps().max_binding_bytes }),
        _ => {
            let part = |start: usize, rows: usize| {
                let [x, dy, stats] = whole.each_ref().map(|x| x.with_layout(x.layout().slice(0, start, rows, 1)));
                parameters_in_pieces(op, &x, &dy, &stats, Rows { rows, ..plan })
            };
            part(0, rows / 2)?.add(&part(rows / 2, rows - rows / 2)?)
        }
    }
}

/// Normalises over the last `dims` dimensions.
pub(crate) fn norm(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    dims: usize,
    eps: f64,
    rms: bool,
) -> Result<Tensor> {
    x.expect_float(op)?;
    if dims == 0 || dims > x.rank() {
        let shape = x.shape();
        return Err(Error::argument(
            op,
            format!("cannot normalise over the last {dims} dimensions of shape {shape:?}"),
        ));
    }
    if !eps.is_finite() || eps < 0.0 {
        return Err(Error::argument(op, format!("eps is {eps}, expected a number that is not negative")));
    }
    for (name, parameter) in [("gain", gain), ("bias", bias)] {
        if let Some(parameter) = parameter {
            expect_parameter(op, name, x, parameter, dims)?;
        }
    }
    let (rows, cols) = trailing(x.dims(), dims);
    let plan = Rows { rows, cols, eps, rms };
    let (shape, dtype) = (x.dims(), x.dtype());
    let parameter_shape = Dims::new(op, &shape[shape.len() - dims..])?;
    let inputs: Vec<&Tensor> = [Some(x), gain, bias].into_iter().flatten().collect();
    if x.elements() == 0 {
        let shapes: Vec<Dims> = inputs.iter().map(|t| t.dims()).collect();
        let out = x.detach();
        return Ok(record(op, out, &inputs, move |dy, _| {
            shapes.iter().map(|shape| Tensor::zeros(shape, dy.dtype(), dy.device()).map(Some)).collect()
        }));
    }
    let wide = dense(x)?;
    let wide_gain = gain.map(dense).transpose()?;
    let wide_bias = bias.map(dense).transpose()?;
    let (y, stats) = match x.device().kind() {
        Kind::Cpu(_) => cpu::forward(op, &wide, wide_gain.as_ref(), wide_bias.as_ref(), plan)?,
        Kind::Gpu(_) => forward_in_pieces(op, &wide, wide_gain.as_ref(), wide_bias.as_ref(), plan)?,
    };
    // Saved as it came: a half is widened again rather than kept twice.
    let (saved, has_gain, has_bias) = (x.detach(), gain.is_some(), bias.is_some());
    Ok(record(op, narrowed(&y, dtype)?, &inputs, move |dy, needs| {
        let (x, dy) = (dense(&saved)?, dense(dy)?);
        let needs_parameters = needs[1..].iter().any(|&n| n);
        let on_cpu = matches!(x.device().kind(), Kind::Cpu(_));
        let mut grads = vec![None; needs.len()];
        if needs[0] {
            let dx = match on_cpu {
                true => cpu::backward(op, &x, wide_gain.as_ref(), &dy, &stats, plan)?,
                false => backward_in_pieces(op, &x, wide_gain.as_ref(), &dy, &stats, plan)?,
            };
            grads[0] = Some(narrowed(&dx, dtype)?);
        }
        if needs_parameters {
            // [2, cols]: of the gain, of the bias.
            let both = match on_cpu {
                true => cpu::parameters(op, &x, &dy, &stats, plan)?,
                false => parameters_in_pieces(op, &x, &dy, &stats, plan)?,
            };
            let half = |i: usize| {
                let layout = Layout { offset: both.layout().offset + i * cols, ..Layout::row_major(parameter_shape) };
                narrowed(&both.with_layout(layout), dtype).map(Some)
            };
            if has_gain && needs[1] {
                grads[1] = half(0)?;
            }
            if has_bias && needs[1 + usize::from(has_gain)] {
                grads[1 + usize::from(has_gain)] = half(1)?;
            }
        }
        Ok(grads)
    }))
}

/// [`Tensor::layer_norm`] over the last dimension, or with `rms` [`Tensor::rms_norm`], from primitive operations.
///
/// # Errors
/// As [`Tensor::layer_norm`].
pub fn reference(x: &Tensor, gain: Option<&Tensor>, bias: Option<&Tensor>, eps: f64, rms: bool) -> Result<Tensor> {
    let centred = if rms { x.clone() } else { x.sub(&x.mean(&[-1], true)?)? };
    let variance = centred.square()?.mean(&[-1], true)?;
    let mut y = centred.div(&variance.add_scalar(eps)?.sqrt()?)?;
    if let Some(gain) = gain {
        y = y.mul(gain)?;
    }
    match bias {
        Some(bias) => y.add(bias),
        None => Ok(y),
    }
}

/// The number of dimensions that a parameter spans, 1 where there is none.
pub(crate) fn dims_of(gain: Option<&Tensor>, bias: Option<&Tensor>) -> usize {
    gain.or(bias).map_or(1, Tensor::rank)
}
