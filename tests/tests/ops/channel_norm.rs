//! Group, instance and batch norm, and weights by length and direction.

use proptest::prelude::*;
use wgrad::nn::{BatchNorm, Build, Conv2d, GroupNorm, Module};
use wgrad::{Conv, DType, Device, Tensor};
use wgrad_tests::{
    Input, View, assert_close, each_device, expect_error, gradcheck_within, same_on_devices_within, strategy,
};

/// x behind a view, weight, bias. Not behind an expanded view: of equal elements a norm leaves but rounding.
fn inputs(shape: &[usize], seed: u64) -> [Input; 3] {
    let x = strategy::view_of(shape, &|shape, seed| Input::normal(shape, seed), seed);
    let expanded = x.views.iter().any(|view| matches!(view, View::Expand(_)));
    [
        if expanded { Input::normal(shape, seed) } else { x },
        Input::uniform(0.5, 1.5, &shape[1..2], seed ^ 1),
        Input::normal(&shape[1..2], seed ^ 2),
    ]
}

const EPS: f64 = 1e-3;

/// Each part of neighbours `part` long less its mean and divided by its deviation.
fn normalised(x: &[f64], part: usize) -> Vec<f64> {
    let each = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / part as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / part as f64;
        x.iter().map(|v| (v - mean) / (var + EPS).sqrt()).collect::<Vec<_>>()
    };
    x.chunks(part).flat_map(each).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn values_gradients_and_devices(n in 2..5usize, groups in 1..4usize, each in 1..4usize, rest in 3..9usize, seed in any::<u64>()) {
        let channels = groups * each;
        let inputs = inputs(&[n, channels, rest], seed);
        let group = |x: &[Tensor]| x[0].group_norm(groups, Some(&x[1]), Some(&x[2]), EPS);
        let instance = |x: &[Tensor]| x[0].instance_norm(Some(&x[1]), Some(&x[2]), EPS);
        let batch = |x: &[Tensor]| x[0].batch_norm(Some(&x[1]), Some(&x[2]), EPS);
        let fixed = |x: &[Tensor]| x[0].batch_norm_by(&x[2], &x[1], Some(&x[1]), Some(&x[2]), EPS);
        let weight = |x: &[Tensor]| x[0].weight_norm(&x[1].reshape(&[1, channels as isize, 1])?, 1)?.add(&x[2].unsqueeze(1)?);
        let unit = |x: &[Tensor]| x[0].normalize(2.0, 1, EPS)?.mul(&x[1].unsqueeze(1)?)?.add(&x[2].unsqueeze(1)?);
        gradcheck_within(4.0, "group_norm", &inputs, group);
        gradcheck_within(4.0, "instance_norm", &inputs, instance);
        gradcheck_within(4.0, "batch_norm", &inputs, batch);
        gradcheck_within(4.0, "batch_norm_by", &inputs, fixed);
        gradcheck_within(4.0, "weight_norm", &inputs, weight);
        gradcheck_within(4.0, "normalize", &inputs, unit);
        same_on_devices_within(20.0, "group_norm", &inputs, group);
        same_on_devices_within(20.0, "instance_norm", &inputs, instance);
        same_on_devices_within(20.0, "batch_norm", &inputs, batch);
        same_on_devices_within(20.0, "batch_norm_by", &inputs, fixed);

        let cpu: Vec<Tensor> = inputs.iter().map(|i| i.operand(&i.stored(&Device::cpu(), DType::F64).unwrap()).unwrap()).collect();
        let dense = cpu[0].to_f64_vec().unwrap();
        let plain = |y: Tensor| {
            // Without weight and bias.
            y.sub(&cpu[2].unsqueeze(1).unwrap()).unwrap().div(&cpu[1].unsqueeze(1).unwrap()).unwrap()
        };
        let got = plain(group(&cpu).unwrap()).to_f64_vec().unwrap();
        assert_close("group_norm", &got, &normalised(&dense, each * rest), 1e-11, 1e-11);
        let got = plain(batch(&cpu).unwrap()).transpose(0, 1).unwrap().to_f64_vec().unwrap();
        let by_channel = cpu[0].transpose(0, 1).unwrap().to_f64_vec().unwrap();
        assert_close("batch_norm", &got, &normalised(&by_channel, n * rest), 1e-11, 1e-11);
    }
}

