//! Matrices that list few weights a row.

use proptest::prelude::*;
use wgrad::{DType, Device, SparseRows, Tensor, no_grad};
use wgrad_tests::{Random, assert_close, assert_equal, each_device, expect_error};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn products(tokens in 0usize..12, outputs in 0usize..20, inputs in 0usize..200, density in 0usize..4, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let weight: Vec<f32> = (0..outputs * inputs)
            .map(|_| if random.below(10) < density { random.normal() as f32 } else { 0.0 })
            .collect();
        let mut normal = |n: usize| (0..n).map(|_| random.normal() as f32).collect::<Vec<f32>>();
        let (x, bias) = (normal(tokens * inputs), normal(outputs));
        each_device(|device| {
            for dtype in [DType::F32, DType::F16] {
                let tensor = |v: &[f32], shape: &[usize]| Tensor::from_slice(v, shape, device).unwrap().cast(dtype).unwrap();
                let dense = tensor(&weight, &[outputs, inputs]);
                let sparse = SparseRows::from_dense(&dense).unwrap();
                sparse.validate().unwrap();
                assert_equal("to_dense", &sparse.to_dense().unwrap().to_f64_vec().unwrap(), &dense.to_f64_vec().unwrap());
                let (x, bias) = (tensor(&x, &[tokens, inputs]), tensor(&bias, &[outputs]));
                for bias in [None, Some(&bias)] {
                    let got = x.linear_sparse_rows(&sparse, bias).unwrap();
                    assert_eq!((got.shape(), got.dtype()), (&[tokens, outputs][..], dtype));
                    let want = x.linear(&dense, bias).unwrap().to_f64_vec().unwrap();
                    let tolerance = if dtype == DType::F16 { 4e-3 } else { 1e-5 };
                    assert_close("linear_sparse_rows", &got.to_f64_vec().unwrap(), &want, tolerance, tolerance);
                }
            }
        });
    }
}

#[test]
fn f64_and_bytes() {
    let cpu = Device::cpu();
    let dense = Tensor::from_slice(&[0.0f64, 1.5, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0], &[2, 4], &cpu).unwrap();
    let sparse = SparseRows::from_dense(&dense).unwrap();
    assert_eq!((sparse.rows(), sparse.cols(), sparse.density(), sparse.bytes()), (2, 4, 0.25, 2 * 12 + 3 * 4));
    let x = Tensor::from_slice(&[1.0f64, 2.0, 3.0, 4.0], &[4], &cpu).unwrap();
    assert_equal("f64", &x.linear_sparse_rows(&sparse, None).unwrap().to_vec::<f64>().unwrap(), &[3.0, 0.75]);
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    let words = |words: &[u32]| Tensor::from_slice(words, &[words.len()], &cpu).unwrap();
    expect_error(SparseRows::from_dense(&zeros(&[3])), &["SparseRows::from_dense", "[3]"]);
    let made = |starts: &[u32], places: &[u32]| {
        SparseRows::from_parts(&words(starts), &words(places), &zeros(&[places.len()]), 4)
    };
    made(&[0, 2, 2, 3], &[0, 3, 1]).unwrap();
    expect_error(made(&[0, 2, 2, 2], &[0, 3, 1]), &["SparseRows::from_parts", "Some(2)", "0 to 3"]);
    expect_error(made(&[], &[]), &["SparseRows::from_parts", "starts", "[0]"]);
    expect_error(made(&[0, 5, 3], &[0, 3, 1]), &["SparseRows::from_parts", "row 0", "0 to 5"]);
    expect_error(made(&[0, 2, 1, 3], &[0, 3, 1]), &["SparseRows::from_parts", "row 1", "2 to 1"]);
    for places in [[3, 0, 1], [1, 1, 2], [0, 4, 1]] {
        expect_error(made(&[0, 2, 3], &places), &["SparseRows::from_parts", "row 0", "ascend below 4"]);
    }
    let values = SparseRows::from_parts(&words(&[0, 1]), &words(&[0]), &zeros(&[2]), 4);
    expect_error(values, &["SparseRows::from_parts", "[2]", "[1]"]);
    let sparse = made(&[0, 2, 2, 3], &[0, 3, 1]).unwrap();
    expect_error(zeros(&[2, 5]).linear_sparse_rows(&sparse, None), &["linear_sparse_rows", "[2, 5]", "[3, 4]"]);
    expect_error(zeros(&[]).linear_sparse_rows(&sparse, None), &["linear_sparse_rows", "[]", "4 columns"]);
    expect_error(zeros(&[2, 4]).linear_sparse_rows(&sparse, Some(&zeros(&[4]))), &["linear_sparse_rows", "[4]", "[3]"]);
    let half = Tensor::zeros(&[2, 4], DType::F16, &cpu).unwrap();
    expect_error(half.linear_sparse_rows(&sparse, None), &["linear_sparse_rows", "dtype"]);
    // A gradient is refused, never cut off in silence.
    let x = zeros(&[2, 4]).requires_grad();
    let loss = x.linear_sparse_rows(&sparse, None).unwrap().sum_all().unwrap();
    expect_error(loss.backward(), &["linear_sparse_rows", "no backward"]);
    assert!(!no_grad(|| x.linear_sparse_rows(&sparse, None)).unwrap().is_tracked());
}
