use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Mask, Tensor};

use super::*;
use crate::activation::Activation;
use crate::attention::Project;
use crate::feed_forward::{Between, Inner};
use crate::norm::{NormKind, PowerNormConfig, UnifiedNormConfig};
use crate::weights::Form;

/// What padding holds changes neither what real tokens become nor the state of norms over the batch; without being told of it they mix it in.
#[test]
fn norms_over_the_batch_leave_out_padding() {
    let device = Device::new_cpu();
    let build = Build::new(&device).with_dtype(DType::F64);
    let real = [true, true, true, false, false, true, true, true, true, true];
    let values: Vec<f64> = (0..80).map(|n| f64::from(n * n % 23) / 7.0 - 1.5).collect();
    let of_padding = |value: f64| {
        let put = |(n, &x): (usize, &f64)| if real[n / 8] { x } else { value * x };
        let values: Vec<f64> = values.iter().enumerate().map(put).collect();
        Tensor::from_slice(&values, &[2, 5, 8], &device).unwrap()
    };
    let told = Tensor::from_slice(&real, &[2, 5], &device).unwrap();
    let mask = Mask::dense(&told.unsqueeze(1).unwrap().unsqueeze(1).unwrap());
    let kinds = [
        NormKind::Batch { momentum: 0.1 },
        NormKind::AlphaBatch { alpha: 0.25 },
        NormKind::Power(PowerNormConfig::default()),
        NormKind::Unified(UnifiedNormConfig::default()),
    ];
    for kind in kinds {
        for wiring in [Wiring::Sequential, Wiring::Parallel] {
            let project = Project::Apart { query: "query", key: "key", value: "value" };
            let config = BlockConfig {
                hidden: 8,
                norm: NormConfig { kind, eps: 1e-5 },
                attention: AttentionConfig::new(2, 4, project, "output"),
                attention_place: Place { residual: Some("outer"), ..Place::both("before", "after") },
                cross: None,
                feed_forward: FeedForwardConfig {
                    width: 16,
                    activation: Activation::Gelu,
                    inner: Inner::Plain { up: "up", down: "down" },
                    between: Between::default(),
                    bias: [true; 2],
                    form: Form::Rows,
                    dropout: 0.0,
                },
                feed_forward_place: Place::both("feed_before", "feed_after"),
                wiring,
                dropout: 0.0,
            };
            // What real tokens become in training and then in evaluation, and all state.
            let run = |padding: f64, told: Option<&Tensor>| {
                device.set_seed(9);
                let block = Block::new(&config, &build).unwrap();
                let mut pass = Pass::new(&mask, 0, std::iter::empty());
                pass.real = told.cloned();
                let mut found = Vec::new();
                for training in [true, false] {
                    block.train(training);
                    let y = block.forward(&of_padding(padding), None, &pass, None, None).unwrap();
                    let y = y.to_vec::<f64>().unwrap();
                    found.extend(y.chunks(8).zip(real).filter(|(_, real)| *real).flat_map(|(row, _)| row.to_vec()));
                }
                let state = block.named_parameters().into_iter().flat_map(|(_, p)| p.tensor().to_f64_vec().unwrap());
                found.extend(state);
                found
            };
            let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let one = run(1.0, Some(&told));
            assert!(one.iter().all(|x| x.is_finite()));
            assert!(apart(&one, &run(50.0, Some(&told))) < 1e-9, "{kind:?}, {wiring:?}: padding counts");
            assert!(apart(&run(1.0, None), &run(50.0, None)) > 1e-3, "{kind:?}, {wiring:?}: the test sees no padding");
        }
    }
}

/// Where nothing is padding, being told so changes nothing but rounding.
#[test]
fn batch_norm_of_real_rows_is_that_of_all() {
    let device = Device::new_cpu();
    let build = Build::new(&device).with_dtype(DType::F64);
    let values: Vec<f64> = (0..24).map(|n| f64::from(n * n % 17) - 5.0).collect();
    let x = Tensor::from_slice(&values, &[2, 3, 4], &device).unwrap();
    let all = Tensor::ones(&[2, 3], DType::Bool, &device).unwrap();
    let run = |real: Option<&Tensor>| {
        let norm = crate::norm::Norm::new(NormConfig::batch(1e-5), 4, &build).unwrap();
        let x = x.requires_grad();
        let y = norm.forward_real(&x, real).unwrap();
        let gradients = y.mul(&y).unwrap().mul(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let mut found = y.to_f64_vec().unwrap();
        found.extend(gradients.get(&x).unwrap().to_f64_vec().unwrap());
        found.extend(norm.named_parameters().into_iter().flat_map(|(_, p)| p.tensor().to_f64_vec().unwrap()));
        found
    };
    let (told, plain) = (run(Some(&all)), run(None));
    assert!(
        told.len() == plain.len() && told.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-9),
        "{told:?} {plain:?}"
    );
}
