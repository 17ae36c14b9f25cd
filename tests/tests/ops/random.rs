//! Random tensors and dropout.

use wgrad::rng::{philox4x32_10, unit_f32};
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{assert_close, assert_equal, each_device, expect_error, gpu};

/// What is drawn from a seed on.
pub(crate) fn at<T>(device: &Device, seed: u64, draw: impl FnOnce() -> T) -> T {
    device.set_seed(seed);
    draw()
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
}

/// The convention that makes a number a function of seed, draw and element, on every device.
#[test]
fn uniform_is_philox() {
    let seed = 0x0123_4567_89ab_cdef_u64;
    let want = |draw: u32| -> Vec<f32> {
        let word = |i: u32| philox4x32_10([i / 4, 0, draw, 0], [seed as u32, (seed >> 32) as u32])[(i % 4) as usize];
        (0..1003).map(|i| unit_f32(word(i))).collect()
    };
    each_device(|device| {
        let (first, second) = at(device, seed, || {
            let draw = || Tensor::uniform(0.0, 1.0, &[17, 59], DType::F32, device).unwrap().to_vec::<f32>().unwrap();
            (draw(), draw())
        });
        assert_equal("first draw", &first, &want(0));
        assert_equal("second draw", &second, &want(1));
    });
}

#[test]
fn a_restored_state_draws_the_same_again() {
    each_device(|device| {
        Tensor::normal(0.0, 1.0, &[5], DType::F32, device).unwrap();
        let state = device.rng_state();
        let draw = || Tensor::normal(0.0, 1.0, &[7], DType::F32, device).unwrap().to_vec::<f32>().unwrap();
        let (first, second) = (draw(), draw());
        device.set_rng_state(state);
        assert_equal("replay", &draw(), &first);
        assert_equal("replay", &draw(), &second);
        assert_ne!(first, second);
    });
}

#[test]
fn devices_draw_alike() {
    let Some(gpu) = gpu() else { return };
    let cpu = Device::new_cpu();
    let both = |atol: f64, rtol: f64, what: &str, draw: &dyn Fn(&Device) -> wgrad::Result<Tensor>| {
        let read = |device: &Device| at(device, 77, || draw(device).unwrap().to_f64_vec().unwrap());
        assert_close(what, &read(gpu), &read(&cpu), atol, rtol);
    };
    let shape = [3001];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let unit = match dtype {
            DType::F32 => 1e-6,
            DType::F16 => 1e-3,
            _ => 8e-3,
        };
        both(unit, unit, "uniform", &|d| Tensor::uniform(-2.0, 5.0, &shape, dtype, d));
        both(unit, unit, "normal", &|d| Tensor::normal(0.5, 2.0, &shape, dtype, d));
        both(unit, unit, "gumbel", &|d| Tensor::gumbel(&shape, dtype, d));
    }
    both(0.0, 0.0, "bernoulli", &|d| Tensor::bernoulli(0.3, &shape, d));
    both(0.0, 0.0, "randint", &|d| Tensor::randint(-7, 12, &shape, DType::I32, d));
    both(0.0, 0.0, "randint", &|d| Tensor::randint(5, i64::from(u32::MAX), &shape, DType::U32, d));
}

#[test]
fn ranges() {
    let cpu = Device::new_cpu();
    let read = |x: wgrad::Result<Tensor>| x.unwrap().to_f64_vec().unwrap();
    let n = 200_000;
    let uniform = at(&cpu, 1, || read(Tensor::uniform(1.0, 2.0, &[n], DType::F32, &cpu)));
    assert!(uniform.iter().all(|v| (1.0..2.0).contains(v)));
    let (mean, variance) = mean_and_variance(&uniform);
    assert!((mean - 1.5).abs() < 3e-3 && (variance - 1.0 / 12.0).abs() < 1e-3, "{mean} {variance}");
    let normal = at(&cpu, 2, || read(Tensor::normal(3.0, 0.5, &[n], DType::F64, &cpu)));
    let (mean, variance) = mean_and_variance(&normal);
    assert!((mean - 3.0).abs() < 5e-3 && (variance - 0.25).abs() < 4e-3, "{mean} {variance}");
    // Neighbours share a radius, but are independent.
    let pairs: f64 = normal.chunks_exact(2).map(|p| (p[0] - 3.0) * (p[1] - 3.0)).sum::<f64>() / (n as f64 / 2.0);
    assert!(pairs.abs() < 4e-3, "{pairs}");
    let die = at(&cpu, 3, || read(Tensor::randint(1, 7, &[n], DType::U32, &cpu)));
    for face in 1..=6 {
        let count = die.iter().filter(|&&v| v == f64::from(face)).count() as f64;
        assert!((count - n as f64 / 6.0).abs() < 4.0 * 167.0, "{face}: {count}");
    }
    let coin = at(&cpu, 4, || read(Tensor::bernoulli(0.01, &[n], &cpu)));
    assert!((coin.iter().sum::<f64>() - 2000.0).abs() < 4.0 * 44.5);
    assert!(read(Tensor::bernoulli(1.0, &[100], &cpu)).iter().all(|&v| v == 1.0));
    assert!(read(Tensor::bernoulli(0.0, &[100], &cpu)).iter().all(|&v| v == 0.0));
}

