//! `&a + &b`, `&a * 2.0`, `1.0 - &a`, `-&a`: the methods of the same meaning, with their errors.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{Result, Tensor};

macro_rules! operator {
    ($trait:ident, $method:ident, |$x:ident, $value:ident| $right:expr, $left:expr) => {
        impl $trait<&Tensor> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: &Tensor) -> Result<Tensor> {
                Tensor::$method(self, other)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, $value: f64) -> Result<Tensor> {
                let $x = self;
                $right
            }
        }
        impl $trait<&Tensor> for f64 {
            type Output = Result<Tensor>;
            fn $method(self, $x: &Tensor) -> Result<Tensor> {
                let $value = self;
                $left
            }
        }
    };
}

operator!(Add, add, |x, value| x.add_scalar(value), x.add_scalar(value));
operator!(Sub, sub, |x, value| x.add_scalar(-value), x.affine(-1.0, value));
operator!(Mul, mul, |x, value| x.mul_scalar(value), x.mul_scalar(value));
operator!(Div, div, |x, value| Tensor::div(x, &Tensor::scalar(value, x.dtype(), x.device())?), {
    Tensor::div(&Tensor::scalar(value, x.dtype(), x.device())?, x)
});

impl Neg for &Tensor {
    type Output = Result<Tensor>;
    fn neg(self) -> Result<Tensor> {
        Tensor::neg(self)
    }
}
