//! Functions of one tensor.

use proptest::prelude::*;
use wgrad::{DType, Device, Result, Tensor};
use wgrad_tests::{Input, assert_close, each_device, expect_error, gradcheck, same_on_devices_within, strategy};

type Function = fn(&Tensor) -> Result<Tensor>;

/// A function, its value in f64, and where it is tested.
struct Case {
    name: &'static str,
    function: Function,
    value: fn(f64) -> f64,
    low: f64,
    high: f64,
    /// Where it is not differentiable.
    kinks: &'static [f64],
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn erf(x: f64) -> f64 {
    // Series near zero, continued fraction of erfc elsewhere: independent of what the engine uses.
    let z = x.abs();
    let magnitude = if z < 2.5 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        1.0 - erfc_tail(z)
    };
    magnitude.copysign(x)
}

fn erfc_tail(z: f64) -> f64 {
    let fraction = (1..=120).rev().fold(0.0, |below, k| f64::from(k) / 2.0 / (z + below));
    (-z * z).exp() / std::f64::consts::PI.sqrt() / (z + fraction)
}

fn normal_cdf(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    if z < -2.5 { 0.5 * erfc_tail(-z) } else { 0.5 * (1.0 + erf(z)) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn case(name: &'static str, function: Function, value: fn(f64) -> f64, low: f64, high: f64) -> Case {
    Case { name, function, value, low, high, kinks: &[] }
}

fn cases() -> Vec<Case> {
    let kinked = |case: Case, kinks| Case { kinks, ..case };
    vec![
        case("neg", Tensor::neg, |x| -x, -9.0, 9.0),
        kinked(case("abs", Tensor::abs, f64::abs, -9.0, 9.0), &[0.0]),
        kinked(case("sign", Tensor::sign, f64::signum, -9.0, 9.0), &[0.0]),
        case("exp", Tensor::exp, f64::exp, -80.0, 80.0),
        case("expm1", Tensor::expm1, f64::exp_m1, -20.0, 80.0),
        case("expm1", Tensor::expm1, f64::exp_m1, -1e-3, 1e-3),
        case("log", Tensor::log, f64::ln, 1e-4, 9.0),
        case("log", Tensor::log, f64::ln, 1.0, 1e30),
        case("log1p", Tensor::log1p, f64::ln_1p, -0.99, 9.0),
        case("log1p", Tensor::log1p, f64::ln_1p, -1e-4, 1e-4),
        case("sqrt", Tensor::sqrt, f64::sqrt, 1e-3, 1e6),
        case("rsqrt", Tensor::rsqrt, |x| 1.0 / x.sqrt(), 1e-3, 1e6),
        case("reciprocal", Tensor::reciprocal, f64::recip, 0.01, 1e3),
        case("square", Tensor::square, |x| x * x, -9.0, 9.0),
        case("sin", Tensor::sin, f64::sin, -3.0, 3.0),
        case("cos", Tensor::cos, f64::cos, -1.5, 1.5),
        case("tanh", Tensor::tanh, f64::tanh, -9.0, 9.0),
        case("sigmoid", Tensor::sigmoid, sigmoid, -60.0, 60.0),
        case("gelu", Tensor::gelu, |x| x * normal_cdf(x), -9.0, 9.0),
        case(
            "gelu_tanh",
            Tensor::gelu_tanh,
            |x| x * sigmoid((8.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)),
            -4.0,
            9.0,
        ),
        case("quick_gelu", Tensor::quick_gelu, |x| x * sigmoid(1.702 * x), -9.0, 9.0),
        case("silu", Tensor::silu, |x| x * sigmoid(x), -20.0, 20.0),
        kinked(case("relu", Tensor::relu, |x| x.max(0.0), -9.0, 9.0), &[0.0]),
        case("relu_squared", Tensor::relu_squared, |x| x.max(0.0).powi(2), -9.0, 9.0),
        kinked(case("leaky_relu", |x| x.leaky_relu(0.1), |x| if x > 0.0 { x } else { 0.1 * x }, -9.0, 9.0), &[0.0]),
        kinked(case("elu", |x| x.elu(0.7), |x| if x > 0.0 { x } else { 0.7 * x.exp_m1() }, -9.0, 9.0), &[0.0]),
        case("softplus", Tensor::softplus, softplus, -60.0, 60.0),
        case("log_sigmoid", Tensor::log_sigmoid, |x| -softplus(-x), -60.0, 60.0),
        case("erf", Tensor::erf, erf, -5.0, 5.0),
        kinked(
            case("hard_swish", Tensor::hard_swish, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0, -9.0, 9.0),
            &[-3.0, 3.0],
        ),
        case("mish", Tensor::mish, |x| x * softplus(x).tanh(), -20.0, 20.0),
        kinked(case("clamp", |x| x.clamp(Some(-1.5), Some(2.5)), |x| x.clamp(-1.5, 2.5), -9.0, 9.0), &[-1.5, 2.5]),
        case("pow_scalar 1.7", |x| x.pow_scalar(1.7), |x| x.powf(1.7), 0.01, 9.0),
        case("pow_scalar 3", |x| x.pow_scalar(3.0), |x| x.powi(3), -9.0, 9.0),
        case("pow_scalar -2", |x| x.pow_scalar(-2.0), |x| x.powi(-2), 0.1, 9.0),
        case("pow_scalar 0", |x| x.pow_scalar(0.0), |_| 1.0, -9.0, 9.0),
        case("affine", |x| x.affine(-1.5, 0.25), |x| -1.5 * x + 0.25, -9.0, 9.0),
    ]
}

/// Points over the range of a case, as exact f32 values.
fn points(case: &Case, count: usize) -> Vec<f32> {
    (0..count).map(|i| (case.low + (case.high - case.low) * (i as f64 + 0.37) / count as f64) as f32).collect()
}

#[test]
fn values_in_f32() {
    each_device(|device| {
        for case in cases() {
            let x = points(&case, 1001);
            let got = (case.function)(&Tensor::from_slice(&x, &[1001], device).unwrap()).unwrap();
            let want: Vec<f64> = x.iter().map(|&x| (case.value)(f64::from(x))).collect();
            // pow and the tanh form of GELU multiply an exponent, and with it its rounding.
            let rtol = if case.name.starts_with("pow") || case.name == "gelu_tanh" { 6e-6 } else { 1.2e-6 };
            assert_close(&format!("{} on {device}", case.name), &got.to_f64_vec().unwrap(), &want, 3e-38, rtol);
        }
    });
}

#[test]
fn values_in_f64() {
    for case in cases() {
        let x: Vec<f64> = points(&case, 501).into_iter().map(f64::from).collect();
        let got = (case.function)(&Tensor::from_slice(&x, &[501], &Device::cpu()).unwrap()).unwrap();
        let want: Vec<f64> = x.iter().map(|&x| (case.value)(x)).collect();
        assert_close(case.name, &got.to_vec::<f64>().unwrap(), &want, 1e-14, 1e-12);
    }
}

#[test]
fn gradients() {
    for case in cases() {
        let (low, high) = (case.low.max(-6.0), case.high.min(6.0));
        let mut input = Input::uniform(low, high, &[5, 7], 3);
        for x in &mut input.values {
            if case.kinks.iter().any(|kink| (*x - kink).abs() < 0.01) {
                *x += 0.05;
            }
        }
        gradcheck(case.name, &[input], |x| (case.function)(&x[0]));
    }
}

#[test]
fn devices_agree() {
    for case in cases() {
        let input = Input::uniform(case.low.max(-9.0), case.high.min(9.0), &[3, 67], 5);
        same_on_devices_within(1.5, case.name, &[input], |x| (case.function)(&x[0]));
    }
}

#[test]
fn finite_at_extremes() {
    let bounded = [
        "neg",
        "abs",
        "sign",
        "tanh",
        "sigmoid",
        "gelu",
        "gelu_tanh",
        "quick_gelu",
        "silu",
        "relu",
        "leaky_relu",
        "elu",
        "softplus",
        "log_sigmoid",
        "erf",
        "mish",
        "clamp",
        "affine",
        "sin",
        "cos",
    ];
    let x = [1e30f32, -1e30, 88.0, -88.0, 89.0, -89.0, 2e-38, -2e-38, 0.0, -0.0, 20.0, -20.0, 1e4, -1e4];
    each_device(|device| {
        for case in cases().into_iter().filter(|case| bounded.contains(&case.name)) {
            let leaf = Tensor::from_slice(&x, &[x.len()], device).unwrap().requires_grad();
            let y = (case.function)(&leaf).unwrap();
            let values = y.to_f64_vec().unwrap();
            let seed = y.ones_like().unwrap();
            let grads = wgrad::autograd::backward(&[(&y, seed)], &[], false).unwrap();
            let slopes = grads.get(&leaf).unwrap().to_f64_vec().unwrap();
            for (i, x) in x.iter().enumerate() {
                assert!(values[i].is_finite(), "{} of {x:e} is {} on {device}", case.name, values[i]);
                assert!(slopes[i].is_finite(), "slope of {} at {x:e} is {} on {device}", case.name, slopes[i]);
                // Sine and cosine of angles beyond 50,000 are the driver's affair.
                if !["sin", "cos"].contains(&case.name) {
                    let want = (case.value)(f64::from(*x));
                    let near = (values[i] - want).abs() <= 2e-6 * want.abs() + 1e-35; // A driver may flush what is denormal on the way.
                    assert!(near || *x == 0.0, "{} of {x:e} is {}, expected {want} on {device}", case.name, values[i]);
                }
            }
        }
        let huge = Tensor::from_slice(&[89f32, -110.0, 0.0], &[3], device).unwrap();
        assert_eq!(huge.exp().unwrap().to_vec::<f32>().unwrap(), [f32::INFINITY, 0.0, 1.0]);
        let log = Tensor::from_slice(&[0f32, -1.0, 1.0], &[3], device).unwrap().log().unwrap().to_vec::<f32>().unwrap();
        assert!(log[0] == f32::NEG_INFINITY && log[1].is_nan() && log[2] == 0.0, "{log:?} on {device}");
    });
}

#[test]
fn conventions_at_kinks() {
    each_device(|device| {
        let slope = |x: &[f32], f: Function| {
            let leaf = Tensor::from_slice(x, &[x.len()], device).unwrap().requires_grad();
            let y = f(&leaf).unwrap();
            let seed = y.ones_like().unwrap();
            let grads = wgrad::autograd::backward(&[(&y, seed)], &[], false).unwrap();
            grads.get(&leaf).unwrap().to_vec::<f32>().unwrap()
        };
        assert_eq!(slope(&[0.0], Tensor::abs), [0.0]);
        assert_eq!(slope(&[0.0], Tensor::relu), [0.0]);
        assert_eq!(slope(&[-1.0, 1.0, 1.5], |x| x.clamp(Some(-1.0), Some(1.0))), [0.0, 0.0, 0.0]);
        assert_eq!(slope(&[0.3, 2.5], Tensor::round), [0.0, 0.0]);
        let x = Tensor::from_slice(&[0.5f32, 1.5, 2.5, -0.5, -2.5, 7.2], &[6], device).unwrap();
        assert_eq!(x.round().unwrap().to_vec::<f32>().unwrap(), [0.0, 2.0, 2.0, 0.0, -2.0, 7.0]);
        assert_eq!(x.floor().unwrap().to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, -1.0, -3.0, 7.0]);
        assert_eq!(x.ceil().unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 0.0, -2.0, 8.0]);
    });
}

