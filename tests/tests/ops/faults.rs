//! A device that goes away in the midst of training: every call says so, and nothing hangs.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use wgrad::nn::{Build, Linear};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{DType, Device, Error, Meter, Result, Tensor};
use wgrad_tests::fresh_gpu;

fn lost<T>(what: &str, result: Result<T>) {
    match result {
        Err(Error::DeviceLost { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what} went well on a lost device"),
    }
}

fn lose_in_training(device: &Device) {
    let layer = Linear::new(32, 32, true, &Build::new(device)).unwrap();
    let rule = Rule::AdamW(Adam::default());
    let mut optimizer = Optimizer::new(rule, 1e-3, Group::of(&layer)).unwrap().with_max_norm(1.0).unwrap();
    let mut losses = Meter::new(device, 100).unwrap();
    let x = Tensor::ones(&[16, 32], DType::F32, device).unwrap();
    let mut step = || {
        let uploaded = Tensor::from_slice(&[1.0f32; 32], &[32], device)?;
        let loss = layer.forward(&x.add(&uploaded)?)?.square()?.mean_all()?;
        optimizer.step(&loss.backward()?)?;
        losses.push(&loss)
    };
    for _ in 0..3 {
        step().unwrap();
    }
    // Recorded, not submitted; then the device is gone.
    let y = x.exp().unwrap();
    device.wgpu().unwrap().0.destroy();
    // A loop that never reads has to notice as well.
    let ended = (0..10_000).find_map(|_| step().err());
    assert!(matches!(ended, Some(Error::DeviceLost { .. })), "{ended:?}");
    lost("sync", device.sync());
    lost("flush", device.flush());
    lost("to_vec", y.to_vec::<f32>());
    lost("item", y.sum_all().and_then(|sum| sum.item()));
    lost("zeros", Tensor::zeros(&[4], DType::F32, device));
    lost("from_slice", Tensor::from_slice(&[1.0f32], &[1], device));
    lost("matmul", x.matmul(&x.transpose(0, 1).unwrap()));
    lost("copy", x.copy());
    lost("meter", losses.take());
    lost("profile", device.profile(|| ()));
    lost("guards", device.check_guards());
    device.trim();
    assert_eq!(device.memory().pooled_bytes, 0);
}

#[test]
fn a_lost_device_says_so_everywhere_and_nothing_hangs() {
    let Some(device) = fresh_gpu() else { return };
    let (done, wait) = channel();
    let worker = thread::spawn(move || {
        lose_in_training(&device);
        drop(device);
        done.send(()).ok();
    });
    let outcome = wait.recv_timeout(Duration::from_secs(60));
    assert!(!matches!(outcome, Err(std::sync::mpsc::RecvTimeoutError::Timeout)), "something hangs");
    worker.join().unwrap();
    // Others are as they were.
    let Some(other) = fresh_gpu() else { return };
    assert_eq!(Tensor::ones(&[3], DType::F32, &other).unwrap().to_vec::<f32>().unwrap(), [1.0; 3]);
}

#[test]
fn exhausted_memory_is_an_error_and_training_goes_on() {
    for device in [fresh_gpu()].into_iter().flatten() {
        let layer = Linear::new(64, 64, true, &Build::new(&device)).unwrap();
        let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), 1e-3, Group::of(&layer)).unwrap();
        let mut step = |rows: usize| {
            let x = Tensor::ones(&[rows, 64], DType::F32, &device)?;
            let loss = layer.forward(&x)?.square()?.mean_all()?;
            optimizer.step(&loss.backward()?)?;
            loss.item()
        };
        let before = step(16).unwrap();
        device.set_memory_limit(Some(device.memory().live_bytes + (4 << 20)));
        match step(100_000) {
            Err(Error::OutOfMemory { requested, in_use, limit, .. }) => assert!(requested + in_use > limit),
            other => panic!("{other:?}"),
        }
        let after = step(16).unwrap();
        assert!(after.is_finite() && after != before);
    }
}
