//! Training in the steady state: the device creates nothing any more, the host does not wait, and work goes out in a few batches.

use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{DType, Device, Meter, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{Config, TextModel, bert};
use wgrad_tests::{Random, expect_error, fresh_gpu};

fn small() -> Config {
    Config::new(serde_json::json!({
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 16,
    }))
    .unwrap()
}

#[test]
fn steps_allocate_nothing_and_wait_for_nothing() {
    let Some(device) = fresh_gpu() else { return };
    for dtype in [DType::F32, DType::BF16] {
        let model = bert::new(&small(), dtype, &device).unwrap();
        let rule = Rule::AdamW(Adam::default());
        let mut optimizer = Optimizer::new(rule, 1e-3, Group::of(&model)).unwrap().with_max_norm(1.0).unwrap();
        let mut losses = Meter::new(&device, 20).unwrap();
        let mut random = Random::new(1);
        let mut seen = Vec::new();
        for _ in 0..12 {
            let before = device.memory();
            let ids: Vec<u32> = (0..4 * 16).map(|_| random.below(96) as u32).collect();
            let labels: Vec<i32> = ids.iter().map(|&id| (id % 7) as i32).collect();
            let ids = Tensor::from_slice(&ids, &[4, 16], &device).unwrap();
            let labels = Tensor::from_slice(&labels, &[64], &device).unwrap();
            let hidden = model.encode(&TextInput::new(&ids)).unwrap().flatten(0, 1).unwrap();
            let logits = model.logits(&hidden).unwrap().cast(DType::F32).unwrap();
            let loss = model.loss(&logits, &labels, None).unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
            losses.push(&loss).unwrap();
            seen.push((before, device.memory()));
        }
        let steady = seen[2].0;
        for (before, after) in &seen[2..] {
            assert_eq!(after.allocations, steady.allocations, "{dtype}: buffers");
            assert_eq!(after.peak_reserved_bytes, steady.peak_reserved_bytes, "{dtype}: bytes");
            assert_eq!(after.bind_groups_created, steady.bind_groups_created, "{dtype}: bind groups");
            assert_eq!(after.pipelines, steady.pipelines, "{dtype}: pipelines");
            assert_eq!(after.staging_buffers, steady.staging_buffers, "{dtype}: buffers of the host");
            assert_eq!(after.reads, steady.reads, "{dtype}: waits");
            let dispatches = after.dispatches - before.dispatches;
            let submits = after.submits - before.submits;
            assert!(dispatches > 100 && submits <= dispatches / 64 + 1, "{dispatches} dispatches, {submits} submits");
        }
        let losses = losses.take().unwrap();
        assert_eq!(losses.len(), 12);
        assert!(losses[11] < losses[0], "{losses:?}");
        device.check_guards().unwrap();
    }
}

#[test]
fn a_meter_keeps_order_and_values() {
    for device in [Some(Device::cpu()), fresh_gpu()].into_iter().flatten() {
        // More than it holds at a time, of several dtypes, and from the midst of other tensors.
        let mut meter = Meter::new(&device, 7).unwrap();
        let x = Tensor::from_slice(&(0..40).map(|i| i as f32).collect::<Vec<_>>(), &[40], &device).unwrap();
        for i in 0..40 {
            let dtype = [DType::F32, DType::BF16, DType::I32][i % 3];
            meter.push(&x.cast(dtype).unwrap().narrow(0, i, 1).unwrap()).unwrap();
        }
        assert_eq!(meter.len(), 40);
        assert_eq!(meter.take().unwrap(), (0..40).map(f64::from).collect::<Vec<_>>());
        assert!(meter.is_empty() && meter.take().unwrap().is_empty());
        expect_error(meter.push(&x), &["Meter", "[40]"]);
        expect_error(Meter::new(&device, 0).map(drop), &["Meter", "0"]);
    }
}

#[test]
fn uploads_of_every_size_keep_their_place_in_the_stream() {
    let Some(device) = fresh_gpu() else { return };
    let mut random = Random::new(5);
    let mut expected = 0.0;
    let mut sum = Tensor::zeros(&[1], DType::F32, &device).unwrap();
    for round in 0..60 {
        // Some pass through mapped memory, some are too large for that; recycled memory is written again before its readers ran.
        let n = [1, 7, 300, 5000, 200_001, 300_000][random.below(6)];
        let values: Vec<f32> = (0..n).map(|i| ((i + round) % 5) as f32).collect();
        expected += values.iter().map(|&v| f64::from(v)).sum::<f64>();
        let x = Tensor::from_vec(values, &[n], &device).unwrap();
        sum = sum.add(&x.sum_all().unwrap()).unwrap();
        let bools: Vec<bool> = (0..n % 100).map(|i| i % 3 == 0).collect();
        let back = Tensor::from_slice(&bools, &[bools.len()], &device).unwrap();
        if round % 20 == 0 {
            assert_eq!(back.to_vec::<bool>().unwrap(), bools);
        }
    }
    assert_eq!(sum.item().unwrap(), expected);
    let halves: Vec<half::f16> = (0..5).map(|i| half::f16::from_f32(i as f32)).collect();
    assert_eq!(Tensor::from_slice(&halves, &[5], &device).unwrap().to_vec::<half::f16>().unwrap(), halves);
}
