//! Functions of one tensor, element by element. f16 and bf16 are computed in f32 and rounded once.

use crate::ops::elementwise::{self, Op, Unary};
use crate::{Result, Tensor};

impl Tensor {
    /// `e^x`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn exp(&self) -> Result<Tensor> {
        elementwise::unary("exp", self, Unary::new(Op::Exp))
    }

    /// `e^x - 1`, accurate near zero.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn expm1(&self) -> Result<Tensor> {
        elementwise::unary("expm1", self, Unary::new(Op::Expm1))
    }

    /// The natural logarithm. Negative elements give NaN, zeros minus infinity.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn log(&self) -> Result<Tensor> {
        elementwise::unary("log", self, Unary::new(Op::Log))
    }

    /// `ln(1 + x)`, accurate near zero.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn log1p(&self) -> Result<Tensor> {
        elementwise::unary("log1p", self, Unary::new(Op::Log1p))
    }

    /// The square root.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn sqrt(&self) -> Result<Tensor> {
        elementwise::unary("sqrt", self, Unary::new(Op::Sqrt))
    }

    /// `1 / sqrt(x)`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn rsqrt(&self) -> Result<Tensor> {
        elementwise::unary("rsqrt", self, Unary::new(Op::Rsqrt))
    }

    /// `1 / x`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn reciprocal(&self) -> Result<Tensor> {
        elementwise::unary("reciprocal", self, Unary::new(Op::Reciprocal))
    }

    /// `x * x`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn square(&self) -> Result<Tensor> {
        elementwise::unary("square", self, Unary::new(Op::Square))
    }

    /// The sine of x in radians.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn sin(&self) -> Result<Tensor> {
        elementwise::unary("sin", self, Unary::new(Op::Sin))
    }

    /// The cosine of x in radians.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn cos(&self) -> Result<Tensor> {
        elementwise::unary("cos", self, Unary::new(Op::Cos))
    }

    /// The hyperbolic tangent.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn tanh(&self) -> Result<Tensor> {
        elementwise::unary("tanh", self, Unary::new(Op::Tanh))
    }

    /// `1 / (1 + e^-x)`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn sigmoid(&self) -> Result<Tensor> {
        elementwise::unary("sigmoid", self, Unary::new(Op::Sigmoid))
    }

    /// `x Phi(x)` with the normal distribution's cumulative function, exact (Hendrycks & Gimpel 2016).
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn gelu(&self) -> Result<Tensor> {
        elementwise::unary("gelu", self, Unary::new(Op::Gelu))
    }

    /// The tanh form of GELU: `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn gelu_tanh(&self) -> Result<Tensor> {
        elementwise::unary("gelu_tanh", self, Unary::new(Op::GeluTanh))
    }

    /// `x sigmoid(1.702 x)`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn quick_gelu(&self) -> Result<Tensor> {
        elementwise::unary("quick_gelu", self, Unary::new(Op::QuickGelu))
    }

    /// `x sigmoid(x)`, also known as swish.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn silu(&self) -> Result<Tensor> {
        elementwise::unary("silu", self, Unary::new(Op::Silu))
    }

    /// `max(x, 0)`; its derivative at 0 is 0.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn relu(&self) -> Result<Tensor> {
        elementwise::unary("relu", self, Unary::new(Op::Relu))
    }

    /// `max(x, 0)^2` (So et al. 2021).
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn relu_squared(&self) -> Result<Tensor> {
        elementwise::unary("relu_squared", self, Unary::new(Op::ReluSquared))
    }

    /// `ln(1 + e^x)`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn softplus(&self) -> Result<Tensor> {
        elementwise::unary("softplus", self, Unary::new(Op::Softplus))
    }

    /// `ln sigmoid(x)`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn log_sigmoid(&self) -> Result<Tensor> {
        elementwise::unary("log_sigmoid", self, Unary::new(Op::LogSigmoid))
    }

    /// The error function.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn erf(&self) -> Result<Tensor> {
        elementwise::unary("erf", self, Unary::new(Op::Erf))
    }

    /// -1, 0 or 1; its derivative is 0.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn sign(&self) -> Result<Tensor> {
        elementwise::unary("sign", self, Unary::new(Op::Sign))
    }

    /// Rounds towards minus infinity; its derivative is 0.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn floor(&self) -> Result<Tensor> {
        elementwise::unary("floor", self, Unary::new(Op::Floor))
    }

    /// Rounds towards infinity; its derivative is 0.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn ceil(&self) -> Result<Tensor> {
        elementwise::unary("ceil", self, Unary::new(Op::Ceil))
    }

    /// Rounds to the nearest integer, halves to the even one; its derivative is 0.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn round(&self) -> Result<Tensor> {
        elementwise::unary("round", self, Unary::new(Op::Round))
    }

    /// `x min(max(x + 3, 0), 6) / 6` (Howard et al. 2019).
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn hard_swish(&self) -> Result<Tensor> {
        elementwise::unary("hard_swish", self, Unary::new(Op::HardSwish))
    }

    /// `x tanh(softplus(x))` (Misra 2019).
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn mish(&self) -> Result<Tensor> {
        elementwise::unary("mish", self, Unary::new(Op::Mish))
    }

    /// x where it is positive, elsewhere `slope * x`.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn leaky_relu(&self, slope: f64) -> Result<Tensor> {
        elementwise::unary("leaky_relu", self, Unary::with(Op::LeakyRelu, slope, 0.0))
    }

    /// x where it is positive, elsewhere `alpha (e^x - 1)` (Clevert et al. 2015).
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn elu(&self, alpha: f64) -> Result<Tensor> {
        elementwise::unary("elu", self, Unary::with(Op::Elu, alpha, 0.0))
    }

    /// `-x`, for floats and i32.
    ///
    /// # Errors
    /// If the dtype is u32 or bool.
    pub fn neg(&self) -> Result<Tensor> {
        elementwise::neg(self)
    }

    /// `|x|`, for floats and i32; its derivative at 0 is 0.
    ///
    /// # Errors
    /// If the dtype is u32 or bool.
    pub fn abs(&self) -> Result<Tensor> {
        elementwise::abs(self)
    }

    /// `x + value`. Integer tensors take integer values and wrap around.
    ///
    /// # Errors
    /// If the dtype is bool, or does not hold the value exactly and is an integer.
    pub fn add_scalar(&self, value: f64) -> Result<Tensor> {
        elementwise::affine("add_scalar", self, 1.0, value)
    }

    /// `x * value`. Integer tensors take integer values and wrap around.
    ///
    /// # Errors
    /// As [`Tensor::add_scalar`].
    pub fn mul_scalar(&self, value: f64) -> Result<Tensor> {
        elementwise::affine("mul_scalar", self, value, 0.0)
    }

    /// `a * x + b`. Integer tensors take integer values and wrap around.
    ///
    /// # Errors
    /// As [`Tensor::add_scalar`].
    pub fn affine(&self, a: f64, b: f64) -> Result<Tensor> {
        elementwise::affine("affine", self, a, b)
    }

    /// `x^exponent`; negative x only with integer exponents.
    ///
    /// # Errors
    /// If the dtype is not a float, or the exponent not finite.
    pub fn pow_scalar(&self, exponent: f64) -> Result<Tensor> {
        elementwise::pow_scalar(self, exponent)
    }

    /// Bounds the elements; `None` leaves a side open. The derivative is 1 inside and 0 at the bounds and beyond. Integer tensors take
    /// integer bounds.
    ///
    /// # Errors
    /// If the dtype is bool, or the lower bound is above the upper.
    pub fn clamp(&self, low: Option<f64>, high: Option<f64>) -> Result<Tensor> {
        elementwise::clamp(self, low, high)
    }

    /// The values in another dtype. Floats become integers by truncation towards zero, and values beyond the range of the
    /// integer its ends; NaN becomes 0. Anything but zero becomes true. f16 and bf16 round to nearest, ties to even.
    /// Between float dtypes it is differentiable.
    ///
    /// # Errors
    /// If the device does not hold the dtype.
    pub fn cast(&self, dtype: crate::DType) -> Result<Tensor> {
        elementwise::cast("cast", self, dtype)
    }
}
