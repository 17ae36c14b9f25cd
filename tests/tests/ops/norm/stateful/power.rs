//! PowerNorm.

use wgrad::nn::Build;
use wgrad::{DType, Device, Tensor, autograd};
use wgrad_models::norm::{PowerNorm, PowerNormConfig};
use wgrad_tests::Random;

use super::{Matrix, close, draw, mean, param, settings, tensor, value};

/// Section 3 of Shen et al., number by number.
struct PowerReference {
    phi: Vec<f64>,
    nu: Vec<f64>,
    t: usize,
}

impl PowerReference {
    /// `(xhat, dx)` for the gradient `g` of xhat.
    fn step(&mut self, config: &PowerNormConfig, x: &Matrix, g: &Matrix, valid: &[bool]) -> (Matrix, Matrix) {
        self.t += 1;
        let (mut y, mut dx) = (x.clone(), g.clone());
        for c in 0..self.phi.len() {
            let q = mean(valid, c, |i, c| x[i][c] * x[i][c]);
            let used = if self.t <= config.warmup { q } else { self.phi[c] };
            if self.t < config.warmup {
                let t = self.t as f64;
                self.phi[c] = self.phi[c] * (t - 1.0) / t + q / t;
            }
            self.phi[c] = config.forward_keep * self.phi[c] + (1.0 - config.forward_keep) * q;
            let back = if config.batch_backward { q } else { used };
            for i in 0..x.len() {
                y[i][c] = x[i][c] / (used + config.eps).sqrt();
                dx[i][c] = (g[i][c] - self.nu[c] * y[i][c]) / (back + config.eps).sqrt();
            }
            let gamma = mean(valid, c, |i, c| y[i][c] * y[i][c]);
            let lambda = mean(valid, c, |i, c| g[i][c] * y[i][c]);
            let rate = 1.0 - config.backward_keep;
            self.nu[c] = self.nu[c] * (1.0 - rate * gamma) + rate * lambda;
        }
        (y, dx)
    }
}

#[test]
fn power_norm_follows_its_recurrences() {
    let (rows, channels) = (7, 3);
    for (device, dtype, tolerance) in settings() {
        for (warmup, batch_backward, masked) in [(3, false, false), (3, true, true), (0, false, true)] {
            let config = PowerNormConfig { warmup, batch_backward, groups: None, ..PowerNormConfig::default() };
            let norm = PowerNorm::new(config, channels, &Build::new(&device).with_dtype(dtype)).unwrap();
            let gain = [0.5, -1.5, 2.0];
            param(&norm, "weight").set(&tensor(&vec![gain.to_vec()], dtype, &device).squeeze(0).unwrap()).unwrap();
            let mut reference = PowerReference { phi: vec![1.0; 3], nu: vec![0.0; 3], t: 0 };
            let mut random = Random::new(1);
            for _ in 0..7 {
                let (x, dy) = (draw(rows, channels, 1.0, &mut random), draw(rows, channels, 1.0, &mut random));
                let valid: Vec<bool> = (0..rows).map(|i| !masked || i % 3 != 2).collect();
                let g: Matrix =
                    dy.iter().map(|row| row.iter().zip(gain).map(|(dy, gain)| dy * gain).collect()).collect();
                let (xhat, dx) = reference.step(&config, &x, &g, &valid);
                let leaf = tensor(&x, dtype, &device).requires_grad();
                let mask = Tensor::from_slice(&valid, &[rows], &device).unwrap();
                let y = norm.forward(&leaf, masked.then_some(&mask)).unwrap();
                let seed = tensor(&dy, dtype, &device);
                let gradients = autograd::backward(&[(&y, seed)], &[], false).unwrap();
                let of = |m: &Matrix, f: &dyn Fn(f64, usize) -> f64| -> Vec<f64> {
                    m.iter().flat_map(|row| row.iter().enumerate().map(|(c, &v)| f(v, c))).collect()
                };
                close("y", &y.to_f64_vec().unwrap(), &of(&xhat, &|v, c| v * gain[c]), tolerance);
                close("dx", &gradients.get(&leaf).unwrap().to_f64_vec().unwrap(), &of(&dx, &|v, _| v), tolerance);
                let dgain: Vec<f64> = (0..channels).map(|c| (0..rows).map(|i| dy[i][c] * xhat[i][c]).sum()).collect();
                let got = param(&norm, "weight").gradient(&gradients).unwrap().to_f64_vec().unwrap();
                close("gradient of the gain", &got, &dgain, tolerance);
                close("phi", &value(&norm, "running_phi"), &reference.phi, tolerance);
                close("nu", &value(&norm, "running_nu"), &reference.nu, tolerance);
            }
            assert_eq!(value(&norm, "steps"), [7.0]);
        }
    }
}

/// Within the warm-up the forward pass is exact batch norm without the mean; and for an input and a gradient that stay the same, the
/// running statistic takes the gradient there too: no part of it is left along the result (proposition 4 of the paper).
#[test]
fn power_norm_tends_to_the_exact_gradient() {
    let device = Device::cpu();
    let config = PowerNormConfig { warmup: 1_000, groups: None, ..PowerNormConfig::default() };
    let norm = PowerNorm::new(config, 2, &Build::new(&device).with_dtype(DType::F64)).unwrap();
    let mut random = Random::new(2);
    let (x, dy) = (draw(9, 2, 1.0, &mut random), draw(9, 2, 1.0, &mut random));
    let (x, dy) = (tensor(&x, DType::F64, &device).requires_grad(), tensor(&dy, DType::F64, &device));
    let gradient = |y: &Tensor| {
        let gradients = autograd::backward(&[(y, dy.clone())], &[], false).unwrap();
        gradients.get(&x).unwrap().to_f64_vec().unwrap()
    };
    let mean = x.square().unwrap().mean(&[0], true).unwrap();
    let exact = x.div(&mean.add_scalar(1e-5).unwrap().sqrt().unwrap()).unwrap();
    let want = gradient(&exact);
    let mut off = Vec::new();
    for _ in 0..200 {
        let y = norm.forward(&x, None).unwrap();
        close("forward", &y.to_f64_vec().unwrap(), &exact.to_f64_vec().unwrap(), 1e-12);
        let largest = gradient(&y).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        off.push(largest);
    }
    assert!(off[0] > 1e-2 && off[199] < 1e-4, "{} to {}", off[0], off[199]);
}

/// The running mean square moves less than the variance of a batch, by about sqrt((1 - keep) / (1 + keep)) = 0.23.
#[test]
fn power_norm_fluctuates_less_than_batches_do() {
    let config = PowerNormConfig { warmup: 0, groups: None, ..PowerNormConfig::default() };
    let norm = PowerNorm::new(config, 1, &Build::new(&Device::cpu()).with_dtype(DType::F64)).unwrap();
    let mut random = Random::new(3);
    let (mut running, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..600 {
        let x = draw(16, 1, 1.0, &mut random);
        batches.push(x.iter().map(|row| row[0] * row[0]).sum::<f64>() / 16.0);
        norm.forward(&tensor(&x, DType::F64, &Device::cpu()), None).unwrap();
        running.push(value(&norm, "running_phi")[0]);
    }
    let deviation = |v: &[f64]| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64).sqrt()
    };
    let ratio = deviation(&running[100..]) / deviation(&batches[100..]);
    assert!((0.15..0.33).contains(&ratio), "{ratio}");
}
