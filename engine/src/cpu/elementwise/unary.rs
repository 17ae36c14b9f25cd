//! Functions of one element. Each value stands above its slope; all are inlined into vectorised loops.

use crate::cpu::Float;
use crate::cpu::parallel::for_chunks;
use crate::cpu::strided::{map_each, zip_each};
use crate::ops::elementwise::{Op, Unary};
use crate::{DType, Result, Tensor};

/// `f(x)` of a contiguous tensor.
pub(crate) fn unary(op: &'static str, x: &Tensor, f: Unary) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, f: Unary) -> Result<Tensor> {
        let values = x.cpu_slice::<T>(op)?;
        let mut out = vec![T::default(); values.len()];
        for_chunks(&mut out, |start, out| value_of(f, &values[start..start + out.len()], out));
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, f),
        DType::F32 => run::<f32>(op, x, f),
        half => run::<f32>(op, &super::cast(op, x, DType::F32)?, f).and_then(|y| super::cast(op, &y, half)),
    }
}

/// `dy f'(x)` of contiguous tensors.
pub(crate) fn unary_grad(op: &'static str, x: &Tensor, dy: &Tensor, f: Unary) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, dy: &Tensor, f: Unary) -> Result<Tensor> {
        let (values, grads) = (x.cpu_slice::<T>(op)?, dy.cpu_slice::<T>(op)?);
        let mut out = vec![T::default(); values.len()];
        for_chunks(&mut out, |start, out| {
            let end = start + out.len();
            grad_of(f, &values[start..end], &grads[start..end], out);
        });
        Tensor::from_cpu(op, out, x.dims(), x.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, dy, f),
        DType::F32 => run::<f32>(op, x, dy, f),
        half => {
            let (x, dy) = (super::cast(op, x, DType::F32)?, super::cast(op, dy, DType::F32)?);
            run::<f32>(op, &x, &dy, f).and_then(|dx| super::cast(op, &dx, half))
        }
    }
}

/// `y = f(x)`, element by element.
pub(crate) fn value_of<T: Float>(f: Unary, x: &[T], y: &mut [T]) {
    let (a, b) = (T::of(f.a), T::of(f.b));
    match f.op {
        Op::Affine => map_each(x, y, |x| a * x + b),
        Op::Neg => map_each(x, y, |x: T| -x),
        Op::Abs => map_each(x, y, |x: T| x.abs()),
        Op::Sign => map_each(x, y, sign),
        Op::Exp => map_each(x, y, T::fast_exp),
        Op::Expm1 => map_each(x, y, T::fast_expm1),
        Op::Log => map_each(x, y, T::fast_ln),
        Op::Log1p => map_each(x, y, T::fast_ln_1p),
        Op::Sqrt => map_each(x, y, |x: T| x.sqrt()),
        Op::Rsqrt => map_each(x, y, |x: T| T::one() / x.sqrt()),
        Op::Reciprocal => map_each(x, y, |x| T::one() / x),
        Op::Square => map_each(x, y, |x| x * x),
        Op::Sin => map_each(x, y, |x: T| x.sin()),
        Op::Cos => map_each(x, y, |x: T| x.cos()),
        Op::Tanh => map_each(x, y, T::fast_tanh),
        Op::Sigmoid => map_each(x, y, sigmoid),
        Op::Gelu => map_each(x, y, gelu),
        Op::GeluTanh => map_each(x, y, gelu_tanh),
        Op::QuickGelu => map_each(x, y, quick_gelu),
        Op::Silu => map_each(x, y, silu),
        Op::Relu => map_each(x, y, relu),
        Op::ReluSquared => map_each(x, y, |x| relu(x) * relu(x)),
        Op::LeakyRelu => map_each(x, y, |x| if x > T::zero() { x } else { a * x }),
        Op::Elu => map_each(x, y, |x| elu(x, a)),
        Op::Softplus => map_each(x, y, softplus),
        Op::LogSigmoid => map_each(x, y, log_sigmoid),
        Op::Erf => map_each(x, y, T::fast_erf),
        Op::Floor => map_each(x, y, |x: T| x.floor()),
        Op::Ceil => map_each(x, y, |x: T| x.ceil()),
        Op::Round => map_each(x, y, round),
        Op::HardSwish => map_each(x, y, |x| x * clamp(x + T::of(3.0), T::zero(), T::of(6.0)) / T::of(6.0)),
        Op::Mish => map_each(x, y, mish),
        Op::Clamp => map_each(x, y, |x| clamp(x, a, b)),
        Op::Pow => map_each(x, y, |x: T| x.powf(a)),
    }
}

