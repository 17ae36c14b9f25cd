//! Fourier transforms.

use std::f64::consts::TAU;

use proptest::prelude::*;
use wgrad::{DType, Device, FftNorm, Result, Tensor};
use wgrad_tests::{Input, assert_close, each_device, expect_error, gradcheck, same_on_devices_within, strategy};

/// The definition.
fn naive(re: &[f64], im: &[f64], n: usize, sign: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut y_re, mut y_im) = (Vec::new(), Vec::new());
    for (re, im) in re.chunks(n).zip(im.chunks(n)) {
        for k in 0..n {
            let (mut a, mut b) = (0.0, 0.0);
            for j in 0..n {
                let (s, c) = (sign * TAU * (j * k % n) as f64 / n as f64).sin_cos();
                a += re[j] * c - im[j] * s;
                b += re[j] * s + im[j] * c;
            }
            y_re.push(a);
            y_im.push(b);
        }
    }
    (y_re, y_im)
}

fn check(n: usize, rows: usize) {
    let parts = [Input::normal(&[rows, n], n as u64), Input::normal(&[rows, n], n as u64 + 1)];
    let (re, im) = naive(&parts[0].values, &parts[1].values, n, -1.0);
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
        let run = |device: &Device| {
            let x: Vec<Tensor> = parts.iter().map(|p| p.stored(device, dtype).unwrap()).collect();
            let (a, b) = x[0].fft(&x[1], FftNorm::Backward).unwrap();
            let far = tolerance * (n as f64).sqrt() * 4.0;
            assert_close(&format!("fft of {n}, real"), &a.to_f64_vec().unwrap(), &re, far, tolerance);
            assert_close(&format!("fft of {n}, imaginary"), &b.to_f64_vec().unwrap(), &im, far, tolerance);
            let (a, b) = a.ifft(&b, FftNorm::Backward).unwrap();
            assert_close(
                &format!("ifft of {n}"),
                &a.to_f64_vec().unwrap(),
                &parts[0].values,
                10.0 * tolerance,
                tolerance,
            );
            assert_close(
                &format!("ifft of {n}"),
                &b.to_f64_vec().unwrap(),
                &parts[1].values,
                10.0 * tolerance,
                tolerance,
            );
        };
        if dtype == DType::F64 { run(&Device::cpu()) } else { each_device(run) }
    }
}

/// One matrix, products of small numbers, several levels, a prime by one matrix, and large primes by a convolution.
#[test]
fn values_of_all_kinds_of_lengths() {
    for n in [1, 2, 3, 31, 64, 65, 96, 127, 128, 257, 263, 400, 526, 1024] {
        check(n, 2);
    }
}

/// Real and imaginary part as one tensor.
fn both((re, im): (Tensor, Tensor)) -> Result<Tensor> {
    Tensor::stack(&[&re, &im], 0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn gradients(rows in 1..4usize, n in prop_oneof![1..20usize, Just(66usize), Just(131)], seed in any::<u64>()) {
        let view = |shape: &[usize], seed| strategy::view_of(shape, &|shape, seed| Input::normal(shape, seed), seed);
        let parts = [view(&[rows, n], seed), view(&[rows, n], seed ^ 1)];
        let norm = [FftNorm::Backward, FftNorm::Ortho, FftNorm::Forward][(seed % 3) as usize];
        let check = |f: fn(&[Tensor], FftNorm, usize) -> Result<Tensor>, name: &str| gradcheck(name, &parts, |x| f(x, norm, n));
        check(|x, norm, _| both(x[0].fft(&x[1], norm)?), "fft");
        check(|x, norm, _| both(x[0].ifft(&x[1], norm)?), "ifft");
        // A little of the other input in each element: much of it would drown the differences in its rounding.
        check(|x, norm, n| both(x[0].rfft(n + 1, norm)?)?.add(&x[1].mean_all()?), "rfft, filled");
        check(|x, norm, n| both(x[0].rfft(n.div_ceil(2), norm)?)?.add(&x[1].mean_all()?), "rfft, cut");
        check(|x, norm, n| x[0].irfft(&x[1], 2 * n, norm), "irfft");
        check(|x, norm, n| x[0].irfft(&x[1], n, norm), "irfft, cut");
    }

    #[test]
    fn real_ones_come_back(n in 1..140usize, seed in any::<u64>()) {
        let x = Input::normal(&[2, n], seed);
        each_device(|device| {
            let stored = x.stored(device, DType::F32).unwrap();
            let (re, im) = stored.rfft(n, FftNorm::Ortho).unwrap();
            let y = re.irfft(&im, n, FftNorm::Ortho).unwrap();
            assert_close("irfft of rfft", &y.to_f64_vec().unwrap(), &x.values, 2e-5, 1e-5);
        });
    }
}

/// A length of one matrix, and one that is split.
#[test]
fn devices_agree() {
    for n in [6, 66] {
        let parts = [Input::normal(&[2, n], 1), Input::normal(&[2, n], 2)];
        // Sums of all elements, in another order.
        same_on_devices_within(4.0, "fft", &parts, |x| both(x[0].fft(&x[1], FftNorm::Ortho)?));
    }
}

/// Parts alone: where one output is not used, its gradient is nothing.
#[test]
fn one_part_and_none() {
    let x = [Input::normal(&[3, 10], 1)];
    gradcheck("real part", &x, |x| Ok(x[0].rfft(10, FftNorm::Backward)?.0));
    gradcheck("imaginary part", &x, |x| Ok(x[0].rfft(10, FftNorm::Backward)?.1));
    each_device(|device| {
        let none = Tensor::zeros(&[0, 6], DType::F32, device).unwrap();
        assert_eq!(none.rfft(6, FftNorm::Backward).unwrap().1.shape(), [0, 4]);
        assert_eq!(none.fft(&none, FftNorm::Backward).unwrap().0.shape(), [0, 6]);
        let empty = Tensor::zeros(&[2, 0], DType::F32, device).unwrap();
        assert_eq!(empty.rfft(3, FftNorm::Backward).unwrap().0.to_vec::<f32>().unwrap(), [0.0; 4]);
    });
}

#[test]
fn bad_input() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::cpu()).unwrap();
    let x = zeros(&[2, 4], DType::F32);
    expect_error(x.fft(&zeros(&[2, 3], DType::F32), FftNorm::Backward), &["fft", "[2, 3]", "[2, 4]"]);
    expect_error(x.fft(&zeros(&[2, 4], DType::F16), FftNorm::Backward), &["fft", "f16"]);
    expect_error(x.rfft(0, FftNorm::Backward), &["rfft", "length 0"]);
    expect_error(x.irfft(&x, usize::MAX, FftNorm::Backward), &["irfft", "length"]);
    expect_error(zeros(&[], DType::F32).rfft(2, FftNorm::Backward), &["rfft", "scalar"]);
    expect_error(zeros(&[2], DType::I32).rfft(2, FftNorm::Backward), &["rfft", "i32"]);
}
