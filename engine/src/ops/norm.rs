//! Layer norm and root-mean-square norm, fused: forward saves mean and reciprocal deviation; backward is one pass on the CPU, and on
//! a GPU one kernel for x and a two-stage sum for gain and bias. Also of a sum, which then costs no pass of its own.

use crate::autograd::{Flow, record, record_many};
use crate::cpu::norm as cpu;
use crate::device::Kind;
use crate::kernels::{norm as kernels, rows, window};
use crate::layout::Dims;
use crate::ops::rows::{as_rows, from_rows, narrowed, prepared, trailing};
use crate::ops::view;
use crate::{DType, Error, Result, Tensor};

/// Which norm, over which rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub rows: usize,
    pub cols: usize,
    /// Dimensions that a row spans.
    pub dims: usize,
    pub eps: f64,
    /// Without subtracting the mean.
    pub rms: bool,
}

/// What is normalised: detached; dense and of f32 or f64 on the CPU, any views of any float dtype on a GPU.
pub(crate) struct Inputs {
    pub x: Tensor,
    /// Added to x before.
    pub residual: Option<Tensor>,
    pub gain: Option<Tensor>,
    pub bias: Option<Tensor>,
}

pub(crate) struct Outputs {
    pub y: Tensor,
    /// `[rows, 2]`: mean and reciprocal deviation.
    pub stats: Tensor,
    /// `x + residual`, where there is one.
    pub sum: Option<Tensor>,
}