fn grad_of<T: Float>(f: Unary, x: &[T], dy: &[T], dx: &mut [T]) {
    let (a, b) = (T::of(f.a), T::of(f.b));
    let (zero, one, two) = (T::zero(), T::one(), T::of(2.0));
    match f.op {
        Op::Affine => zip_each(x, dy, dx, |_, dy| a * dy),
        Op::Neg => zip_each(x, dy, dx, |_, dy: T| -dy),
        Op::Abs => zip_each(x, dy, dx, |x, dy| dy * sign(x)),
        Op::Sign | Op::Floor | Op::Ceil | Op::Round => dx.fill(zero),
        Op::Exp => zip_each(x, dy, dx, exp_grad),
        Op::Expm1 => zip_each(x, dy, dx, exp_grad),
        Op::Log => zip_each(x, dy, dx, |x, dy| dy / x),
        Op::Log1p => zip_each(x, dy, dx, |x, dy| dy / (one + x)),
        Op::Sqrt => zip_each(x, dy, dx, |x: T, dy| dy / (two * x.sqrt())),
        Op::Rsqrt => zip_each(x, dy, dx, |x: T, dy| dy * T::of(-0.5) / (x * x.sqrt())),
        Op::Reciprocal => zip_each(x, dy, dx, |x, dy: T| -dy / x / x),
        Op::Square => zip_each(x, dy, dx, |x, dy| two * x * dy),
        Op::Sin => zip_each(x, dy, dx, |x: T, dy| dy * x.cos()),
        Op::Cos => zip_each(x, dy, dx, |x: T, dy| -dy * x.sin()),
        Op::Tanh => zip_each(x, dy, dx, tanh_grad),
        Op::Sigmoid => zip_each(x, dy, dx, sigmoid_grad),
        Op::Gelu => zip_each(x, dy, dx, gelu_grad),
        Op::GeluTanh => zip_each(x, dy, dx, gelu_tanh_grad),
        Op::QuickGelu => zip_each(x, dy, dx, quick_gelu_grad),
        Op::Silu => zip_each(x, dy, dx, silu_grad),
        Op::Relu => zip_each(x, dy, dx, |x, dy| if x > zero { dy } else { zero }),
        Op::ReluSquared => zip_each(x, dy, dx, |x, dy| two * relu(x) * dy),
        Op::LeakyRelu => zip_each(x, dy, dx, |x, dy| if x > zero { dy } else { a * dy }),
        Op::Elu => zip_each(x, dy, dx, |x, dy| elu_grad(x, dy, a)),
        Op::Softplus => zip_each(x, dy, dx, |x, dy| dy * sigmoid(x)),
        Op::LogSigmoid => zip_each(x, dy, dx, |x: T, dy| dy * sigmoid(-x)),
        Op::Erf => zip_each(x, dy, dx, erf_grad),
        Op::HardSwish => zip_each(x, dy, dx, hard_swish_grad),
        Op::Mish => zip_each(x, dy, dx, mish_grad),
        Op::Clamp => zip_each(x, dy, dx, |x, dy| if x > a && x < b { dy } else { zero }),
        Op::Pow => zip_each(x, dy, dx, |x: T, dy| dy * a * x.powf(a - one)),
    }
}

#[inline(always)]
fn sign<T: Float>(x: T) -> T {
    if x > T::zero() {
        T::one()
    } else if x < T::zero() {
        -T::one()
    } else {
        x
    }
}

#[inline(always)]
fn exp_grad<T: Float>(x: T, dy: T) -> T {
    dy * x.fast_exp()
}

/// e^-|x|: never overflows.
#[inline(always)]
fn decay<T: Float>(x: T) -> T {
    (-x.abs()).fast_exp()
}

#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    let e = decay(x);
    (if x >= T::zero() { T::one() } else { e }) / (T::one() + e)
}

/// Derivative of the sigmoid, without cancellation for large x.
#[inline(always)]
fn sigmoid_slope<T: Float>(x: T) -> T {
    let e = decay(x);
    e / ((T::one() + e) * (T::one() + e))
}

#[inline(always)]
fn sigmoid_grad<T: Float>(x: T, dy: T) -> T {
    dy * sigmoid_slope(x)
}

#[inline(always)]
fn tanh_grad<T: Float>(x: T, dy: T) -> T {
    dy * T::of(4.0) * sigmoid_slope(T::of(2.0) * x)
}

