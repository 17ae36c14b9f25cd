//! Softmax cross-entropy.

use proptest::prelude::*;
use wgrad::{CrossEntropy, DType, Device, Reduction, Result, Tensor, reference};
use wgrad_tests::{Input, assert_close, each_device, expect_error, fresh_gpu, gradcheck, same_on_devices};

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

/// Logits, targets, class weights and row weights; the last two only where `options` say.
fn inputs(rows: usize, classes: usize, dtype: DType, seed: u64) -> [Input; 4] {
    [
        Input::normal(&[rows, classes], seed),
        Input::indices(classes, &[rows], dtype, seed ^ 1),
        Input::uniform(0.2, 2.0, &[classes], seed ^ 2).constant(),
        Input::uniform(0.2, 2.0, &[rows], seed ^ 3).constant(),
    ]
}

fn options(x: &[Tensor], weights: u8, smoothing: f64, reduction: Reduction) -> CrossEntropy {
    CrossEntropy {
        label_smoothing: smoothing,
        class_weight: (weights & 1 == 1).then(|| x[2].clone()),
        row_weight: (weights & 2 == 2).then(|| x[3].clone()),
        reduction,
        ..CrossEntropy::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn fused_is_composed(
        rows in 1..40usize,
        classes in prop_oneof![2..50usize, Just(600usize)],
        weights in 0..4u8,
        smooth in any::<bool>(),
        reduction in 0..3usize,
        seed in any::<u64>(),
    ) {
        let smoothing = if smooth { 0.15 } else { 0.0 };
        let reduction = REDUCTIONS[reduction];
        let dtype = if seed % 2 == 0 { DType::U32 } else { DType::I32 };
        let inputs = inputs(rows, classes, dtype, seed);
        let fused = |x: &[Tensor]| x[0].cross_entropy(&x[1], &options(x, weights, smoothing, reduction));
        let composed =
            |x: &[Tensor]| -> Result<Tensor> { reference::cross_entropy(&x[0], &x[1], &options(x, weights, smoothing, reduction)) };
        gradcheck("cross_entropy", &inputs, fused);
        gradcheck("cross_entropy from primitives", &inputs, composed);
        same_on_devices("cross_entropy", &inputs, fused);
        each_device(|device| {
            let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
            let (a, b) = (fused(&x).unwrap(), composed(&x).unwrap());
            assert_eq!(a.shape(), b.shape());
            assert_close("value", &a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap(), 1e-5, 1e-5);
            let gradient = |y: Tensor| y.sum_all().unwrap().backward().unwrap().get(&x[0]).unwrap().to_f64_vec().unwrap();
            assert_close("gradient", &gradient(a), &gradient(b), 2e-6, 1e-5);
        });
    }
}

#[test]
fn ignored_rows() {
    each_device(|device| {
        let logits = Tensor::from_slice(&[1f32, 2.0, 3.0, 0.5, 0.5, 0.5, 9.0, -9.0, 0.0], &[3, 3], device).unwrap();
        let logits = logits.requires_grad();
        let targets = Tensor::from_slice(&[2i32, -100, 1], &[3], device).unwrap();
        let keep = CrossEntropy { ignore_index: Some(-100), ..CrossEntropy::default() };
        let loss = logits.cross_entropy(&targets, &keep).unwrap();
        let first = (1f64.exp() + 2f64.exp() + 3f64.exp()).ln() - 3.0;
        let third = (9f64.exp() + (-9f64).exp() + 1.0).ln() + 9.0;
        assert_close("mean of the kept", &[loss.item().unwrap()], &[(first + third) / 2.0], 0.0, 1e-6);
        let grads = loss.backward().unwrap().get(&logits).unwrap().to_f64_vec().unwrap();
        assert_eq!(&grads[3..6], &[0.0; 3]);
        let sum: f64 = grads[..3].iter().sum();
        assert!(sum.abs() < 1e-6 && grads[2] < 0.0, "{grads:?}");
        let each = CrossEntropy { reduction: Reduction::None, label_smoothing: 0.1, ..keep.clone() };
        let losses = logits.cross_entropy(&targets, &each).unwrap().to_f64_vec().unwrap();
        assert!(losses[1] == 0.0 && losses[0] > 0.0, "{losses:?}");
        // Nothing kept: 0, not 0 / 0.
        let none = Tensor::full(-100.0, &[3], DType::I32, device).unwrap();
        let loss = logits.cross_entropy(&none, &keep).unwrap();
        assert_eq!(loss.item().unwrap(), 0.0);
        assert_eq!(loss.backward().unwrap().get(&logits).unwrap().to_f64_vec().unwrap(), [0.0; 9]);
    });
}

#[test]
fn one_class() {
    each_device(|device| {
        let logits = Tensor::from_slice(&[3f32, -2e4, 0.0], &[3, 1], device).unwrap().requires_grad();
        let targets = Tensor::zeros(&[3], DType::U32, device).unwrap();
        let smooth = CrossEntropy { label_smoothing: 0.3, ..CrossEntropy::default() };
        let loss = logits.cross_entropy(&targets, &smooth).unwrap();
        assert_close("loss", &[loss.item().unwrap()], &[0.0], 1e-6, 0.0);
        let dx = loss.backward().unwrap().get(&logits).unwrap().to_f64_vec().unwrap();
        assert_close("gradient", &dx, &[0.0; 3], 1e-6, 0.0);
    });
}

#[test]
fn large_logits_and_more_dimensions() {
    let logits =
        Input { values: (0..24).map(|i| f64::from((i * 7) % 5) * 2500.0).collect(), ..Input::normal(&[2, 3, 4], 1) };
    let inputs = [logits, Input::indices(4, &[2, 3], DType::U32, 2)];
    same_on_devices("cross_entropy", &inputs, |x| {
        x[0].cross_entropy(&x[1], &CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() })
    });
    each_device(|device| {
        let empty = Tensor::zeros(&[0, 4], DType::F32, device).unwrap().requires_grad();
        let targets = Tensor::zeros(&[0], DType::U32, device).unwrap();
        let loss = empty.cross_entropy(&targets, &CrossEntropy::default()).unwrap();
        assert_eq!(loss.item().unwrap(), 0.0);
        assert_eq!(loss.backward().unwrap().get(&empty).unwrap().shape(), &[0, 4]);
    });
}

