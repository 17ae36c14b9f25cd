//! Norms of rows. Each direction reads its inputs from memory once: a row stays in the cache for the passes over it. The formulas
//! stand in `shaders/norm/`.

use super::Float;
use super::parallel::{batch_of, for_parts};
use super::pool::take;
use super::softmax::{max, sum, sum2};
use super::strided::Vectorised;
use crate::layout::Dims;
use crate::ops::norm::{Gradients, Inputs, NormKind, Outputs, Plan};
use crate::ops::random::{Dropout, Noise};
use crate::{DType, Result, Tensor};

/// Rows whose gradients of gain and bias one task adds up; fixed, so that the order of additions is.
const ROWS: usize = 64;

fn slice<'a, T: Float>(op: &'static str, x: Option<&'a Tensor>) -> Result<Option<&'a [T]>> {
    x.map(|x| x.cpu_slice::<T>(op)).transpose()
}

pub(crate) fn forward(op: &'static str, inputs: &Inputs, plan: Plan) -> Result<Outputs> {
    match inputs.x.dtype() {
        DType::F64 => forward_typed::<f64>(op, inputs, plan),
        _ => forward_typed::<f32>(op, inputs, plan),
    }
}

fn forward_typed<T: Float>(op: &'static str, inputs: &Inputs, plan: Plan) -> Result<Outputs> {
    let Plan { rows, cols, .. } = plan;
    let x = inputs.x.cpu_slice::<T>(op)?;
    let residual = slice::<T>(op, inputs.residual.as_ref())?;
    let (gain, bias) = (slice::<T>(op, inputs.gain.as_ref())?, slice::<T>(op, inputs.bias.as_ref())?);
    let mut y = take::<T>(rows * cols);
    let mut total = take::<T>(if residual.is_some() { rows * cols } else { 0 });
    let mut stats = vec![T::zero(); 4 * rows];
    let batch = batch_of(cols);
    let sizes = [batch * cols, batch * cols, 4 * batch];
    for_parts([&mut y, &mut total, &mut stats], sizes, 1, &|i, [y, total, stats]| {
        let at = i * batch * cols..i * batch * cols + y.len();
        let residual = residual.map(|residual| &residual[at.clone()]);
        let x = &x[at.clone()];
        if let Some(dropout) = inputs.dropout {
            // Into the cache: what falls is drawn by a loop of its own, which takes no vectors.
            fall(dropout, at.start, x, total);
        }
        let dropped = inputs.dropout.is_some();
        ForwardRows { x, residual, dropped, gain, bias, plan, y, total, stats }.dispatch();
    });
    let (shape, device) = (inputs.x.dims(), inputs.x.device());
    Ok(Outputs {
        y: Tensor::from_cpu(op, y, shape, device)?,
        stats: Tensor::from_cpu(op, stats, Dims::new(op, &[rows, 4])?, device)?,
        sum: if residual.is_some() { Some(Tensor::from_cpu(op, total, shape, device)?) } else { None },
    })
}

struct ForwardRows<'a, T> {
    x: &'a [T],
    residual: Option<&'a [T]>,
    /// Whether `total` holds x after dropout.
    dropped: bool,
    gain: Option<&'a [T]>,
    bias: Option<&'a [T]>,
    plan: Plan,
    y: &'a mut [T],
    total: &'a mut [T],
    stats: &'a mut [T],
}

impl<T: Float> Vectorised for ForwardRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let ForwardRows { x, residual, dropped, gain, bias, plan, y, total, stats } = self;
        match residual {
            Some(residual) if dropped => total.iter_mut().zip(residual).for_each(|(t, &r)| *t += r),
            Some(residual) => total.iter_mut().zip(x.iter().zip(residual)).for_each(|(t, (&x, &r))| *t = x + r),
            None => {}
        }
        let x = if residual.is_some() { &*total } else { x };
        let rows = x.chunks_exact(plan.cols).zip(y.chunks_exact_mut(plan.cols)).zip(stats.chunks_exact_mut(4));
        for ((x, y), stats) in rows {
            let of_row = statistics(x, &plan);
            match of_row.rest == T::zero() {
                true => write(x, y, gain, bias, |v| of_row.almost(v)),
                false => write(x, y, gain, bias, |v| of_row.normalised(v)),
            }
            of_row.save(stats);
        }
    }
}

