//! Operations of two broadcast tensors: arithmetic, comparisons, logic.

use crate::autograd::record;
use crate::cpu::elementwise as cpu;
use crate::device::Kind;
use crate::kernels::elementwise as kernels;
use crate::kernels::window::piecewise;
use crate::layout::{Dims, broadcast_shape};
use crate::{DType, Error, Result, Tensor};

/// Which function. The numbers are those of `shaders/elementwise/binary.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Binary {
    Add = 0,
    Sub = 1,
    Mul = 2,
    Div = 3,
    Minimum = 4,
    Maximum = 5,
    Pow = 6,
    /// Derivative of a / b with respect to b: -a / b².
    DivSlope = 7,
    /// Derivative of a^b with respect to a.
    PowBaseSlope = 8,
    /// Derivative of a^b with respect to b.
    PowExponentSlope = 9,
    /// What of the gradient of max(a, b) goes to a: all, half at a tie, or nothing.
    MaximumShare = 10,
    And = 11,
    Or = 12,
    Xor = 13,
    Eq = 16,
    Ne = 17,
    Lt = 18,
    Le = 19,
    Gt = 20,
    Ge = 21,
}

impl Binary {
    pub fn is_comparison(self) -> bool {
        self as u32 >= Binary::Eq as u32
    }

    fn is_logic(self) -> bool {
        matches!(self, Binary::And | Binary::Or | Binary::Xor)
    }

    fn takes(self, dtype: DType) -> std::result::Result<(), &'static str> {
        let (fits, expected) = match self {
            _ if self.is_logic() => (dtype == DType::Bool, "bool"),
            Binary::Eq | Binary::Ne => (true, "any dtype"),
            Binary::Pow => (dtype.is_float(), "a float dtype"),
            _ => (dtype != DType::Bool, "a float or integer dtype (cast bool first)"),
        };
        if fits { Ok(()) } else { Err(expected) }
    }
}

/// `f(a, b)` with numpy's broadcasting. Comparisons give bool.
pub(crate) fn binary(name: &'static str, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    a.expect_like(name, b)?;
    f.takes(a.dtype()).map_err(|expected| Error::DType { op: name, got: a.dtype(), expected })?;
    let shape = broadcast_shape(name, a.shape(), b.shape())?;
    a.device().expect_room(name, shape.elements(), a.dtype())?;
    let (x, y) = (broadcast(name, &a.detach(), &shape)?, broadcast(name, &b.detach(), &shape)?);
    let out = match a.device().kind() {
        Kind::Cpu(_) => cpu::binary(name, &x, &y, f)?,
        Kind::Gpu(_) => {
            let output = (shape, if f.is_comparison() { DType::Bool } else { x.dtype() });
            piecewise(name, &[&x, &y], output, x.rank(), &|x| kernels::binary(name, &x[0], &x[1], f))?
        }
    };
    if f.is_comparison() || f.is_logic() {
        return Ok(out);
    }
    let (a_shape, b_shape) = (a.dims(), b.dims());
    Ok(record(name, out, &[a, b], move |dy, needs| {
        let da = if needs[0] { Some(sum_to(&grad_a(name, dy, &x, &y, f)?, a_shape)?) } else { None };
        let db = if needs[1] { Some(sum_to(&grad_b(name, dy, &x, &y, f)?, b_shape)?) } else { None };
        Ok(vec![da, db])
    }))
}

/// A view of the shape that two operands broadcast to.
pub(crate) fn broadcast(name: &'static str, x: &Tensor, shape: &Dims) -> Result<Tensor> {
    Ok(x.with_layout(x.layout().broadcast_to(name, shape)?))
}

/// Adds up a gradient over what broadcasting repeated.
pub(crate) fn sum_to(dy: &Tensor, shape: Dims) -> Result<Tensor> {
    if dy.dims() == shape { Ok(dy.clone()) } else { dy.sum_to(&shape) }
}

/// Gradient of the first operand, still of the broadcast shape.
fn grad_a(name: &'static str, dy: &Tensor, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    let slope = match f {
        Binary::Add | Binary::Sub => return Ok(dy.clone()),
        Binary::Mul => return binary(name, dy, b, Binary::Mul),
        Binary::Div => return binary(name, dy, b, Binary::Div),
        Binary::Pow => binary(name, a, b, Binary::PowBaseSlope)?,
        Binary::Maximum => binary(name, a, b, Binary::MaximumShare)?,
        Binary::Minimum => binary(name, b, a, Binary::MaximumShare)?,
        _ => return Err(Error::NoBackward { op: name }),
    };
    binary(name, dy, &slope, Binary::Mul)
}

/// Gradient of the second operand, still of the broadcast shape.
fn grad_b(name: &'static str, dy: &Tensor, a: &Tensor, b: &Tensor, f: Binary) -> Result<Tensor> {
    let slope = match f {
        Binary::Add => return Ok(dy.clone()),
        Binary::Sub => return dy.neg(),
        Binary::Mul => return binary(name, dy, a, Binary::Mul),
        Binary::Div => binary(name, a, b, Binary::DivSlope)?,
        Binary::Pow => binary(name, a, b, Binary::PowExponentSlope)?,
        Binary::Maximum => binary(name, b, a, Binary::MaximumShare)?,
        Binary::Minimum => binary(name, a, b, Binary::MaximumShare)?,
        _ => return Err(Error::NoBackward { op: name }),
    };
    binary(name, dy, &slope, Binary::Mul)
}

/// `!x` of a bool tensor.
pub(crate) fn logical_not(x: &Tensor) -> Result<Tensor> {
    let name = "logical_not";
    x.expect_dtype(name, DType::Bool, "bool")?;
    binary(name, x, &Tensor::scalar(1.0, DType::Bool, x.device())?, Binary::Xor)
}
