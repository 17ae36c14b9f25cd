//! Operations of one tensor, element by element, and their derivatives.

use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::kernels::elementwise as kernels;
use crate::kernels::window::piecewise;
use crate::ops::elementwise::binary::{self, Binary};
use crate::{DType, Error, Result, Tensor};

/// Which function. The numbers are those of `shaders/elementwise/unary.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Op {
    Affine = 0,
    Neg = 1,
    Abs = 2,
    Sign = 3,
    Exp = 4,
    Expm1 = 5,
    Log = 6,
    Log1p = 7,
    Sqrt = 8,
    Rsqrt = 9,
    Reciprocal = 10,
    Square = 11,
    Sin = 12,
    Cos = 13,
    Tanh = 14,
    Sigmoid = 15,
    Gelu = 16,
    GeluTanh = 17,
    QuickGelu = 18,
    Silu = 19,
    Relu = 20,
    ReluSquared = 21,
    LeakyRelu = 22,
    Elu = 23,
    Softplus = 24,
    LogSigmoid = 25,
    Erf = 26,
    Floor = 27,
    Ceil = 28,
    Round = 29,
    HardSwish = 30,
    Mish = 31,
    Clamp = 32,
    Pow = 33,
}

/// A function with its parameters: slope, exponent, bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unary {
    pub op: Op,
    pub a: f64,
    pub b: f64,
}

impl Unary {
    pub fn new(op: Op) -> Self {
        Unary { op, a: 0.0, b: 0.0 }
    }

    pub fn with(op: Op, a: f64, b: f64) -> Self {
        Unary { op, a, b }
    }

    /// Whether the derivative is zero everywhere.
    fn is_step(self) -> bool {
        matches!(self.op, Op::Sign | Op::Floor | Op::Ceil | Op::Round) || self.op == Op::Pow && self.a == 0.0
    }
}

/// `f(x)` for float tensors.
pub(crate) fn unary(name: &'static str, x: &Tensor, f: Unary) -> Result<Tensor> {
    x.expect_float(name)?;
    let dense = x.detach().contiguous()?;
    let out = match x.device().kind() {
        Kind::Cpu(_) => cpu::unary(name, &dense, f)?,
        Kind::Gpu(_) => {
            let output = (dense.dims(), dense.dtype());
            piecewise(name, &[&dense], output, dense.rank(), &|x| kernels::unary(name, &x[0], f))?
        }
    };
    Ok(record(name, out, &[x], move |dy, _| {
        if f.is_step() {
            return Ok(vec![Some(dy.zeros_like()?)]);
        }
        Ok(vec![Some(unary_grad(name, &dense, dy, f)?)])
    }))
}

/// `dy * f'(x)`, recomputed from x in one pass. Not recorded.
pub(crate) fn unary_grad(name: &'static str, x: &Tensor, dy: &Tensor, f: Unary) -> Result<Tensor> {
    match f.op {
        Op::Neg => return unary(name, dy, f),
        Op::Affine => return unary(name, dy, Unary::with(Op::Affine, f.a, 0.0)),
        _ => {}
    }
    let dy = dy.contiguous()?;
    match x.device().kind() {
        Kind::Cpu(_) => cpu::unary_grad(name, x, &dy, f),
        Kind::Gpu(_) => {
            let output = (x.dims(), x.dtype());
            piecewise(name, &[x, &dy], output, x.rank(), &|x| kernels::unary_grad(name, &x[0], &x[1], f))
        }
    }
}

/// `a x + b`; integers too, where a and b must be integers.
pub(crate) fn affine(name: &'static str, x: &Tensor, a: f64, b: f64) -> Result<Tensor> {
    if x.dtype().is_float() {
        return unary(name, x, Unary::with(Op::Affine, a, b));
    }
    let scaled = if a == 1.0 { x.clone() } else { binary::binary(name, x, &int_scalar(name, x, a)?, Binary::Mul)? };
    if b == 0.0 { Ok(scaled) } else { binary::binary(name, &scaled, &int_scalar(name, x, b)?, Binary::Add) }
}

/// `-x`; for u32 an error.
pub(crate) fn neg(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::I32 => affine("neg", x, -1.0, 0.0),
        _ => unary("neg", x, Unary::new(Op::Neg)),
    }
}

/// `|x|`, of i32 too.
pub(crate) fn abs(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::I32 => binary::binary("abs", x, &neg(x)?, Binary::Maximum),
        _ => unary("abs", x, Unary::new(Op::Abs)),
    }
}

/// `min(max(x, low), high)`; integers too, where the bounds must be integers.
pub(crate) fn clamp(x: &Tensor, low: Option<f64>, high: Option<f64>) -> Result<Tensor> {
    let name = "clamp";
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        return Err(Error::argument(name, format!("lower bound {low} is above upper bound {high}")));
    }
    if low.is_some_and(f64::is_nan) || high.is_some_and(f64::is_nan) {
        return Err(Error::argument(name, "a bound is NaN"));
    }
    if x.dtype().is_float() {
        let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
        return unary(name, x, Unary::with(Op::Clamp, low, high));
    }
    let above = match low {
        Some(low) => binary::binary(name, x, &int_scalar(name, x, low)?, Binary::Maximum)?,
        None => x.clone(),
    };
    match high {
        Some(high) => binary::binary(name, &above, &int_scalar(name, x, high)?, Binary::Minimum),
        None => Ok(above),
    }
}

/// `x^exponent`; common exponents by their own functions, which are faster and exact.
pub(crate) fn pow_scalar(x: &Tensor, exponent: f64) -> Result<Tensor> {
    let name = "pow_scalar";
    if !exponent.is_finite() {
        return Err(Error::argument(name, format!("exponent {exponent} is not finite")));
    }
    let f = match exponent {
        1.0 => Unary::with(Op::Affine, 1.0, 0.0),
        2.0 => Unary::new(Op::Square),
        0.5 => Unary::new(Op::Sqrt),
        -1.0 => Unary::new(Op::Reciprocal),
        -0.5 => Unary::new(Op::Rsqrt),
        _ => Unary::with(Op::Pow, exponent, 0.0),
    };
    unary(name, x, f)
}

/// A scalar of an integer tensor's dtype that holds exactly `value`.
fn int_scalar(name: &'static str, x: &Tensor, value: f64) -> Result<Tensor> {
    let fits = match x.dtype() {
        DType::I32 => f64::from(value as i32) == value,
        DType::U32 => f64::from(value as u32) == value,
        got => return Err(Error::DType { op: name, got, expected: "a float or integer dtype" }),
    };
    if !fits {
        return Err(Error::argument(name, format!("{value} is not a value of {}", x.dtype())));
    }
    Tensor::scalar(value, x.dtype(), x.device())
}