/// Dropout of `x`, which begins at element `first` of the tensor.
fn fall<T: Float>(dropout: Dropout, first: usize, x: &[T], out: &mut [T]) {
    let noise = Noise::new(dropout.state);
    let mut words = noise.block(first / 4);
    for (i, (out, &x)) in (first..).zip(out.iter_mut().zip(x)) {
        if i % 4 == 0 {
            words = noise.block(i / 4);
        }
        *out = if words[i % 4] < dropout.threshold { T::zero() } else { T::of(x.f64() * dropout.scale) };
    }
}

/// The sum of `f(element)`, as much as each counts.
#[inline(always)]
fn counted<T: Float>(x: &[T], plan: &Plan, f: impl Fn(T) -> T + Copy) -> f64 {
    if !plan.is_partial() {
        return sum(x, f);
    }
    let (first, rest) = x.split_at(plan.counted.first);
    sum(first, f) + plan.counted.rest * sum(rest, f)
}

/// The largest `|element - mean|` among those that count.
#[inline(always)]
fn largest<T: Float>(x: &[T], mean: T, plan: &Plan) -> T {
    let x = if plan.is_partial() && plan.counted.rest == 0.0 { &x[..plan.counted.first] } else { x };
    let lowest = x.iter().fold(T::infinity(), |a, &v| if v < a { v } else { a });
    let (above, below) = (max(x) - mean, mean - lowest);
    if above > below { above } else { below }
}

/// `|v|^power`.
fn raised<T: Float>(v: T, power: f64) -> T {
    num_traits::Float::powf(num_traits::Float::abs(v), T::of(power))
}

/// `sign(v) |v|^(power - 1)`, the derivative of that over the power.
fn turned<T: Float>(v: T, power: f64) -> T {
    let size = raised(v, power - 1.0);
    if v > T::zero() {
        size
    } else if v < T::zero() {
        -size
    } else {
        T::zero()
    }
}

/// What is subtracted from a row, and what the rest is multiplied by.
#[derive(Clone, Copy)]
struct OfRow<T> {
    mean: T,
    /// What the rounding of the mean leaves.
    rest: T,
    rstd: T,
    /// The sum of the results, where it is needed.
    sum: T,
}

impl<T: Float> OfRow<T> {
    #[inline(always)]
    fn read(stats: &[T]) -> Self {
        OfRow { mean: stats[0], rest: stats[1], rstd: stats[2], sum: stats[3] }
    }

    #[inline(always)]
    fn save(self, stats: &mut [T]) {
        stats.copy_from_slice(&[self.mean, self.rest, self.rstd, self.sum]);
    }

    /// Where nothing is left.
    #[inline(always)]
    fn almost(self, v: T) -> T {
        (v - self.mean) * self.rstd
    }

    #[inline(always)]
    fn normalised(self, v: T) -> T {
        ((v - self.mean) - self.rest) * self.rstd
    }
}

#[inline(always)]
fn statistics<T: Float>(x: &[T], plan: &Plan) -> OfRow<T> {
    let mut of_row = OfRow { mean: T::zero(), rest: T::zero(), rstd: T::one(), sum: T::zero() };
    let (mut unit, mut eps, mut whole) = (1.0, plan.eps, 0.0);
    let mut total;
    if plan.safe {
        let root = plan.eps.powf(1.0 / plan.power());
        if plan.centres() {
            // The sum of large elements may overflow where their mean does not.
            let share = T::of(1.0 / plan.count());
            of_row.mean = T::of(counted(x, plan, |v| v * share));
            of_row.rest = T::of(counted(x, plan, |v| (v - of_row.mean) * share));
        }
        unit = largest(x, of_row.mean, plan).f64().max(root).max(1e-37);
        eps = (root / unit).powf(plan.power());
        let per_unit = T::of(1.0 / unit);
        let small = |v: T| ((v - of_row.mean) - of_row.rest) * per_unit;
        total = match plan.power() {
            2.0 => counted(x, plan, |v| small(v) * small(v)),
            power => counted(x, plan, |v| raised(small(v), power)),
        };
    } else if plan.centres() {
        of_row.mean = T::of(counted(x, plan, |v| v) / plan.count());
        total = counted(x, plan, |v| (v - of_row.mean) * (v - of_row.mean));
        // Near zero the rounding of the mean does not count, and a pass is saved.
        if of_row.mean.f64().powi(2) * plan.count() > 16.0 * total {
            let sum = counted(x, plan, |v| v - of_row.mean);
            of_row.rest = T::of(sum / plan.count());
            total = (total - sum * sum / plan.count()).max(0.0);
        }
    } else {
        total = counted(x, plan, |v| v * v);
    }
    if plan.kind == NormKind::Crms {
        let per_unit = T::of(1.0 / unit);
        whole = sum(x, |v| v * per_unit);
        total += whole * whole;
    }
    if plan.scales() {
        let total = total / plan.divisor() + eps;
        let deviation = unit * if plan.power() == 2.0 { total.sqrt() } else { total.powf(1.0 / plan.power()) };
        let rstd = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
        (of_row.rstd, of_row.sum) = (T::of(rstd), T::of(whole * unit * rstd));
    }
    of_row
}

