//! Unified Normalization.

use wgrad::nn::{Build, Module};
use wgrad::{DType, autograd};
use wgrad_models::norm::{UnifiedNorm, UnifiedNormConfig};
use wgrad_tests::{Random, assert_close, each_device};

use super::{Matrix, close, draw, mean, param, settings, tensor, value};

/// Algorithms 1 and 2 of Yang et al. with the authors' program, number by number.
struct UnifiedReference {
    a: Matrix,
    b: Matrix,
    v: Vec<f64>,
    e: Vec<f64>,
    t: usize,
}

impl UnifiedReference {
    fn new(window: usize, channels: usize) -> Self {
        let zeros = vec![vec![0.0; channels]; window];
        UnifiedReference { a: zeros.clone(), b: zeros, v: vec![1.0; channels], e: vec![0.0; channels], t: 0 }
    }

    /// `(y, dx)` for the gradient `g` of y, without gain and bias.
    fn step(&mut self, config: &UnifiedNormConfig, x: &Matrix, g: &Matrix) -> (Matrix, Matrix) {
        self.t += 1;
        let (m, channels, t, eps) = (config.window, self.v.len(), self.t, config.eps);
        let valid = vec![true; x.len()];
        let q: Vec<f64> = (0..channels).map(|c| mean(&valid, c, |i, c| x[i][c] * x[i][c])).collect();
        let roots: Vec<f64> = self.a.iter().flatten().map(|a| a.sqrt()).collect();
        let centre = roots.iter().sum::<f64>() / roots.len() as f64;
        let spread = roots.iter().map(|r| (r - centre).powi(2)).sum::<f64>() / (roots.len() as f64 - 1.0);
        let geometric =
            |a: &Matrix, c: usize| (a.iter().map(|row| row[c].max(1e-12).ln()).sum::<f64>() / m as f64).exp();
        self.a[t % m] = q.clone();
        let mut alone = m == 1;
        if t >= config.warmup && config.filter {
            let arithmetic = |c: usize| self.a.iter().map(|row| row[c]).sum::<f64>() / m as f64;
            if (0..channels).any(|c| arithmetic(c) - geometric(&self.a, c) > spread * m as f64) {
                self.a[t % m] = self.v.clone();
                alone = true;
            }
        }
        let early = t <= m || t < config.warmup || alone;
        let (mut y, mut dx) = (x.clone(), g.clone());
        for c in 0..channels {
            let u = if early { q[c] } else { geometric(&self.a, c) };
            let settled = t > config.warmup.max(1000) && !alone;
            let r = if settled { ((u + eps) / (self.v[c] + eps)).sqrt().clamp(0.2, 5.0) } else { 1.0 };
            self.v[c] = config.keep * self.v[c] + (1.0 - config.keep) * u;
            let z = |i: usize| x[i][c] / (u + eps).sqrt();
            let k = mean(&valid, c, |i, c| r * g[i][c] * z(i));
            self.b[t % m][c] = if alone { self.e[c] } else { k };
            let average = if early { k } else { self.b.iter().map(|row| row[c]).sum::<f64>() / m as f64 };
            self.e[c] = config.keep * self.e[c] + (1.0 - config.keep) * average;
            for i in 0..x.len() {
                y[i][c] = r * z(i);
                dx[i][c] = (r * g[i][c] - if alone { average } else { self.e[c] } * z(i)) / (u + eps).sqrt();
            }
        }
        (y, dx)
    }
}

