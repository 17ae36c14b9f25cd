//! Layer norm by sums of f16, with and without its pre-normaliser.

use half::f16;
use wgrad::nn::Build;
use wgrad::{DType, Device, NormKind, NormOptions, Result, Tensor};
use wgrad_models::norm::NarrowNorm;
use wgrad_tests::{Input, Random, assert_close, each_device, gradcheck, same_on_devices_within};

fn apply(x: &Tensor, prenormalised: bool, power: f64) -> Result<Tensor> {
    let (width, build) = (x.shape()[x.rank() - 1], Build::new(x.device()).with_dtype(x.dtype()));
    NarrowNorm::new(prenormalised, power, 0.0, width, &build)
        .and_then(|norm| norm.forward(x))
        .map_err(|e| wgrad::Error::argument("narrow_norm", e.to_string()))
}

#[test]
fn gradients() {
    for (rows, width) in [(3, 5), (1, 2), (4, 17)] {
        for (prenormalised, power) in [(false, 2.0), (true, 2.0), (true, 3.0), (false, 4.0)] {
            let name = format!("power {power}, prenormalised {prenormalised}");
            gradcheck(&name, &[Input::normal(&[rows, width], 2)], |x| apply(&x[0], prenormalised, power));
        }
    }
}

/// In f32 and f64 the pre-normaliser changes nothing: all are the engine's norms.
#[test]
fn the_engines_norms_in_wider_numbers() {
    for power in [2.0, 3.0] {
        let inputs = [Input::normal(&[4, 33], 3)];
        let x = inputs[0].stored(&Device::cpu(), DType::F64).unwrap();
        let want = x.row_norm(&NormOptions::new(NormKind::Lp(power), 0.0)).unwrap().to_f64_vec().unwrap();
        for prenormalised in [false, true] {
            let got = apply(&x, prenormalised, power).unwrap().to_f64_vec().unwrap();
            assert_close(&format!("power {power}"), &got, &want, 1e-12, 1e-12);
        }
        same_on_devices_within(16.0, "narrow_norm", &inputs, |x| apply(&x[0], true, power));
    }
}

/// Gaussian rows of f16 at scales from 1e-4 to 1e4: near the norm in f64 behind the pre-normaliser, far off without it at the ends.
#[test]
fn scales_of_f16() {
    let width = 1024;
    let mut random = Random::new(4);
    let normal: Vec<f64> = (0..width).map(|_| random.normal()).collect();
    for (scale, breaks) in [(1e-4, true), (1e-2, false), (1.0, false), (1e2, true), (1e4, true)] {
        let row: Vec<f16> = normal.iter().map(|v| f16::from_f64(v * scale)).collect();
        let wide: Vec<f64> = row.iter().map(|v| v.to_f64()).collect();
        let wide = Tensor::from_vec(wide, &[1, width], &Device::cpu()).unwrap();
        let want = wide.layer_norm(None, None, 0.0).unwrap().to_f64_vec().unwrap();
        let run = |device: &Device, prenormalised| {
            let x = Tensor::from_slice(&row, &[1, width], device).unwrap();
            apply(&x, prenormalised, 2.0).unwrap().to_f64_vec().unwrap()
        };
        each_device(|device| {
            // Devices may take numbers below the smallest normal one for zeros.
            if scale > 1e-3 || !device.is_gpu() {
                assert_close(&format!("scale {scale} on {device}"), &run(device, true), &want, 0.02, 0.0);
            }
        });
        if breaks {
            let off = run(&Device::cpu(), false).iter().zip(&want).any(|(a, b)| (a - b).abs() > 0.3 || a.is_nan());
            assert!(off, "without the pre-normaliser scale {scale} is right");
        }
    }
}

/// One large element among zeros: the largest deviation there is, whose square overflows in rows of more than 511 without more care.
#[test]
fn one_element_of_many() {
    for width in [2, 511, 4096] {
        let row: Vec<f16> = (0..width).map(|i| f16::from_f64(if i == 1 { 60_000.0 } else { 0.0 })).collect();
        for power in [2.0, 4.0] {
            let wide: Vec<f64> = row.iter().map(|v| v.to_f64()).collect();
            let wide = Tensor::from_vec(wide, &[1, width], &Device::cpu()).unwrap();
            let want = wide.row_norm(&NormOptions::new(NormKind::Lp(power), 0.0)).unwrap().to_f64_vec().unwrap();
            let x = Tensor::from_slice(&row, &[1, width], &Device::cpu()).unwrap();
            let got = apply(&x, true, power).unwrap().to_f64_vec().unwrap();
            assert_close(&format!("power {power} of {width}"), &got, &want, 0.03, 0.01);
        }
    }
}

#[test]
fn rows_that_do_not_vary_and_bad_input() {
    each_device(|device| {
        for dtype in [DType::F16, DType::F32] {
            for width in [1, 4, 1000] {
                let x = Tensor::full(3.0, &[2, width], dtype, device).unwrap();
                let y = apply(&x, true, 2.0).unwrap().to_f64_vec().unwrap();
                assert!(y.iter().all(|v| v.is_finite() && v.abs() < 0.1), "{dtype} of {width} on {device}: {y:?}");
            }
        }
        let empty = Tensor::zeros(&[0, 4], DType::F32, device).unwrap();
        assert_eq!(apply(&empty, true, 2.0).unwrap().shape(), [0, 4]);
    });
    let build = Build::new(&Device::cpu());
    let norm = NarrowNorm::new(true, 2.0, 0.0, 5, &build).unwrap();
    let x = Tensor::zeros(&[2, 4], DType::F32, &Device::cpu()).unwrap();
    let why = norm.forward(&x).err().unwrap().to_string();
    assert!(why.contains("[2, 4]") && why.contains("[.., 5]"), "{why}");
    for (power, eps) in [(0.5, 0.0), (f64::NAN, 0.0), (2.0, -1.0)] {
        assert!(NarrowNorm::new(true, power, eps, 5, &build).is_err(), "power {power}, eps {eps}");
    }
}