/// What the backward reads, prepared as [`Inputs`], and what is wanted of it: the gradient of x, and `[2, cols]`, those of gain and
/// bias.
pub(crate) struct Gradients<'a> {
    pub x: Tensor,
    pub gain: Option<Tensor>,
    pub dy: Tensor,
    /// Another gradient of x, to be added.
    pub extra: Option<Tensor>,
    pub stats: &'a Tensor,
    pub wants_x: bool,
    pub wants_parameters: bool,
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
fn forward_in_pieces(op: &'static str, inputs: Inputs, plan: Rows) -> Result<Outputs> {
    let (shape, dtype) = (inputs.x.dims(), inputs.x.dtype());
    let rows = rows::padded_shape(Dims::new(op, &[plan.rows, plan.cols])?);
    let mut seen = vec![as_rows(op, &inputs.x, plan.cols)?];
    let mut outputs = vec![(rows, dtype), (Dims::new(op, &[plan.rows, 2])?, DType::F32)];
    if let Some(residual) = &inputs.residual {
        seen.push(as_rows(op, residual, plan.cols)?);
        outputs.push((rows, dtype));
    }
    let seen: Vec<&Tensor> = seen.iter().collect();
    let made = window::pieces(op, &seen, &outputs, 1, &|x| {
        let (gain, bias) = (inputs.gain.clone(), inputs.bias.clone());
        let part = Inputs { x: x[0].clone(), residual: x.get(1).cloned(), gain, bias };
        let made = kernels::forward(op, &part, Rows { rows: x[0].shape()[0], ..plan })?;
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

fn backward_in_pieces(op: &'static str, problem: &Gradients, plan: Rows) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let rows = |x: &Tensor| as_rows(op, x, plan.cols);
    let (x, dy, stats) = (rows(&problem.x)?, rows(&problem.dy)?, problem.stats);
    let extra = problem.extra.as_ref().map(rows).transpose()?;
    let dx = if problem.wants_x {
        let seen: Vec<&Tensor> = [&x, &dy, stats].into_iter().chain(&extra).collect();
        let gain = problem.gain.as_ref();
        let dx = window::piecewise(op, &seen, (rows::padded_shape(x.dims()), x.dtype()), 1, &|x| {
            let part = Rows { rows: x[0].shape()[0], ..plan };
            Ok(rows::padded(&kernels::backward(op, &x[0], gain, &x[1], x.get(3), &from_start(&x[2])?, part)?))
        })?;
        Some(from_rows(&dx, problem.x.dims(), plan.dims))
    } else {
        None
    };
    let both = if problem.wants_parameters { Some(parameters_in_pieces(op, &x, &dy, stats, plan)?) } else { None };
    Ok((dx, both))
}

/// Kernels read the statistics of their rows from the start of a buffer.
fn from_start(stats: &Tensor) -> Result<Tensor> {
    if stats.layout().offset == 0 { Ok(stats.clone()) } else { stats.copy() }
}

fn parameters_in_pieces(op: &'static str, x: &Tensor, dy: &Tensor, stats: &Tensor, plan: Rows) -> Result<Tensor> {
    let Rows { rows, cols, .. } = plan;
    let whole = [x, dy, stats];
    let Kind::Gpu(gpu) = x.device().kind() else {
        return Err(Error::argument(op, "a CPU tensor reached a GPU kernel"));
    };
    let seen: Option<Vec<Tensor>> = whole.iter().map(|x| window::window(gpu, x)).collect();
    match seen.as_deref() {
        Some([x, dy, stats]) => kernels::parameters(op, x, dy, &from_start(stats)?, plan),
        _ if rows < 2 => Err(Error::TooLarge { op, bytes: 4 * cols as u64, limit: gpu.caps().max_binding_bytes }),
        _ => {
            let part = |start: usize, rows: usize| {
                let [x, dy, stats] = whole.map(|x| x.with_layout(x.layout().slice(0, start, rows, 1)));
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
    let plan = plan(op, x, gain, bias, dims, eps, rms)?;
    let inputs: Vec<&Tensor> = [Some(x), gain, bias].into_iter().flatten().collect();
    if x.elements() == 0 {
        let shapes: Vec<Dims> = inputs.iter().map(|t| t.dims()).collect();
        let out = x.detach();
        return Ok(record(op, out, &inputs, move |dy, _| {
            shapes.iter().map(|shape| Tensor::zeros(shape, dy.dtype(), dy.device()).map(Some)).collect()
        }));
    }
    let outputs = forward(op, x, None, gain, bias, plan)?;
    let backward = Backward { op, x: x.detach(), gain: gain.map(Tensor::detach), stats: outputs.stats, plan };
    let places = [gain.is_some(), bias.is_some()];
    Ok(record(op, outputs.y, &inputs, move |dy, needs| {
        let (dx, parameters) = backward.run(dy, None, needs[0], places, &needs[1..])?;
        Ok([dx].into_iter().chain(parameters).collect())
    }))
}

/// `x + residual`, and its norm: `(norm, sum)`.
pub(crate) fn add_norm(
    op: &'static str,
    x: &Tensor,
    residual: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
    rms: bool,
) -> Result<(Tensor, Tensor)> {
    let plan = plan(op, x, gain, bias, dims_of(gain, bias), eps, rms)?;
    x.expect_like(op, residual)?;
    if x.shape() != residual.shape() {
        let (x, residual) = (x.shape(), residual.shape());
        return Err(Error::shape(
            op,
            format!("residual of shape {residual:?} for x of shape {x:?}, expected the same"),
        ));
    }
    if x.elements() == 0 {
        let sum = x.add(residual)?;
        return Ok((norm(op, &sum, gain, bias, plan.dims, eps, rms)?, sum));
    }
    let Outputs { y, stats, sum } = forward(op, x, Some(residual), gain, bias, plan)?;
    let sum = sum.ok_or_else(|| Error::argument(op, "the kernel gave no sum"))?;
    let inputs: Vec<&Tensor> = [Some(x), Some(residual), gain, bias].into_iter().flatten().collect();
    let places = [gain.is_some(), bias.is_some()];
    let backward = Backward { op, x: sum.clone(), gain: gain.map(Tensor::detach), stats, plan };
    let outputs = record_many(op, vec![y, sum], &inputs, move |grads, needs| {
        let dsum = grads.get(1).and_then(Option::as_ref);
        let wants_x = needs[0] || needs[1];
        let (dx, parameters) = match grads.first().and_then(Option::as_ref) {
            Some(dy) => backward.run(dy, dsum, wants_x, places, &needs[2..])?,
            None => (dsum.cloned(), vec![None; needs.len() - 2]),
        };
        Ok(Flow { inputs: [dx.clone(), dx].into_iter().chain(parameters).collect(), captured: Vec::new() })
    });
    match <[Tensor; 2]>::try_from(outputs) {
        Ok([y, sum]) => Ok((y, sum)),
        Err(_) => Err(Error::argument(op, "lost an output")),
    }
}

/// Checks what a norm is asked for.
fn plan(
    op: &'static str,
    x: &Tensor,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    dims: usize,
    eps: f64,
    rms: bool,
) -> Result<Rows> {
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
    Ok(Rows { rows, cols, dims, eps, rms })
}

fn forward(
    op: &'static str,
    x: &Tensor,
    residual: Option<&Tensor>,
    gain: Option<&Tensor>,
    bias: Option<&Tensor>,
    plan: Rows,
) -> Result<Outputs> {
    if let Some(residual) = residual
        && x.dtype().is_half()
        && !x.device().is_gpu()
    {
        // The sum is rounded before it is normalised, as everywhere.
        let sum = x.detach().add(&residual.detach())?;
        return Ok(Outputs { sum: Some(sum.clone()), ..forward(op, &sum, None, gain, bias, plan)? });
    }
    let optional = |t: Option<&Tensor>| t.map(prepared).transpose();
    let inputs =
        Inputs { x: prepared(x)?, residual: optional(residual)?, gain: optional(gain)?, bias: optional(bias)? };
    let outputs = match x.device().kind() {
        Kind::Cpu(_) => cpu::forward(op, &inputs, plan)?,
        Kind::Gpu(_) => forward_in_pieces(op, inputs, plan)?,
    };
    let narrow = |t: Tensor| narrowed(&t, x.dtype());
    Ok(Outputs { y: narrow(outputs.y)?, stats: outputs.stats, sum: outputs.sum.map(narrow).transpose()? })
}

/// What the backward of a norm keeps: what was normalised, as it came (a half is widened again rather than kept twice).
struct Backward {
    op: &'static str,
    x: Tensor,
    gain: Option<Tensor>,
    stats: Tensor,
    plan: Rows,
}

impl Backward {
    /// The gradient of what was normalised, to which `extra` is added, and those of gain and bias, of which `places` says which
    /// there are and `needs` which are wanted.
    fn run(
        &self,
        dy: &Tensor,
        extra: Option<&Tensor>,
        wants_x: bool,
        places: [bool; 2],
        needs: &[bool],
    ) -> Result<(Option<Tensor>, Vec<Option<Tensor>>)> {
        let op = self.op;
        let optional = |t: Option<&Tensor>| t.map(prepared).transpose();
        let problem = Gradients {
            x: prepared(&self.x)?,
            gain: optional(self.gain.as_ref())?,
            dy: prepared(dy)?,
            extra: optional(extra)?,
            stats: &self.stats,
            wants_x,
            wants_parameters: needs.iter().any(|&need| need),
        };
        let (dx, both) = match self.x.device().kind() {
            Kind::Cpu(_) => cpu::backward(op, &problem, self.plan)?,
            Kind::Gpu(_) => backward_in_pieces(op, &problem, self.plan)?,
        };
        let dx = dx.map(|dx| narrowed(&dx, self.x.dtype())).transpose()?;
        let shape = Dims::new(op, &self.x.shape()[self.x.rank() - self.plan.dims..])?;
        let mut parameters = Vec::new();
        for i in (0..2).filter(|&i| places[i]) {
            let wanted = needs.get(parameters.len()).copied().unwrap_or_default();
            parameters.push(match both.as_ref().filter(|_| wanted) {
                Some(both) => {
                    let one = view::reshape_to(&view::slice(op, both, 0, i, i + 1, 1)?, shape)?;
                    Some(narrowed(&one, self.x.dtype())?)
                }
                None => None,
            });
        }
        Ok((dx, parameters))
    }
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
