//! Connectionist temporal classification.

use proptest::prelude::*;
use wgrad::{CtcLoss, DType, Device, Reduction, Tensor};
use wgrad_tests::{Input, Random, assert_close, each_device, expect_error, gradcheck_within, same_on_devices_within};

/// The loss by its definition: the sum over all paths that collapse to the labels.
fn by_paths(probabilities: &[f64], classes: usize, labels: &[usize], blank: usize) -> f64 {
    let time = probabilities.len() / classes;
    let mut total = 0.0;
    for path in 0..classes.pow(time as u32) {
        let steps: Vec<usize> = (0..time).map(|t| path / classes.pow(t as u32) % classes).collect();
        let mut collapsed = Vec::new();
        for (t, &class) in steps.iter().enumerate() {
            if class != blank && (t == 0 || steps[t - 1] != class) {
                collapsed.push(class);
            }
        }
        if collapsed == labels {
            total += steps.iter().enumerate().map(|(t, &class)| probabilities[t * classes + class]).product::<f64>();
        }
    }
    -total.ln()
}

const NONE: CtcLoss = CtcLoss { blank: 0, reduction: Reduction::None, zero_infinity: false };

fn targets(rows: &[&[i32]], device: &Device) -> Tensor {
    let most = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    // What follows the labels of a sample is not looked at.
    let padded = rows.iter().flat_map(|row| (0..most).map(|i| row.get(i).copied().unwrap_or(-7))).collect();
    Tensor::from_vec::<i32>(padded, &[rows.len(), most], device).unwrap()
}

