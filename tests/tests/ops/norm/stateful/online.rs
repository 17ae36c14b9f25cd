//! Online Normalization.

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Tensor, autograd};
use wgrad_models::norm::{Compensation, OnlineNorm, OnlineNormConfig};
use wgrad_tests::{Random, assert_close};

use super::{Matrix, close, draw, settings, tensor, value};

/// Equations 8 to 11 of Chiley et al., sample by sample.
#[derive(Default)]
struct OnlineReference {
    mean: f64,
    var: f64,
    p: f64,
    w: f64,
}

impl OnlineReference {
    /// `(y, dx)` of one channel of a sample with several places.
    fn step(&mut self, config: &OnlineNormConfig, x: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let average = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (keep, back) = (config.forward_keep, config.backward_keep);
        let root = (self.var + config.eps).sqrt();
        let y: Vec<f64> = x.iter().map(|v| (v - self.mean) / root).collect();
        let own = average(x);
        let spread = average(&x.iter().map(|v| (v - own).powi(2)).collect::<Vec<_>>());
        self.var = keep * self.var + (1.0 - keep) * spread + keep * (1.0 - keep) * (own - self.mean).powi(2);
        self.mean += (1.0 - keep) * (own - self.mean);
        let g: Vec<f64> = dy.iter().zip(&y).map(|(dy, y)| dy - (1.0 - back) * self.p * y).collect();
        self.p += average(&g.iter().zip(&y).map(|(g, y)| g * y).collect::<Vec<_>>());
        let dx: Vec<f64> = g.iter().map(|g| g / root - (1.0 - back) * self.w).collect();
        self.w += average(&dx);
        (y, dx)
    }
}

#[test]
fn online_norm_follows_its_recurrences() {
    let (samples, places, channels) = (11, 3, 2);
    let config = OnlineNormConfig {
        forward_keep: 0.9,
        backward_keep: 0.8,
        compensation: Compensation::Off,
        ..OnlineNormConfig::default()
    };
    for (device, dtype, tolerance) in settings() {
        let norm = OnlineNorm::new(config, channels, &Build::new(&device).with_dtype(dtype)).unwrap();
        let mut references = [(); 2].map(|()| OnlineReference { var: 1.0, ..OnlineReference::default() });
        let mut random = Random::new(9);
        for _ in 0..3 {
            let (x, dy) = (
                draw(samples * places, channels, 1.0, &mut random),
                draw(samples * places, channels, 1.0, &mut random),
            );
            let (mut want_y, mut want_dx) = (x.clone(), x.clone());
            for sample in 0..samples {
                let rows = sample * places..(sample + 1) * places;
                for (c, reference) in references.iter_mut().enumerate() {
                    let channel = |m: &Matrix| m[rows.clone()].iter().map(|row| row[c]).collect::<Vec<f64>>();
                    let (y, dx) = reference.step(&config, &channel(&x), &channel(&dy));
                    for (i, row) in rows.clone().enumerate() {
                        (want_y[row][c], want_dx[row][c]) = (y[i], dx[i]);
                    }
                }
            }
            let shaped =
                |m: &Matrix| tensor(m, dtype, &device).reshape(&[samples as isize, places as isize, -1]).unwrap();
            let leaf = shaped(&x).requires_grad();
            let y = norm.forward(&leaf).unwrap();
            let gradients = autograd::backward(&[(&y, shaped(&dy))], &[], false).unwrap();
            let flat = |m: &Matrix| m.iter().flatten().copied().collect::<Vec<f64>>();
            close("y", &y.to_f64_vec().unwrap(), &flat(&want_y), tolerance);
            close("dx", &gradients.get(&leaf).unwrap().to_f64_vec().unwrap(), &flat(&want_dx), tolerance);
            let states = |f: fn(&OnlineReference) -> f64| references.iter().map(f).collect::<Vec<f64>>();
            close("mean", &value(&norm, "running_mean"), &states(|r| r.mean), tolerance);
            close("var", &value(&norm, "running_var"), &states(|r| r.var), tolerance);
            close("p", &value(&norm, "along_y"), &states(|r| r.p), tolerance);
            close("w", &value(&norm, "along_ones"), &states(|r| r.w), tolerance);
        }
    }
}

