//! The CPU device: the same operations as the kernels, in plain Rust. Also the oracle of the tests, so it is clear
//! before it is fast.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod cross_entropy;
pub(crate) mod ctc;
pub(crate) mod elementwise;
pub(crate) mod index;
pub(crate) mod join;
pub(crate) mod kept_until;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod optim;
pub(crate) mod parallel;
pub(crate) mod patterns;
#[cfg(target_arch = "x86_64")]
mod pick;
pub(crate) mod pool;
pub(crate) mod prune;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod scan;
pub(crate) mod softmax;
pub(crate) mod sort;
pub(crate) mod sparse24;
pub(crate) mod sparse_rows;
pub(crate) mod strided;

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use crate::Element;

/// The two types that CPU kernels compute in; f16 and bf16 are widened to f32 before.
pub(crate) trait Float:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + std::iter::Sum
    + num_traits::Float
    + math::Math
{
    /// From f64, rounded.
    fn of(value: f64) -> Self;
    /// To f64.
    fn f64(self) -> f64;
}

impl Float for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
}

impl Float for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn f64(self) -> f64 {
        self
    }
}

/// Runs an expression with `T` as the host type of a dtype: functions that only move elements take any.
macro_rules! by_dtype {
    ($dtype:expr, $T:ident => $run:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $run
            }
            $crate::DType::F16 => {
                type $T = half::f16;
                $run
            }
            $crate::DType::BF16 => {
                type $T = half::bf16;
                $run
            }
            $crate::DType::F64 => {
                type $T = f64;
                $run
            }
            $crate::DType::I32 => {
                type $T = i32;
                $run
            }
            $crate::DType::U32 => {
                type $T = u32;
                $run
            }
            $crate::DType::Bool => {
                type $T = bool;
                $run
            }
        }
    };
}
pub(crate) use by_dtype;