#[inline(always)]
fn gelu<T: Float>(x: T) -> T {
    x * x.normal_cdf().0
}

#[inline(always)]
fn gelu_grad<T: Float>(x: T, dy: T) -> T {
    let (cdf, gauss) = x.normal_cdf();
    dy * (cdf + x * gauss * T::of(0.398_942_280_401_432_7))
}

/// The argument u of `gelu_tanh = x sigmoid(u)`, and du/dx. Beyond 30 the sigmoid is 0 or 1.
#[inline(always)]
fn gelu_tanh_argument<T: Float>(x: T) -> (T, T) {
    let x = clamp(x, T::of(-30.0), T::of(30.0));
    let k = T::of(1.595_769_121_605_730_7); // 2 sqrt(2 / pi)
    let square = T::of(0.044715) * x * x;
    (k * (x + x * square), k * (T::one() + T::of(3.0) * square))
}

#[inline(always)]
fn gelu_tanh<T: Float>(x: T) -> T {
    x * sigmoid(gelu_tanh_argument(x).0)
}

#[inline(always)]
fn gelu_tanh_grad<T: Float>(x: T, dy: T) -> T {
    let (u, slope) = gelu_tanh_argument(x);
    dy * (sigmoid(u) + x * sigmoid_slope(u) * slope)
}

#[inline(always)]
fn quick_gelu<T: Float>(x: T) -> T {
    x * sigmoid(T::of(1.702) * x)
}

#[inline(always)]
fn quick_gelu_grad<T: Float>(x: T, dy: T) -> T {
    let u = T::of(1.702) * x;
    dy * (sigmoid(u) + u * sigmoid_slope(u))
}

#[inline(always)]
fn silu<T: Float>(x: T) -> T {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_grad<T: Float>(x: T, dy: T) -> T {
    dy * (sigmoid(x) + x * sigmoid_slope(x))
}

#[inline(always)]
fn relu<T: Float>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

#[inline(always)]
fn elu<T: Float>(x: T, alpha: T) -> T {
    let low = alpha * x.fast_expm1();
    if x > T::zero() { x } else { low }
}

#[inline(always)]
fn elu_grad<T: Float>(x: T, dy: T, alpha: T) -> T {
    let low = alpha * decay(x);
    dy * if x > T::zero() { T::one() } else { low }
}

#[inline(always)]
fn softplus<T: Float>(x: T) -> T {
    relu(x) + decay(x).fast_ln_1p()
}

#[inline(always)]
fn log_sigmoid<T: Float>(x: T) -> T {
    -softplus(-x)
}

#[inline(always)]
fn erf_grad<T: Float>(x: T, dy: T) -> T {
    // The Gaussian of x sqrt(2): e^(-x²), in two factors that are accurate for large x.
    let (_, gauss) = x.normal_cdf();
    dy * gauss * gauss * T::of(std::f64::consts::FRAC_2_SQRT_PI)
}

/// To the nearest integer, halves to the even one.
#[inline(always)]
fn round<T: Float>(x: T) -> T {
    let r = x.round();
    let tie = (x - x.trunc()).abs() == T::of(0.5);
    if tie { T::of(2.0) * (x / T::of(2.0)).round() } else { r }
}

#[inline(always)]
fn hard_swish_grad<T: Float>(x: T, dy: T) -> T {
    let three = T::of(3.0);
    let middle = x / three + T::of(0.5);
    dy * if x <= -three {
        T::zero()
    } else if x >= three {
        T::one()
    } else {
        middle
    }
}

/// e^x and w = e^x (e^x + 2): tanh(softplus(x)) = w / (w + 2). Beyond 20 that is 1.
#[inline(always)]
fn mish_parts<T: Float>(x: T) -> (T, T) {
    let e = (if x > T::of(20.0) { T::of(20.0) } else { x }).fast_exp();
    (e, e * (e + T::of(2.0)))
}

#[inline(always)]
fn mish<T: Float>(x: T) -> T {
    let (_, w) = mish_parts(x);
    x * (w / (w + T::of(2.0)))
}

#[inline(always)]
fn mish_grad<T: Float>(x: T, dy: T) -> T {
    let (e, w) = mish_parts(x);
    let below = w + T::of(2.0);
    let bent = if x > T::of(20.0) { T::of(20.0) } else { x };
    dy * (w / below + bent * (T::of(4.0) * e * (e + T::one()) / (below * below)))
}

#[inline(always)]
fn clamp<T: Float>(x: T, low: T, high: T) -> T {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