/// The same stream in batches of 1, 8 and 64 gives the same results; they come to have mean 0 and variance 1; and on average gradients are
/// orthogonal to ones and to the results.
#[test]
fn online_norm_does_not_depend_on_the_batch() {
    let config = OnlineNormConfig {
        forward_keep: 0.99,
        backward_keep: 0.9,
        compensation: Compensation::Off,
        ..OnlineNormConfig::default()
    };
    let device = Device::cpu();
    let mut random = Random::new(10);
    let x: Matrix = (0..4096).map(|_| vec![3.0 + 2.0 * random.normal()]).collect();
    // A gradient that has a part along ones and along the result.
    let dy: Matrix = x.iter().map(|row| vec![0.7 + 0.4 * row[0] + random.normal()]).collect();
    let run = |batch: usize| {
        let norm = OnlineNorm::new(config, 1, &Build::new(&device).with_dtype(DType::F64)).unwrap();
        let (mut y, mut dx) = (Vec::new(), Vec::new());
        for (x, dy) in x.chunks(batch).zip(dy.chunks(batch)).take(1024 / batch * if batch == 64 { 4 } else { 1 }) {
            let leaf = tensor(&x.to_vec(), DType::F64, &device).requires_grad();
            let out = norm.forward(&leaf).unwrap();
            let seed = tensor(&dy.to_vec(), DType::F64, &device);
            let gradients = autograd::backward(&[(&out, seed)], &[], false).unwrap();
            y.extend(out.to_f64_vec().unwrap());
            dx.extend(gradients.get(&leaf).unwrap().to_f64_vec().unwrap());
        }
        (y, dx)
    };
    let (y, dx) = run(64);
    for batch in [1, 8] {
        let (small_y, small_dx) = run(batch);
        close("y", &small_y, &y[..small_y.len()], 1e-9);
        close("dx", &small_dx, &dx[..small_dx.len()], 1e-9);
    }
    let late = 1024..y.len();
    let average = |f: &dyn Fn(usize) -> f64| late.clone().map(f).sum::<f64>() / late.len() as f64;
    let (mean, square) = (average(&|i| y[i]), average(&|i| y[i] * y[i]));
    assert!(mean.abs() < 0.05 && (square - 1.0).abs() < 0.08, "mean {mean}, mean square {square}");
    let (ones, along) = (average(&|i| dx[i]), average(&|i| dx[i] * y[i]));
    assert!(ones.abs() < 0.01 && along.abs() < 0.02, "along ones {ones}, along the result {along}");
    let upstream = average(&|i| dy[i][0]);
    assert!(upstream > 1.0, "there was something to take off: {upstream}");
}

/// Rails have no gradient; layer scaling leaves each sample a mean square of one.
#[test]
fn compensation_of_online_norm() {
    let device = Device::cpu();
    let build = Build::new(&device);
    let x = Tensor::from_slice(&[0.5f32, 9.0, -9.0, 1.0], &[2, 2], &device).unwrap().requires_grad();
    let with = |compensation| OnlineNormConfig { compensation, ..OnlineNormConfig::default() };
    let norm = OnlineNorm::new(with(Compensation::Clamp(5.0)), 2, &build).unwrap();
    norm.train(false);
    let y = norm.forward(&x).unwrap();
    assert_close("rails", &y.to_f64_vec().unwrap(), &[0.5, 5.0, -5.0, 1.0], 1e-4, 0.0);
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert_close("rails", &gradients.get(&x).unwrap().to_f64_vec().unwrap(), &[1.0, 0.0, 0.0, 1.0], 1e-4, 0.0);
    let norm = OnlineNorm::new(with(Compensation::LayerScale), 2, &build).unwrap();
    let squares = norm.forward(&x).unwrap().square().unwrap().mean(&[1], false).unwrap().to_f64_vec().unwrap();
    assert_close("layer scaling", &squares, &[1.0, 1.0], 1e-4, 0.0);
}