#[test]
fn unified_norm_follows_its_recurrences() {
    let channels = 2;
    for (device, dtype, tolerance) in settings() {
        // Results are rescaled from step 1001 on; on a software GPU that many steps take long.
        let steps = if device.is_gpu() { 12 } else { 1020 };
        for (window, filter) in [(4, false), (3, true), (1, false)] {
            let config = UnifiedNormConfig { window, filter, warmup: 6, ..UnifiedNormConfig::default() };
            let norm = UnifiedNorm::new(config, channels, &Build::new(&device).with_dtype(dtype)).unwrap();
            let mut reference = UnifiedReference::new(window, channels);
            let mut random = Random::new(6);
            for step in 0..steps {
                let scale = if step % 10 == 9 { 30.0 } else { 1.0 };
                let (x, g) = (draw(5, channels, scale, &mut random), draw(5, channels, 1.0, &mut random));
                let (want, dx) = reference.step(&config, &x, &g);
                let leaf = tensor(&x, dtype, &device).requires_grad();
                let y = norm.forward(&leaf, None).unwrap();
                let gradients = autograd::backward(&[(&y, tensor(&g, dtype, &device))], &[], false).unwrap();
                if !(40..=990).contains(&step) {
                    let flat = |m: &Matrix| m.iter().flatten().copied().collect::<Vec<f64>>();
                    let what = |name: &str| format!("{name}, window {window}, step {step}");
                    close(&what("y"), &y.to_f64_vec().unwrap(), &flat(&want), tolerance);
                    let got = gradients.get(&leaf).unwrap().to_f64_vec().unwrap();
                    close(&what("dx"), &got, &flat(&dx), tolerance);
                    close(&what("v"), &value(&norm, "running_square"), &reference.v, tolerance);
                    close(&what("e"), &value(&norm, "running_product"), &reference.e, tolerance);
                }
            }
        }
    }
}

/// A batch a hundred times as large: its place in the window is taken by the running mean square, it is divided by its own, and the
/// geometric mean of the next batches does not see it.
#[test]
fn unified_norm_filters_an_outlier() {
    let config = UnifiedNormConfig { warmup: 2, filter: true, ..UnifiedNormConfig::default() };
    each_device(|device| {
        let norm = UnifiedNorm::new(config, 2, &Build::new(device)).unwrap();
        let mut random = Random::new(7);
        let mut batch = |scale| tensor(&draw(64, 2, scale, &mut random), DType::F32, device);
        for _ in 0..12 {
            norm.forward(&batch(1.0), None).unwrap();
        }
        let running = value(&norm, "running_square");
        let y = norm.forward(&batch(100.0), None).unwrap();
        let own = y.square().unwrap().mean(&[0], false).unwrap().to_f64_vec().unwrap();
        assert_close("divided by its own mean square", &own, &[1.0, 1.0], 1e-3, 0.0);
        let squares = value(&norm, "squares");
        assert_close("the window keeps out of it", &squares[squares.len() - 2..], &running, 1e-6, 1e-6);
        let next = norm.forward(&batch(1.0), None).unwrap();
        let size = next.square().unwrap().mean_all().unwrap().item().unwrap();
        assert!((0.5..2.0).contains(&size), "the next batch is as ever: {size}");
    });
}

/// In evaluation norm and linear layer are one linear layer.
#[test]
fn unified_norm_folds_into_the_next_layer() {
    each_device(|device| {
        let build = Build::new(device);
        let norm = UnifiedNorm::new(UnifiedNormConfig::default(), 5, &build).unwrap();
        let mut random = Random::new(8);
        let mut rows = |n, m| tensor(&draw(n, m, 1.0, &mut random), DType::F32, device);
        param(&norm, "weight").set(&rows(1, 5).squeeze(0).unwrap()).unwrap();
        param(&norm, "bias").set(&rows(1, 5).squeeze(0).unwrap()).unwrap();
        let x = rows(9, 5);
        norm.forward(&x, None).unwrap();
        norm.train(false);
        let (weight, bias) = (rows(3, 5), rows(1, 3).squeeze(0).unwrap());
        let apart = norm.forward(&x, None).unwrap().linear(&weight, Some(&bias)).unwrap().to_f64_vec().unwrap();
        let (weight, bias) = norm.fold(&weight, Some(&bias)).unwrap();
        let folded = x.linear(&weight, Some(&bias)).unwrap().to_f64_vec().unwrap();
        close("folded", &folded, &apart, 1e-6);
        assert!(norm.fold(&x.transpose(0, 1).unwrap(), None).is_err());
    });
}