/// One row of results.
#[inline(always)]
fn write<T: Float>(x: &[T], y: &mut [T], gain: Option<&[T]>, bias: Option<&[T]>, normalised: impl Fn(T) -> T) {
    let all = y.iter_mut().zip(x.iter().map(|&v| normalised(v)));
    match (gain, bias) {
        (None, None) => all.for_each(|(y, v)| *y = v),
        (Some(gain), None) => all.zip(gain).for_each(|((y, v), &g)| *y = v * g),
        (None, Some(bias)) => all.zip(bias).for_each(|((y, v), &b)| *y = v + b),
        (Some(gain), Some(bias)) => {
            all.zip(gain.iter().zip(bias)).for_each(|((y, v), (&g, &b))| *y = v * g + b);
        }
    }
}

/// The gradient of x and after it, if there is dropout, the same through it; and those of gain and bias.
pub(crate) fn backward(
    op: &'static str,
    problem: &Gradients,
    plan: Plan,
    dropout: Option<Dropout>,
) -> Result<(Vec<Tensor>, Option<Tensor>)> {
    match problem.x.dtype() {
        DType::F64 => backward_typed::<f64>(op, problem, plan, dropout),
        _ => backward_typed::<f32>(op, problem, plan, dropout),
    }
}

fn backward_typed<T: Float>(
    op: &'static str,
    problem: &Gradients,
    plan: Plan,
    dropout: Option<Dropout>,
) -> Result<(Vec<Tensor>, Option<Tensor>)> {
    let Plan { rows, cols, .. } = plan;
    let (x, dy) = (problem.x.cpu_slice::<T>(op)?, problem.dy.cpu_slice::<T>(op)?);
    let (gain, extra) = (slice::<T>(op, problem.gain.as_ref())?, slice::<T>(op, problem.extra.as_ref())?);
    let stats = problem.stats.cpu_slice::<T>(op)?;
    let parts = rows.div_ceil(ROWS);
    let mut dx = take::<T>(if problem.wants_x { rows * cols } else { 0 });
    let dropout = dropout.filter(|_| problem.wants_x);
    let mut through = take::<T>(if dropout.is_some() { rows * cols } else { 0 });
    let mut sums = vec![T::zero(); if problem.wants_parameters { parts * 2 * cols } else { 0 }];
    let cost = if problem.wants_x { 1 } else { ROWS };
    let sizes = [ROWS * cols, ROWS * cols, 2 * cols];
    for_parts([&mut dx, &mut through, &mut sums], sizes, cost, &|i, [dx, through, sums]| {
        let (from, to) = (i * ROWS, rows.min((i + 1) * ROWS));
        let at = from * cols..to * cols;
        let extra = extra.map(|extra| &extra[at.clone()]);
        let stats = &stats[4 * from..4 * to];
        BackwardRows { x: &x[at.clone()], dy: &dy[at], gain, extra, stats, plan, dx: &mut *dx, sums }.dispatch();
        if let Some(dropout) = dropout {
            fall(dropout, from * cols, dx, through);
        }
    });
    let device = problem.x.device();
    let both = if problem.wants_parameters {
        let mut totals = vec![0.0; 2 * cols];
        for part in sums.chunks_exact(2 * cols) {
            totals.iter_mut().zip(part).for_each(|(total, v)| *total += v.f64());
        }
        let totals: Vec<T> = totals.into_iter().map(T::of).collect();
        Some(Tensor::from_cpu(op, totals, Dims::new(op, &[2, cols])?, device)?)
    } else {
        None
    };
    let made = [(problem.wants_x, dx), (dropout.is_some(), through)].into_iter().filter(|(wanted, _)| *wanted);
    let made = made.map(|(_, values)| Tensor::from_cpu(op, values, problem.x.dims(), device)).collect::<Result<_>>()?;
    Ok((made, both))
}

