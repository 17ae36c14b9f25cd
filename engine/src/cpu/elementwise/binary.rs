//! Functions of two elements over broadcast views, and the choice between two by a third.

use half::{bf16, f16};

use crate::cpu::Float;
use crate::cpu::strided::{Walk, map_each, zip_each};
use crate::ops::elementwise::Binary;
use crate::{DType, Element, Error, Result, Tensor};

/// `f(a, b)` of two views of one shape.
pub(crate) fn binary(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    match a.dtype() {
        DType::F32 => floats::<f32>(op, a, b, f),
        DType::F64 => floats::<f64>(op, a, b, f),
        DType::F16 | DType::BF16 => {
            let wide = |x: &Tensor| super::cast(op, &super::copy(op, x)?, DType::F32);
            let out = floats::<f32>(op, &wide(a)?, &wide(b)?, f)?;
            if f.is_comparison() { Ok(out) } else { super::cast(op, &out, a.dtype()) }
        }
        DType::I32 => integers::<i32>(op, a, b, f),
        DType::U32 => integers::<u32>(op, a, b, f),
        DType::Bool => match f {
            Binary::And => pairs(op, a, b, |a: bool, b: bool| a & b),
            Binary::Or => pairs(op, a, b, |a: bool, b: bool| a | b),
            Binary::Xor => pairs(op, a, b, |a: bool, b: bool| a ^ b),
            _ => compare::<bool>(op, a, b, f),
        },
    }
}

fn floats<T: Float>(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    match f {
        Binary::Add => pairs(op, a, b, |a: T, b: T| a + b),
        Binary::Sub => pairs(op, a, b, |a: T, b: T| a - b),
        Binary::Mul => pairs(op, a, b, |a: T, b: T| a * b),
        Binary::Div => pairs(op, a, b, |a: T, b: T| a / b),
        // The first operand if it is NaN, else the second if that is.
        Binary::Minimum => pairs(op, a, b, |a: T, b: T| if b < a || b.is_nan() && !a.is_nan() { b } else { a }),
        Binary::Maximum => pairs(op, a, b, |a: T, b: T| if b > a || b.is_nan() && !a.is_nan() { b } else { a }),
        Binary::Pow => pairs(op, a, b, |a: T, b: T| a.powf(b)),
        Binary::DivSlope => pairs(op, a, b, |a: T, b: T| -a / b / b),
        Binary::PowBaseSlope => {
            pairs(op, a, b, |a: T, b: T| if b == T::zero() { T::zero() } else { b * a.powf(b - T::one()) })
        }
        Binary::PowExponentSlope => pairs(op, a, b, |a: T, b: T| {
            // 0^b is flat in b >= 0.
            if a == T::zero() && b >= T::zero() { T::zero() } else { a.powf(b) * a.ln() }
        }),
        Binary::MaximumShare => pairs(op, a, b, |a: T, b: T| {
            if a > b {
                T::one()
            } else if a == b {
                T::of(0.5)
            } else {
                T::zero()
            }
        }),
        _ => compare::<T>(op, a, b, f),
    }
}

/// Arithmetic that wraps around; division by zero gives zero.
trait Integer: Element + Ord {
    fn wrapping(self, other: Self, f: Binary) -> Option<Self>;
}

macro_rules! integer {
    ($type:ty) => {
        impl Integer for $type {
            #[inline(always)]
            fn wrapping(self, other: Self, f: Binary) -> Option<Self> {
                Some(match f {
                    Binary::Add => self.wrapping_add(other),
                    Binary::Sub => self.wrapping_sub(other),
                    Binary::Mul => self.wrapping_mul(other),
                    Binary::Div if other == 0 => 0,
                    Binary::Div => self.wrapping_div(other),
                    Binary::Minimum => self.min(other),
                    Binary::Maximum => self.max(other),
                    _ => return None,
                })
            }
        }
    };
}
integer!(i32);
integer!(u32);

fn integers<T: Integer>(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    match f {
        _ if f.is_comparison() => compare::<T>(op, a, b, f),
        _ if T::default().wrapping(T::default(), f).is_some() => {
            pairs(op, a, b, move |a: T, b: T| a.wrapping(b, f).unwrap_or_default())
        }
        _ => Err(Error::DType { op, got: a.dtype(), expected: "a float dtype" }),
    }
}