/// `exp(-gumbel)` is exponential: `P(E < t) = 1 - exp(-t)`, which is counted deep in both tails. Noise of a 24-bit float has
/// nothing below 6e-8; here E goes down to 2^-42.
#[test]
fn gumbel_tails() {
    let cpu = Device::new_cpu();
    let n = 4_000_000;
    let noise = at(&cpu, 5, || Tensor::gumbel(&[n], DType::F64, &cpu).unwrap().to_vec::<f64>().unwrap());
    let exponential: Vec<f64> = noise.iter().map(|g| (-g).exp()).collect();
    for t in [1e-5, 1e-4, 0.01, 0.5, 1.0, 3.0, 8.0, 11.0] {
        let p = -f64::exp_m1(-t);
        let count = exponential.iter().filter(|&&e| e < t).count() as f64;
        let expected = n as f64 * p;
        let deviation = (expected * (1.0 - p)).sqrt();
        assert!((count - expected).abs() < 4.0 * deviation, "{t}: {count} of {expected} +- {deviation}");
    }
    let least = exponential.iter().fold(f64::MAX, |a, &b| a.min(b));
    let most = exponential.iter().fold(0.0, |a: f64, &b| a.max(b));
    // The least of n has mean 1/n, the greatest about ln n = 15.2.
    assert!(least > 1e-10 && least < 3e-6, "{least}");
    assert!(most > 12.0 && most < 24.0, "{most}");
    // Fine steps near zero: a float that counts in 2^-24 would repeat a few values.
    let mut small: Vec<u64> = exponential.iter().filter(|&&e| e < 1e-4).map(|e| e.to_bits()).collect();
    small.sort_unstable();
    small.dedup();
    assert!(small.len() > 350, "{}", small.len());
}

/// A class of probability 1e-5 beside common ones, over 1.2 million draws, and a test of the whole by chi square.
#[test]
fn categorical_draws_rare_classes() {
    let cpu = Device::new_cpu();
    let p = [0.5f64, 0.3, 0.19899, 0.001, 1e-5];
    let logits: Vec<f32> = p.iter().map(|p| p.ln() as f32).collect();
    let rows = 1_200_000;
    let table = Tensor::from_slice(&logits, &[1, 5], &cpu).unwrap().expand(&[rows, 5]).unwrap();
    let drawn = at(&cpu, 6, || table.categorical().unwrap().to_vec::<u32>().unwrap());
    let mut counts = [0f64; 5];
    for class in drawn {
        counts[class as usize] += 1.0;
    }
    let expected = p.map(|p| p * rows as f64);
    let chi: f64 = counts.iter().zip(&expected).map(|(c, e)| (c - e).powi(2) / e).sum();
    // Four degrees of freedom: beyond 18.5 in one of a thousand.
    assert!(chi < 18.5, "{chi}: {counts:?} for {expected:?}");
}

#[test]
fn categorical_on_every_device() {
    each_device(|device| {
        let logits = [0.0f32, -1e30, 3.0, -1e30, -1e30, 0.5];
        let x = Tensor::from_slice(&logits, &[2, 3], device).unwrap().expand(&[500, 2, 3]).unwrap();
        for x in [x.clone(), x.cast(DType::BF16).unwrap()] {
            let drawn = at(device, 7, || x.categorical().unwrap());
            assert_eq!((drawn.shape(), drawn.dtype()), ([500, 2].as_slice(), DType::U32));
            let drawn = drawn.to_vec::<u32>().unwrap();
            assert!(drawn.chunks(2).all(|row| row[0] != 1 && row[1] == 2));
            // P = 1 / (1 + e^3) = 0.047.
            let rare = drawn.chunks(2).filter(|row| row[0] == 0).count();
            assert!((8..45).contains(&rare), "{rare}");
        }
    });
}

