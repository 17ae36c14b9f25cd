//! Rounding to few bits, straight through.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{Input, assert_close, assert_equal, each_device, expect_error, strategy};

/// By the definition, of rows of `columns`.
fn by_definition(values: &[f64], columns: usize, bits: u32) -> Vec<f64> {
    let most = f64::from((1i32 << (bits - 1)) - 1);
    let row = |row: &[f64]| {
        let step = row.iter().fold(0.0f64, |most, x| most.max(x.abs())) / most;
        let code = |x: f64| if step > 0.0 { (x / step).round_ties_even() } else { 0.0 };
        row.iter().map(|&x| code(x) * step).collect::<Vec<_>>()
    };
    values.chunks(columns).flat_map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn against_the_definition(
        x in strategy::shape(1..=3).prop_flat_map(|shape| strategy::viewed(shape, Input::normal)),
        bits in 2u32..=8,
    ) {
        let cpu = Device::cpu();
        let given = x.operand(&x.stored(&cpu, DType::F64).unwrap()).unwrap();
        let columns = given.shape().last().copied().unwrap_or(1);
        let want = by_definition(&given.to_vec::<f64>().unwrap(), columns.max(1), bits);
        assert_close("f64", &given.fake_quantize(bits).unwrap().to_vec::<f64>().unwrap(), &want, 1e-12, 1e-12);
        each_device(|device| {
            let given = x.operand(&x.stored(device, DType::F32).unwrap()).unwrap();
            let got = given.fake_quantize(bits).unwrap().to_f64_vec().unwrap();
            // Halfway between two codes the last digit decides, so what is there is looked at apart from which side it went.
            let values = given.to_f64_vec().unwrap();
            let want = by_definition(&values, columns.max(1), bits);
            for (row, (got, want)) in got.chunks(columns.max(1)).zip(want.chunks(columns.max(1))).enumerate() {
                let from = row * columns;
                let largest = values[from..from + got.len()].iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let step = largest / f64::from((1i32 << (bits - 1)) - 1);
                for (i, (got, want)) in got.iter().zip(want).enumerate() {
                    let halfway = step > 0.0 && ((values[from + i] / step).fract().abs() - 0.5).abs() < 1e-3;
                    let near = if halfway { step * 1.001 } else { 1e-5 * largest };
                    assert!((got - want).abs() <= near, "{bits} bits, {}: {got}, expected {want}", values[from + i]);
                }
            }
        });
    }
}

#[test]
fn codes_of_plain_numbers() {
    each_device(|device| {
        let x = Tensor::from_slice(&[3.0f32, -1.6, 0.4, -3.0, 0.0, 0.0, 0.0, 0.0], &[2, 4], device).unwrap();
        let run = |bits| x.fake_quantize(bits).unwrap().to_vec::<f32>().unwrap();
        assert_equal("2 bits", &run(2), &[3.0, -3.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0]);
        assert_equal("3 bits", &run(3), &[3.0, -2.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0]);
        let half = x.cast(DType::F16).unwrap().fake_quantize(3).unwrap();
        assert_eq!(half.dtype(), DType::F16);
        assert_equal("f16", &half.cast(DType::F32).unwrap().to_vec::<f32>().unwrap(), &run(3));
        // At most 2^bits - 1 different numbers in a row, and what is rounded already stays.
        let row = Input::normal(&[1, 1000], 7).stored(device, DType::F32).unwrap();
        for bits in 2..=8 {
            let once = row.fake_quantize(bits).unwrap();
            let mut seen = once.to_vec::<f32>().unwrap();
            seen.sort_by(f32::total_cmp);
            seen.dedup();
            assert!(seen.len() < 1 << bits, "{} numbers of {bits} bits", seen.len());
            let twice = once.fake_quantize(bits).unwrap().to_f64_vec().unwrap();
            assert_close("twice", &twice, &once.to_f64_vec().unwrap(), 0.0, 1e-6);
        }
        for shape in [&[0, 3][..], &[3, 0]] {
            assert_eq!(Tensor::zeros(shape, DType::F32, device).unwrap().fake_quantize(4).unwrap().shape(), shape);
        }
    });
}

/// The gradient is what stands behind the rounding, bit by bit, where finite differences would see steps.
#[test]
fn straight_through() {
    each_device(|device| {
        for (shape, bits) in [(&[3, 5][..], 2), (&[2, 3, 4], 3), (&[7], 8)] {
            let x = Input::normal(shape, 3).stored(device, DType::F32).unwrap();
            let behind = Input::normal(shape, 4).constant().stored(device, DType::F32).unwrap();
            let loss = x.fake_quantize(bits).unwrap().mul(&behind).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let got = gradients.get(&x).unwrap().to_vec::<f32>().unwrap();
            assert_equal("the gradient", &got, &behind.to_vec::<f32>().unwrap());
            // Through a square it is that of the rounded values: d(q^2)/dx = 2 q.
            let y = x.fake_quantize(bits).unwrap();
            let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
            let got = gradients.get(&x).unwrap().to_f64_vec().unwrap();
            let want: Vec<f64> = y.to_f64_vec().unwrap().iter().map(|q| 2.0 * q).collect();
            assert_close("of a square", &got, &want, 1e-6, 1e-6);
        }
    });
}

#[test]
fn bad_input() {
    let x = |dtype| Tensor::zeros(&[2, 2], dtype, &Device::cpu()).unwrap();
    expect_error(x(DType::F32).fake_quantize(1), &["fake_quantize", "1 bits", "2 to 8"]);
    expect_error(x(DType::F32).fake_quantize(9), &["fake_quantize", "9 bits"]);
    expect_error(x(DType::I32).fake_quantize(4), &["fake_quantize", "i32"]);
    expect_error(
        Tensor::scalar(1.0, DType::F32, &Device::cpu()).unwrap().fake_quantize(4),
        &["fake_quantize", "scalar"],
    );
}
