//! Norms of rows, fused: forward saves four numbers a row; backward is one pass on the CPU, and on a GPU one kernel for x and a
//! two-stage sum for gain and bias. Also of a sum, and of a sum after dropout, which then cost no pass of their own.

mod options;
mod pieces;
mod reference;

pub(crate) use options::Plan;
pub use options::{Counted, NormKind, NormOptions};
pub use reference::reference;

use crate::autograd::{Flow, record, record_many};
use crate::cpu::norm as cpu;
use crate::device::Kind;
use crate::layout::Dims;
use crate::ops::random::Dropout;
use crate::ops::rows::{narrowed, prepared, wide};
use crate::ops::view;
use crate::{Error, Result, Tensor};

/// What is normalised: detached; dense and of f32 or f64 on the CPU, any views of any float dtype on a GPU.
pub(crate) struct Inputs {
    pub x: Tensor,
    /// Added to x before.
    pub residual: Option<Tensor>,
    pub gain: Option<Tensor>,
    pub bias: Option<Tensor>,
    /// Of x, before the residual is added.
    pub dropout: Option<Dropout>,
}

pub(crate) struct Outputs {
    pub y: Tensor,
    /// `[rows, 4]`: mean, what its rounding leaves, reciprocal deviation, and of [`NormKind::Crms`] the sum of the results.
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

/// Normalises rows of the last dimensions.
pub(crate) fn norm(op: &'static str, x: &Tensor, options: &NormOptions) -> Result<Tensor> {
    let plan = Plan::new(op, x, options)?;
    let parameters = [&options.gain, &options.bias].map(Option::as_ref);
    let inputs: Vec<&Tensor> = [Some(x)].into_iter().chain(parameters).flatten().collect();
    if x.elements() == 0 {
        let shapes: Vec<Dims> = inputs.iter().map(|t| t.dims()).collect();
        let out = x.detach();
        return Ok(record(op, out, &inputs, move |dy, _| {
            shapes.iter().map(|shape| Tensor::zeros(shape, dy.dtype(), dy.device()).map(Some)).collect()
        }));
    }
    let outputs = forward(op, x, None, None, options, plan)?;
    let backward = Backward::new(op, x, outputs.stats, options, plan, None);
    Ok(record(op, outputs.y, &inputs, move |dy, needs| {
        let (dx, parameters) = backward.run(dy, None, needs[0], &needs[1..])?;
        Ok([dx.map(|[dx, _]| dx)].into_iter().chain(parameters).collect())
    }))
}

/// The norm along one dimension.
pub(crate) fn along(op: &'static str, x: &Tensor, dim: isize, options: &NormOptions) -> Result<Tensor> {
    x.expect_float(op)?;
    match x.dim(op, dim)? {
        dim if dim + 1 == x.rank() => norm(op, x, options),
        dim => norm(op, &x.transpose(dim as isize, -1)?, options)?.transpose(dim as isize, -1),
    }
}

/// `dropout(x, p) + residual`, and its norm: `(norm, sum)`.
pub(crate) fn add_norm(
    op: &'static str,
    x: &Tensor,
    residual: &Tensor,
    p: f64,
    options: &NormOptions,
) -> Result<(Tensor, Tensor)> {
    let plan = Plan::new(op, x, options)?;
    x.expect_like(op, residual)?;
    if x.shape() != residual.shape() {
        let (x, residual) = (x.shape(), residual.shape());
        return Err(Error::shape(
            op,
            format!("residual of shape {residual:?} for x of shape {x:?}, expected the same"),
        ));
    }
    let dropout = Dropout::draw(op, p, x.device())?;
    if p == 1.0 {
        return add_norm(op, &x.dropout(p)?, residual, 0.0, options);
    }
    if x.elements() == 0 {
        let sum = x.add(residual)?;
        return Ok((norm(op, &sum, options)?, sum));
    }
    let Outputs { y, stats, sum } = forward(op, x, Some(residual), dropout, options, plan)?;
    let sum = sum.ok_or_else(|| Error::argument(op, "the kernel gave no sum"))?;
    let parameters = [&options.gain, &options.bias].map(Option::as_ref);
    let inputs: Vec<&Tensor> = [Some(x), Some(residual)].into_iter().chain(parameters).flatten().collect();
    let backward = Backward::new(op, &sum, stats, options, plan, dropout);
    let outputs = record_many(op, vec![y, sum], &inputs, move |grads, needs| {
        let dsum = grads.get(1).and_then(Option::as_ref);
        let wants_x = needs[0] || needs[1];
        let (dx, parameters) = match (grads.first().and_then(Option::as_ref), dsum) {
            (Some(dy), _) => backward.run(dy, dsum, wants_x, &needs[2..])?,
            (None, Some(dsum)) => (Some([dsum.clone(), backward.through(dsum)?]), vec![None; needs.len() - 2]),
            (None, None) => (None, vec![None; needs.len() - 2]),
        };
        let (dsum, dx) = dx.map(|[dsum, dx]| (dsum, dx)).unzip();
        Ok(Flow { inputs: [dx, dsum].into_iter().chain(parameters).collect(), captured: Vec::new() })
    });
    match <[Tensor; 2]>::try_from(outputs) {
        Ok([y, sum]) => Ok((y, sum)),
        Err(_) => Err(Error::argument(op, "lost an output")),
    }
}

fn forward(
    op: &'static str,
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    options: &NormOptions,
    plan: Plan,
) -> Result<Outputs> {
    let gpu = x.device().is_gpu();
    let narrow = |t: Tensor| narrowed(&t, x.dtype());
    if let Some(residual) = residual
        && !gpu
        && x.dtype().is_half()
    {
        // The sum is rounded before it is normalised, as everywhere.
        let (x, residual) = (wide(x)?, wide(residual)?);
        let dropped = dropout.map(|dropout| dropout.apply(op, &x)).transpose()?;
        let sum = narrow(dropped.unwrap_or(x).add(&residual)?)?;
        return Ok(Outputs { sum: Some(sum.clone()), ..forward(op, &sum, None, None, options, plan)? });
    }
    let optional = |t: Option<&Tensor>| t.map(prepared).transpose();
    let inputs = Inputs {
        x: prepared(x)?,
        residual: optional(residual)?,
        gain: optional(options.gain.as_ref())?,
        bias: optional(options.bias.as_ref())?,
        dropout,
    };
    let outputs = if gpu { pieces::forward(op, inputs, plan)? } else { cpu::forward(op, &inputs, plan)? };
    Ok(Outputs { y: narrow(outputs.y)?, stats: outputs.stats, sum: outputs.sum.map(narrow).transpose()? })
}

/// The gradient of what was normalised, and the same after dropout.
type Both = [Tensor; 2];

/// What the backward of a norm keeps: what was normalised, as it came (a half is widened again rather than kept twice).
struct Backward {
    op: &'static str,
    x: Tensor,
    gain: Option<Tensor>,
    stats: Tensor,
    plan: Plan,
    dropout: Option<Dropout>,
    /// Whether there are a gain and a bias.
    places: [bool; 2],
}

impl Backward {
    fn new(
        op: &'static str,
        x: &Tensor,
        stats: Tensor,
        options: &NormOptions,
        plan: Plan,
        dropout: Option<Dropout>,
    ) -> Self {
        let gain = options.gain.as_ref().map(Tensor::detach);
        let places = [gain.is_some(), options.bias.is_some()];
        Backward { op, x: x.detach(), gain, stats, plan, dropout, places }
    }