#[test]
fn bad_input() {
    // A device of its own: what a kernel notes, any test that waits for the shared one could be told.
    for device in [Some(Device::cpu()), fresh_gpu()].into_iter().flatten() {
        let device = &device;
        let logits = Tensor::zeros(&[2, 3], DType::F32, device).unwrap();
        let targets = |values: &[i32]| Tensor::from_slice(values, &[values.len()], device).unwrap();
        let plain = CrossEntropy::default();
        // The CPU says so at once, a GPU when the result is read.
        for bad in [3, -1] {
            let loss = logits.cross_entropy(&targets(&[0, bad]), &plain).and_then(|loss| loss.item());
            expect_error(loss, &["cross_entropy", &bad.to_string(), "size 3"]);
        }
        assert!(logits.cross_entropy(&targets(&[0, 2]), &plain).unwrap().item().unwrap() > 1.0);
        expect_error(logits.cross_entropy(&targets(&[0]), &plain), &["cross_entropy", "[1]", "[2, 3]"]);
        expect_error(logits.cross_entropy(&logits, &plain), &["cross_entropy", "f32", "i32"]);
        let smooth = CrossEntropy { label_smoothing: 1.5, ..CrossEntropy::default() };
        expect_error(logits.cross_entropy(&targets(&[0, 1]), &smooth), &["cross_entropy", "1.5", "0 to 1"]);
        let weighted = CrossEntropy { class_weight: Some(logits.clone()), ..CrossEntropy::default() };
        expect_error(logits.cross_entropy(&targets(&[0, 1]), &weighted), &["class weight", "[2, 3]", "[3]"]);
    }
    let none = Tensor::zeros(&[2, 0], DType::F32, &Device::cpu()).unwrap();
    let targets = Tensor::zeros(&[2], DType::U32, &Device::cpu()).unwrap();
    expect_error(none.cross_entropy(&targets, &CrossEntropy::default()), &["no class"]);
}