#[test]
fn sums_over_paths() {
    let (time, classes) = (5, 3);
    let rows: [&[i32]; 6] = [&[1, 2], &[1, 1], &[], &[2], &[2, 1, 2], &[1, 1, 1]];
    let times = [5, 4, 5, 1, 3, 5];
    for blank in [0, 2] {
        // Labels that are not the blank.
        let rename = |label: i32| if blank == 0 { label } else { label - 1 };
        let rows: Vec<Vec<i32>> = rows.iter().map(|row| row.iter().map(|&label| rename(label)).collect()).collect();
        let rows: Vec<&[i32]> = rows.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let logits = Input::normal(&[time, rows.len(), classes], 3);
        each_device(|device| {
            let log_probs = logits.stored(device, DType::F32).unwrap().log_softmax(-1).unwrap();
            let options = CtcLoss { blank, ..NONE };
            let got = log_probs.ctc_loss(&targets(&rows, device), &times, &lengths, &options).unwrap();
            let probabilities = log_probs.exp().unwrap().permute(&[1, 0, 2]).unwrap().to_f64_vec().unwrap();
            let want: Vec<f64> = rows
                .iter()
                .zip(probabilities.chunks(time * classes))
                .zip(times)
                .map(|((row, p), times)| {
                    let labels: Vec<usize> = row.iter().map(|&label| label as usize).collect();
                    by_paths(&p[..times * classes], classes, &labels, blank)
                })
                .collect();
            assert_close("ctc_loss", &got.to_f64_vec().unwrap(), &want, 1e-5, 1e-5);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

    #[test]
    fn gradients_and_devices(samples in 1..4usize, time in 1..14usize, classes in 2..6usize, most in 0..24usize, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let blank = random.below(classes);
        let times: Vec<usize> = (0..samples).map(|_| 1 + random.below(time)).collect();
        let lengths: Vec<usize> = (0..samples).map(|_| random.below(most + 1)).collect();
        let labels: Vec<f64> = (0..samples * most).map(|_| ((blank + 1 + random.below(classes - 1)) % classes) as f64).collect();
        let labels = Input { dtype: DType::I32, ..Input::of(&labels, &[samples, most]).constant() };
        let inputs = [Input::normal(&[time, samples, classes], seed), labels];
        for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
            let options = CtcLoss { blank, reduction, zero_infinity: true };
            let loss = |x: &[Tensor]| x[0].log_softmax(-1)?.ctc_loss(&x[1], &times, &lengths, &options);
            gradcheck_within(10.0, "ctc_loss", &inputs, loss);
            same_on_devices_within(10.0, "ctc_loss", &inputs, loss);
        }
    }
}

/// More states than a workgroup has invocations: several launches.
#[test]
fn long_targets() {
    let (time, classes, most) = (90, 5, 40);
    let mut random = Random::new(8);
    let labels: Vec<f64> = (0..2 * most).map(|_| (1 + random.below(classes - 1)) as f64).collect();
    let labels = Input { dtype: DType::I32, ..Input::of(&labels, &[2, most]).constant() };
    let inputs = [Input::normal(&[time, 2, classes], 9), labels];
    let loss = |x: &[Tensor]| x[0].log_softmax(-1)?.ctc_loss(&x[1], &[90, 81], &[most, 33], &CtcLoss::default());
    gradcheck_within(10.0, "ctc_loss", &inputs, loss);
    same_on_devices_within(20.0, "ctc_loss", &inputs, loss);
}

/// Labels that do not fit the time: infinite, or nothing; no gradient, and none that is not a number.
#[test]
fn impossible_targets() {
    each_device(|device| {
        let logits = Input::normal(&[3, 3, 4], 1).stored(device, DType::F32).unwrap();
        let rows = targets(&[&[1, 1], &[2, 2, 3], &[1, 2, 3]], device);
        for zero_infinity in [false, true] {
            let options = CtcLoss { zero_infinity, ..NONE };
            let loss = logits.log_softmax(-1).unwrap().ctc_loss(&rows, &[2, 3, 3], &[2, 3, 3], &options).unwrap();
            let values = loss.to_f64_vec().unwrap();
            let instead = if zero_infinity { 0.0 } else { f64::INFINITY };
            assert_eq!(values[..2], [instead; 2], "{device}");
            assert!(values[2].is_finite() && values[2] > 0.0);
            let gradient = loss.sum_all().unwrap().backward().unwrap();
            let gradient = gradient.get(&logits).unwrap().permute(&[1, 0, 2]).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(gradient[..24], [0.0; 24], "{device}");
            assert!(gradient[24..].iter().all(|g| g.is_finite()) && gradient[24..].iter().any(|g| *g != 0.0));
        }
        // Without time there is room for no label.
        let none = logits.log_softmax(-1).unwrap().ctc_loss(&rows, &[0, 0, 1], &[0, 1, 1], &NONE).unwrap();
        assert_eq!(none.to_f64_vec().unwrap()[..2], [0.0, f64::INFINITY]);
        let empty = Tensor::zeros(&[0, 2, 4], DType::F32, device).unwrap();
        let loss = empty.ctc_loss(&targets(&[&[], &[]], device), &[0, 0], &[0, 0], &NONE).unwrap();
        assert_eq!(loss.to_f64_vec().unwrap(), [0.0, 0.0]);
    });
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let x = Tensor::zeros(&[4, 2, 3], DType::F32, &cpu).unwrap();
    let t = targets(&[&[1, 2], &[1, 1]], &cpu);
    expect_error(x.ctc_loss(&t, &[4, 5], &[2, 2], &NONE), &["ctc_loss", "input length is 5", "4"]);
    expect_error(x.ctc_loss(&t, &[4, 4], &[2, 3], &NONE), &["ctc_loss", "target length is 3", "2"]);
    expect_error(x.ctc_loss(&t, &[4], &[2, 2], &NONE), &["ctc_loss", "2 samples", "1 input lengths"]);
    expect_error(x.ctc_loss(&t, &[4, 4], &[2, 2], &CtcLoss { blank: 3, ..NONE }), &["ctc_loss", "blank", "3"]);
    expect_error(x.ctc_loss(&targets(&[&[1, 3], &[1, 1]], &cpu), &[4, 4], &[2, 2], &NONE), &["index 3", "size 3"]);
    expect_error(x.ctc_loss(&t.cast(DType::F32).unwrap(), &[4, 4], &[2, 2], &NONE), &["ctc_loss", "f32"]);
    expect_error(x.select(0, 0).unwrap().ctc_loss(&t, &[4, 4], &[2, 2], &NONE), &["ctc_loss", "[2, 3]"]);
}
