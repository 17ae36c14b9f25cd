//! Matrices that list few weights a row.

use proptest::prelude::*;
use wgrad::io::{Weights, to_bytes};
use wgrad::nn::{Build, Linear, Module};
use wgrad::optim::Group;
use wgrad::{Activation, DType, Device, Epilogue, SparseRows, Tensor, no_grad};
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

/// Layers run and store what is listed; where lists are slower, they load it dense.
#[test]
fn listed_parameters() {
    each_device(|device| {
        device.set_seed(1);
        let layer = Linear::new(30, 20, true, &Build::new(device)).unwrap();
        let scores = Tensor::uniform(0.0, 1.0, &[20, 30], DType::F32, device).unwrap();
        let kept = scores.lt(&Tensor::scalar(0.15, DType::F32, device).unwrap()).unwrap();
        let dense = layer.weight.leaf().detach().mul(&kept.cast(DType::F32).unwrap()).unwrap();
        layer.weight.set(&dense).unwrap();
        let x = Tensor::normal(0.0, 1.0, &[3, 30], DType::F32, device).unwrap();
        let residual = Tensor::normal(0.0, 1.0, &[3, 20], DType::F32, device).unwrap();
        let then = Epilogue { scale: 0.5, activation: Some(Activation::Gelu), residual: Some(residual) };
        let said = || no_grad(|| layer.forward_then(&x, &then)).unwrap().to_f64_vec().unwrap();
        let want = said();
        layer.weight.set_sparse_rows(&SparseRows::from_dense(&dense).unwrap()).unwrap();
        assert!(layer.weight.sparse_rows().is_some() && layer.weight.packed().is_none());
        assert_close("listed", &said(), &want, 1e-5, 1e-5);
        assert_equal("leaf", &layer.weight.leaf().to_vec::<f32>().unwrap(), &dense.to_vec::<f32>().unwrap());
        // Gradients go to the input and the bias, and not to the lists, which no optimizer is given.
        let input = x.detach().requires_grad();
        let gradients = layer.forward(&input).unwrap().sum_all().unwrap().backward().unwrap();
        let want_dx = dense.sum(&[0], false).unwrap().to_f64_vec().unwrap();
        assert_close("dx", &gradients.get(&input).unwrap().to_f64_vec().unwrap(), &want_dx.repeat(3), 1e-5, 1e-5);
        let trained: Vec<String> = Group::of(&layer).into_iter().flat_map(|g| g.params).map(|(name, _)| name).collect();
        assert_eq!(trained, ["bias"]);

        let names: Vec<String> = layer.named_tensors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["weight.starts", "weight.places", "weight.values", "bias"]);
        let file = |tensors: &[(String, Tensor)]| Weights::from_bytes("lists", to_bytes(tensors).unwrap()).unwrap();
        let again = Linear::new(30, 20, true, &Build::new(device)).unwrap();
        again.load(&file(&layer.named_tensors())).unwrap();
        assert_eq!(again.weight.sparse_rows().is_some(), !device.is_gpu());
        assert_equal("loaded", &again.weight.leaf().to_vec::<f32>().unwrap(), &dense.to_vec::<f32>().unwrap());
        let full = Tensor::ones(&[20, 30], DType::F32, device).unwrap();
        layer.weight.set_sparse_rows(&SparseRows::from_dense(&full).unwrap()).unwrap();
        again.load(&file(&layer.named_tensors())).unwrap();
        assert!(!again.weight.is_packed());
        let narrow = Linear::new(30, 19, true, &Build::new(device)).unwrap();
        expect_error(narrow.load(&file(&layer.named_tensors())), &["lists", "weight.starts", "[21]", "[20]"]);
        expect_error(
            narrow.weight.set_sparse_rows(&SparseRows::from_dense(&full).unwrap()),
            &["Param::set_sparse_rows", "[20, 30]", "[19, 30]"],
        );
    });
}