#[test]
fn integers() {
    each_device(|device| {
        let x = Tensor::from_slice(&[-3i32, 0, 5, i32::MAX], &[4], device).unwrap();
        let values = |t: Result<Tensor>| t.unwrap().to_vec::<i32>().unwrap();
        assert_eq!(values(x.affine(2.0, 1.0)), [-5, 1, 11, -1]);
        assert_eq!(values(x.neg()), [3, 0, -5, -i32::MAX]);
        assert_eq!(values(x.abs()), [3, 0, 5, i32::MAX]);
        assert_eq!(values(x.clamp(Some(-1.0), Some(4.0))), [-1, 0, 4, 4]);
        expect_error(x.add_scalar(0.5), &["add_scalar", "0.5", "i32"]);
    });
}

#[test]
fn bad_input() {
    let ints = Tensor::arange(0, 4, DType::U32, &Device::cpu()).unwrap();
    expect_error(ints.gelu(), &["gelu", "u32", "float"]);
    expect_error(ints.neg(), &["neg", "u32"]);
    expect_error(ints.add_scalar(-1.0), &["add_scalar", "-1", "u32"]);
    let x = Tensor::zeros(&[3], DType::F32, &Device::cpu()).unwrap();
    expect_error(x.clamp(Some(2.0), Some(1.0)), &["clamp", "2", "1"]);
    expect_error(x.clamp(Some(f64::NAN), None), &["clamp", "NaN"]);
    expect_error(x.pow_scalar(f64::INFINITY), &["pow_scalar", "inf"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_view(input in strategy::shape(0..=4).prop_flat_map(|s| strategy::viewed(s, |s, seed| Input::uniform(-4.0, 4.0, s, seed)))) {
        gradcheck("silu", std::slice::from_ref(&input), |x| x[0].silu());
        same_on_devices_within(1.5, "silu", &[input], |x| x[0].silu());
    }
}