struct BackwardRows<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gain: Option<&'a [T]>,
    extra: Option<&'a [T]>,
    stats: &'a [T],
    plan: Plan,
    dx: &'a mut [T],
    /// Of the gradients of gain and bias.
    sums: &'a mut [T],
}

impl<T: Float> Vectorised for BackwardRows<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        match self.stats.chunks_exact(4).all(|stats| OfRow::read(stats).rest == T::zero()) {
            true => self.rows(OfRow::almost),
            false => self.rows(OfRow::normalised),
        }
    }
}

impl<T: Float> BackwardRows<'_, T> {
    #[inline(always)]
    fn rows(self, normalised: impl Fn(OfRow<T>, T) -> T) {
        let BackwardRows { x, dy, gain, extra, stats, plan, dx, sums } = self;
        let (dgain, dbias) = sums.split_at_mut(sums.len() / 2);
        for (row, stats) in stats.chunks_exact(4).enumerate() {
            let at = row * plan.cols..(row + 1) * plan.cols;
            let (x, dy, of_row) = (&x[at.clone()], &dy[at.clone()], OfRow::read(stats));
            if let Some(dx) = dx.get_mut(at.clone()) {
                row_gradient(x, dy, gain, of_row, plan, dx, |v| normalised(of_row, v));
                if let Some(extra) = extra {
                    dx.iter_mut().zip(&extra[at]).for_each(|(dx, &e)| *dx += e);
                }
            }
            let both = dgain.iter_mut().zip(dbias.iter_mut());
            both.zip(x.iter().zip(dy)).for_each(|((dgain, dbias), (&v, &u))| {
                *dgain += u * normalised(of_row, v);
                *dbias += u;
            });
        }
    }
}

/// The gradient of one row of x.
#[inline(always)]
fn row_gradient<T: Float>(
    x: &[T],
    dy: &[T],
    gain: Option<&[T]>,
    of_row: OfRow<T>,
    plan: Plan,
    dx: &mut [T],
    normalised: impl Fn(T) -> T + Copy,
) {
    match gain {
        Some(gain) => dx.iter_mut().zip(dy.iter().zip(gain)).for_each(|(u, (&dy, &g))| *u = dy * g),
        None => dx.copy_from_slice(dy),
    }
    let power = plan.power();
    let (mut average, mut shift) = (T::zero(), of_row.sum);
    if plan.centres() {
        average = T::of(sum(dx, |u| u) / plan.count());
        if power != 2.0 {
            shift = T::of(-counted(x, &plan, |v| turned(normalised(v), power)) / plan.count());
        }
    }
    let mut product = T::zero();
    if plan.scales() {
        product = T::of(sum2(dx, x, |u, v| u * normalised(v)) / plan.divisor());
    }
    let rstd = of_row.rstd;
    match power == 2.0 {
        true => subtract(dx, x, rstd, plan, |v| average + (normalised(v) + shift) * product),
        false => subtract(dx, x, rstd, plan, |v| average + (turned(normalised(v), power) + shift) * product),
    }
}

/// `u = rstd (u - f(x))`, with as much of `f(x)` as an element counts.
#[inline(always)]
fn subtract<T: Float>(u: &mut [T], x: &[T], rstd: T, plan: Plan, f: impl Fn(T) -> T) {
    let first = if plan.is_partial() { plan.counted.first } else { x.len() };
    let (all, part) = u.split_at_mut(first);
    all.iter_mut().zip(x).for_each(|(u, &v)| *u = rstd * (*u - f(v)));
    let rest = T::of(plan.counted.rest);
    part.iter_mut().zip(&x[first..]).for_each(|(u, &v)| *u = rstd * (*u - rest * f(v)));
}