#[test]
fn layers() {
    each_device(|device| {
        let build = Build::new(device);
        let x = Input::normal(&[4, 6, 5, 5], 1).stored(device, DType::F32).unwrap().add_scalar(2.0).unwrap();
        let norm = BatchNorm::new(6, 0.5, 1e-5, &build).unwrap();
        assert_eq!(norm.named_parameters().len(), 4);
        let y = norm.forward(&x).unwrap();
        let (mean, var) = y.batch_statistics().unwrap();
        assert_close("means", &mean.to_f64_vec().unwrap(), &[0.0; 6], 1e-5, 0.0);
        assert_close("variances", &var.to_f64_vec().unwrap(), &[1.0; 6], 0.02, 0.0);
        // After some batches, evaluation does the same.
        for _ in 0..40 {
            norm.forward(&x).unwrap();
        }
        norm.train(false);
        let (again, mean) = (norm.forward(&x).unwrap(), norm.running_mean.tensor());
        assert_close("evaluation", &again.to_f64_vec().unwrap(), &y.to_f64_vec().unwrap(), 0.05, 0.0);
        norm.forward(&x.mul_scalar(9.0).unwrap()).unwrap();
        assert_eq!(norm.running_mean.tensor().to_vec::<f32>().unwrap(), mean.to_vec::<f32>().unwrap());
        assert!(!norm.running_mean.tensor().is_tracked() && norm.weight.tensor().is_tracked());

        let group = GroupNorm::new(2, 6, 1e-5, &build).unwrap().forward(&x).unwrap();
        assert_close("group", &[group.mean_all().unwrap().item().unwrap()], &[0.0], 1e-5, 0.0);
        let conv =
            Conv2d::new(6, 3, [3, 3], true, Conv { padding: [1, 1], groups: 3, ..Conv::default() }, &build).unwrap();
        assert_eq!((conv.weight.shape(), conv.forward(&x).unwrap().shape()), (&[3, 2, 3, 3][..], &[4, 3, 5, 5][..]));
        let none = Tensor::zeros(&[0, 6, 2, 2], DType::F32, device).unwrap();
        assert_eq!(norm.forward(&none).unwrap().shape(), [0, 6, 2, 2]);
    });
}

#[test]
fn bad_input() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    let x = zeros(&[2, 6, 3]);
    expect_error(x.group_norm(4, None, None, EPS), &["group_norm", "4 groups", "6 channels"]);
    expect_error(x.group_norm(0, None, None, EPS), &["group_norm", "0 groups"]);
    expect_error(x.group_norm(2, Some(&zeros(&[3])), None, EPS), &["group_norm", "weight", "[3]", "[6]"]);
    expect_error(x.instance_norm(None, Some(&zeros(&[3])), EPS), &["instance_norm", "bias", "[3]", "[6]"]);
    expect_error(zeros(&[1, 3]).batch_norm(None, None, EPS), &["batch_norm", "[1, 3]", "one element"]);
    expect_error(x.batch_norm(None, None, -1.0), &["batch_norm", "-1"]);
    expect_error(x.batch_norm_by(&zeros(&[3]), &zeros(&[6]), None, None, EPS), &["batch_norm_by", "mean", "[3]"]);
    expect_error(zeros(&[3]).batch_norm(None, None, EPS), &["batch_norm", "[3]", "channels"]);
    expect_error(x.normalize(2.0, 3, EPS), &["normalize", "3"]);
    expect_error(x.normalize(2.0, 1, -1.0), &["normalize", "-1"]);
    expect_error(x.weight_norm(&zeros(&[2, 1]), 0), &["weight_norm", "[2, 1]", "[2, 1, 1]"]);
}