    /// A gradient through dropout.
    fn through(&self, gradient: &Tensor) -> Result<Tensor> {
        self.dropout.map_or_else(|| Ok(gradient.clone()), |dropout| dropout.apply(self.op, gradient))
    }

    /// The gradient of what was normalised, to which `extra` is added, and those of gain and bias, of which `needs` says which are
    /// wanted.
    fn run(
        &self,
        dy: &Tensor,
        extra: Option<&Tensor>,
        wants_x: bool,
        needs: &[bool],
    ) -> Result<(Option<Both>, Vec<Option<Tensor>>)> {
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
        let (dx, parameters) = match self.x.device().kind() {
            Kind::Cpu(_) => {
                // Of halves, dropout is of the gradient that was rounded.
                let half = self.x.dtype().is_half();
                let (dx, parameters) = cpu::backward(op, &problem, self.plan, self.dropout.filter(|_| !half))?;
                let both = match &dx[..] {
                    [] => None,
                    [dx, through, ..] => Some([dx.clone(), through.clone()]),
                    [dx] => {
                        let dx = narrowed(dx, self.x.dtype())?;
                        Some([dx.clone(), self.through(&dx)?])
                    }
                };
                (both, parameters)
            }
            Kind::Gpu(_) => pieces::backward(op, &problem, self.plan, self.dropout)?,
        };
        let shape = Dims::new(op, &self.x.shape()[self.x.rank() - self.plan.dims..])?;
        let mut gradients = Vec::new();
        for i in (0..2).filter(|&i| self.places[i]) {
            let wanted = needs.get(gradients.len()).copied().unwrap_or_default();
            gradients.push(match parameters.as_ref().filter(|_| wanted) {
                Some(both) => {
                    let one = view::reshape_to(&view::slice(op, both, 0, i, i + 1, 1)?, shape)?;
                    Some(narrowed(&one, self.x.dtype())?)
                }
                None => None,
            });
        }
        Ok((dx, gradients))
    }
}
