//! Softmax and its logarithm.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor, reference};
use wgrad_tests::{
    Input, assert_close, each_device, expect_error, gradcheck, same_on_devices, same_on_devices_within, strategy,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn every_dimension_and_view(shape in strategy::shape(1..=4), dim in 0..4usize, seed in any::<u64>()) {
        let dim = (dim % shape.len()) as isize;
        let input = [strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed)];
        // The input itself is added, or gradients that cancel, as those of equal inputs do, would leave nothing but rounding; its sum in half
        // precision rounds once more.
        let softmax = |x: &[Tensor]| x[0].softmax(dim)?.add(&x[0]);
        let log_softmax = |x: &[Tensor]| x[0].log_softmax(dim)?.add(&x[0]);
        gradcheck("softmax", &input, softmax);
        gradcheck("log_softmax", &input, log_softmax);
        gradcheck("softmax from primitives", &input, |x| reference::softmax(false, &x[0], dim)?.add(&x[0]));
        same_on_devices_within(2.0, "softmax", &input, softmax);
        same_on_devices_within(2.0, "log_softmax", &input, log_softmax);
        each_device(|device| {
            let x = input[0].operand(&input[0].stored(device, DType::F32).unwrap()).unwrap();
            for log in [false, true] {
                let fused = if log { x.log_softmax(dim) } else { x.softmax(dim) }.unwrap().to_f64_vec().unwrap();
                let plain = reference::softmax(log, &x, dim).unwrap().to_f64_vec().unwrap();
                assert_close("against primitives", &fused, &plain, 2e-6, 1e-5);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn masked(shape in strategy::shape(1..=4), lead in 0..16u32, seed in any::<u64>()) {
        let input = strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed);
        // Masks of every broadcast shape.
        let mask: Vec<usize> = shape.iter().enumerate().map(|(d, &n)| if lead >> d & 1 == 1 { 1 } else { n }).collect();
        let inputs = [input, Input::bools(&mask, seed ^ 5)];
        let fused = |x: &[Tensor]| x[0].masked_softmax(Some(&x[1]), 0.7)?.add(&x[0]);
        let plain = |x: &[Tensor]| reference::masked_softmax(&x[0], Some(&x[1]), 0.7)?.add(&x[0]);
        gradcheck("masked_softmax", &inputs, fused);
        gradcheck("masked_softmax from primitives", &inputs, plain);
        same_on_devices_within(2.0, "masked_softmax", &inputs, fused);
        each_device(|device| {
            let x: Vec<Tensor> = inputs.iter().map(|i| i.operand(&i.stored(device, DType::F32).unwrap()).unwrap()).collect();
            let (a, b) = (fused(&x).unwrap().to_f64_vec().unwrap(), plain(&x).unwrap().to_f64_vec().unwrap());
            assert_close("against primitives", &a, &b, 2e-6, 1e-5);
        });
    }
}

#[test]
fn rows_without_a_true_element() {
    each_device(|device| {
        let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], device).unwrap().requires_grad();
        let mask = Tensor::from_slice(&[false, false, false, true, false, true], &[2, 3], device).unwrap();
        let y = x.masked_softmax(Some(&mask), 2.0).unwrap();
        let e = (-4.0f64).exp();
        assert_close(
            "value",
            &y.to_f64_vec().unwrap(),
            &[0.0, 0.0, 0.0, e / (1.0 + e), 0.0, 1.0 / (1.0 + e)],
            1e-6,
            0.0,
        );
        let dx = y.square().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec::<f32>().unwrap();
        assert!(dx[..3] == [0.0; 3] && dx[4] == 0.0 && dx[3] < 0.0 && dx[5] > 0.0, "{dx:?}");
        expect_error(x.masked_softmax(Some(&x.detach()), 1.0), &["masked_softmax", "bool"]);
        expect_error(x.masked_softmax(None, f64::NAN), &["masked_softmax", "NaN"]);
    });
}

#[test]
fn extremes() {
    let low = f32::NEG_INFINITY;
    each_device(|device| {
        let x = [low, 0.0, low, 1e4, 1e4, -1e4, low, low, low, 3e4, -3e4, 0.0];
        let x = Tensor::from_slice(&x, &[4, 3], device).unwrap().requires_grad();
        let y = x.softmax(1).unwrap();
        let want = [0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        assert_close("softmax", &y.to_f64_vec().unwrap(), &want, 1e-7, 0.0);
        let weights = Tensor::arange(0, 12, DType::F32, device).unwrap().reshape(&[4, 3]).unwrap();
        let loss = y.mul(&weights).unwrap().sum_all().unwrap();
        let dx = loss.backward().unwrap().get(&x).unwrap().to_f64_vec().unwrap();
        assert_close("gradient", &dx[..6], &[0.0, 0.0, 0.0, -0.25, 0.25, 0.0], 1e-6, 0.0);
        assert!(dx.iter().all(|v| v.is_finite()), "{dx:?}");
        let log = x.log_softmax(1).unwrap().to_f64_vec().unwrap();
        assert!(log[0] < -1e30 && log[1] == 0.0 && log[6] < -1e30 && log.iter().all(|v| !v.is_nan()), "{log:?}");
    });
}

#[test]
fn wide_rows() {
    for shape in [[1, 40_000], [2, 1025]] {
        let input = [Input::normal(&shape, 4)];
        same_on_devices_within(4.0, "softmax", &input, |x| x[0].softmax(1)?.mul_scalar(100.0));
        same_on_devices("log_softmax", &input, |x| x[0].log_softmax(1));
    }
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    expect_error(Tensor::zeros(&[2], DType::I32, &cpu).unwrap().softmax(0), &["softmax", "i32", "float"]);
    expect_error(Tensor::zeros(&[2], DType::F32, &cpu).unwrap().log_softmax(1), &["log_softmax", "1", "rank 1"]);
    expect_error(Tensor::zeros(&[], DType::F32, &cpu).unwrap().softmax(-1), &["softmax", "rank 0"]);
    assert_eq!(Tensor::zeros(&[0, 3], DType::F32, &cpu).unwrap().softmax(1).unwrap().shape(), &[0, 3]);
}