#[test]
fn dropout_and_its_gradient() {
    each_device(|device| {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let ones = Tensor::ones(&[3, 1667], DType::F32, device).unwrap().cast(dtype).unwrap();
            // A view that is not aligned.
            let x = ones.flatten(0, -1).unwrap().narrow(0, 1, 5000).unwrap().requires_grad();
            let y = at(device, 8, || x.dropout(0.25).unwrap());
            let values = y.to_f64_vec().unwrap();
            let dropped = values.iter().filter(|&&v| v == 0.0).count();
            assert!(dropped.abs_diff(1250) < 4 * 31, "{dropped}");
            assert!(values.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 5e-3));
            let grads = wgrad::autograd::backward(&[(&y, x.ones_like().unwrap())], &[], false).unwrap();
            assert_equal("the same mask", &grads.get(&x).unwrap().to_f64_vec().unwrap(), &values);
            let again = at(device, 8, || x.dropout(0.25).unwrap().to_f64_vec().unwrap());
            assert_equal("replay", &again, &values);
        }
        let x = Tensor::ones(&[4], DType::F32, device).unwrap().requires_grad();
        assert_equal("p = 0", &x.dropout(0.0).unwrap().to_vec::<f32>().unwrap(), &[1.; 4]);
        let gone = x.dropout(1.0).unwrap();
        assert_equal("p = 1", &gone.to_vec::<f32>().unwrap(), &[0.; 4]);
        let grads = wgrad::autograd::backward(&[(&gone, x.ones_like().unwrap())], &[], false).unwrap();
        assert_equal("p = 1", &grads.get(&x).unwrap().to_vec::<f32>().unwrap(), &[0.; 4]);
    });
    let Some(gpu) = gpu() else { return };
    let read = |device: &Device| {
        at(device, 10, || {
            Tensor::ones(&[999], DType::F32, device).unwrap().dropout(0.5).unwrap().to_vec::<f32>().unwrap()
        })
    };
    assert_equal("both devices", &read(gpu), &read(&Device::new_cpu()));
}

/// What one handle draws, dropout of its tensors too, does not move what another one draws, and both tensors go together.
#[test]
fn handles_on_one_device_draw_apart() {
    each_device(|device| {
        let (a, b) = (device.with_seed(3), device.with_seed(3));
        let draw =
            |device: &Device| Tensor::uniform(0.0, 1.0, &[257], DType::F32, device).unwrap().dropout(0.5).unwrap();
        let (first, second) = (draw(&a), draw(&a));
        draw(device);
        assert_equal("first", &draw(&b).to_f64_vec().unwrap(), &first.to_f64_vec().unwrap());
        let apart = draw(&b).sub(&second).unwrap().abs().unwrap().sum_all().unwrap();
        assert_eq!(apart.item().unwrap(), 0.0);
        assert!(a.same(&b) && a.same(device) && !a.same(&Device::new_cpu()));
    });
}

#[test]
fn nothing_to_draw() {
    each_device(|device| {
        assert_eq!(
            Tensor::uniform(0.0, 1.0, &[0, 3], DType::F32, device).unwrap().to_vec::<f32>().unwrap(),
            [0.0f32; 0]
        );
        let none = Tensor::zeros(&[0], DType::F32, device).unwrap();
        assert_eq!(none.dropout(0.5).unwrap().shape(), [0]);
    });
}

#[test]
fn bad_input() {
    let cpu = Device::new_cpu();
    expect_error(Tensor::uniform(1.0, 1.0, &[1], DType::F32, &cpu), &["uniform", "1..1"]);
    expect_error(Tensor::uniform(0.0, f64::INFINITY, &[1], DType::F32, &cpu), &["uniform", "inf"]);
    expect_error(Tensor::uniform(0.0, 1.0, &[1], DType::I32, &cpu), &["uniform", "i32", "float"]);
    expect_error(Tensor::normal(0.0, -1.0, &[1], DType::F32, &cpu), &["normal", "-1"]);
    expect_error(Tensor::bernoulli(1.5, &[1], &cpu), &["bernoulli", "1.5"]);
    expect_error(Tensor::bernoulli(f64::NAN, &[1], &cpu), &["bernoulli", "NaN"]);
    expect_error(Tensor::randint(3, 3, &[1], DType::I32, &cpu), &["randint", "3..3"]);
    expect_error(Tensor::randint(-1, 3, &[1], DType::U32, &cpu), &["randint", "-1..3", "u32"]);
    expect_error(Tensor::randint(i64::MIN, i64::MAX, &[1], DType::I32, &cpu), &["randint"]);
    expect_error(Tensor::randint(0, 1, &[1], DType::F32, &cpu), &["randint", "f32"]);
    let x = Tensor::zeros(&[2], DType::F32, &cpu).unwrap();
    expect_error(x.dropout(-0.1), &["dropout", "-0.1"]);
    expect_error(x.cast(DType::I32).unwrap().dropout(0.5), &["dropout", "i32"]);
    expect_error(Tensor::scalar(0.0, DType::F32, &cpu).unwrap().categorical(), &["categorical", "no classes"]);
}