fn compare<T: Element + PartialOrd>(op: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    match f {
        Binary::Eq => pairs(op, a, b, |a: T, b: T| a == b),
        Binary::Ne => pairs(op, a, b, |a: T, b: T| a != b),
        Binary::Lt => pairs(op, a, b, |a: T, b: T| a < b),
        Binary::Le => pairs(op, a, b, |a: T, b: T| a <= b),
        Binary::Gt => pairs(op, a, b, |a: T, b: T| a > b),
        Binary::Ge => pairs(op, a, b, |a: T, b: T| a >= b),
        _ => Err(Error::DType { op, got: a.dtype(), expected: "a dtype of this operation" }),
    }
}

/// Runs `f` over pairs of elements, with loops of their own for the steps that matter: dense, and one operand repeated.
fn pairs<T: Element, O: Element>(
    op: &'static str,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> O + Copy + Sync,
) -> Result<Tensor> {
    let (x, y) = (a.cpu_all::<T>(op)?, b.cpu_all::<T>(op)?);
    let walk = Walk::new([*a.layout(), *b.layout()]);
    let out = walk.fill(a.elements(), |out, [i, j]| {
        let n = out.len();
        match walk.steps {
            [1, 1] => zip_each(&x[i..i + n], &y[j..j + n], out, f),
            [1, 0] => {
                let right = y[j];
                map_each(&x[i..i + n], out, |left| f(left, right));
            }
            [0, 1] => {
                let left = x[i];
                map_each(&y[j..j + n], out, |right| f(left, right));
            }
            [s, t] => out.iter_mut().enumerate().for_each(|(k, out)| *out = f(x[i + k * s], y[j + k * t])),
        }
    });
    Tensor::from_cpu(op, out, a.dims(), a.device())
}

/// `condition ? a : b` of three views of one shape.
pub(crate) fn select(op: &'static str, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    fn run<T: Element>(op: &'static str, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let c = condition.cpu_all::<bool>(op)?;
        let (x, y) = (a.cpu_all::<T>(op)?, b.cpu_all::<T>(op)?);
        let walk = Walk::new([*condition.layout(), *a.layout(), *b.layout()]);
        let [sc, sx, sy] = walk.steps;
        let out = walk.fill(a.elements(), |out, [i, j, k]| {
            let n = out.len();
            let chosen = |c: bool, x: T, y: T| if c { x } else { y };
            match [sc, sx, sy] {
                [0, ..] => {
                    let (from, start, step) = if c[i] { (x, j, sx) } else { (y, k, sy) };
                    out.iter_mut().enumerate().for_each(|(n, out)| *out = from[start + n * step]);
                }
                [1, 1, 1] => {
                    let both = x[j..j + n].iter().zip(&y[k..k + n]);
                    for ((out, &c), (&x, &y)) in out.iter_mut().zip(&c[i..i + n]).zip(both) {
                        *out = chosen(c, x, y);
                    }
                }
                [1, 0, 1] => zip_each(&c[i..i + n], &y[k..k + n], out, |c, y| chosen(c, x[j], y)),
                [1, 1, 0] => zip_each(&c[i..i + n], &x[j..j + n], out, |c, x| chosen(c, x, y[k])),
                _ => {
                    out.iter_mut()
                        .enumerate()
                        .for_each(|(n, out)| *out = chosen(c[i + n * sc], x[j + n * sx], y[k + n * sy]));
                }
            }
        });
        Tensor::from_cpu(op, out, a.dims(), a.device())
    }
    match a.dtype() {
        DType::F32 => run::<f32>(op, condition, a, b),
        DType::F16 => run::<f16>(op, condition, a, b),
        DType::BF16 => run::<bf16>(op, condition, a, b),
        DType::F64 => run::<f64>(op, condition, a, b),
        DType::I32 => run::<i32>(op, condition, a, b),
        DType::U32 => run::<u32>(op, condition, a, b),
        DType::Bool => run::<bool>(op, condition, a, b),
    }
}
