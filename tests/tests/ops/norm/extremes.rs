//! Norms at the limits: very wide and very many rows, hardly any variance, numbers near the largest, and the same bits each time.

use half::f16;
use wgrad::{DType, Device, NormKind, NormOptions, Tensor};
use wgrad_tests::{Random, assert_close, assert_equal, devices, each_device};

const KINDS: [NormKind; 6] =
    [NormKind::Layer, NormKind::Centre, NormKind::Rms, NormKind::Crms, NormKind::Unit(2.0), NormKind::Lp(3.0)];

/// Values of the norm, and gradients of x and (where the kind has them) gain and bias. All numbers are those of f32.
fn run(kind: NormKind, eps: f64, x: &Tensor, wide: bool) -> Vec<Vec<f64>> {
    let (device, dtype) = (x.device(), if wide { DType::F64 } else { x.dtype() });
    let cols = x.size(-1).unwrap();
    let x = x.cast(dtype).unwrap().requires_grad();
    let wave = |n: usize, low: i64| {
        let wave = Tensor::arange(low, low + n as i64, DType::F32, &Device::cpu()).unwrap().sin().unwrap();
        wave.to_device(device).unwrap().cast(dtype).unwrap()
    };
    let mut options = NormOptions::new(kind, eps);
    let mut leaves = vec![x.clone()];
    if kind != NormKind::Crms {
        let parameters = [wave(cols, 3), wave(cols, 5)].map(|p| p.requires_grad());
        (options.gain, options.bias) = (Some(parameters[0].clone()), Some(parameters[1].clone()));
        leaves.extend(parameters);
    }
    let y = x.row_norm(&options).unwrap();
    let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
    let weights = wave(x.elements(), 1).reshape(&shape).unwrap();
    let gradients = wgrad::autograd::backward(&[(&y, weights)], &[], false).unwrap();
    let of = |x: &Tensor| gradients.get(x).unwrap().to_f64_vec().unwrap();
    [vec![y.to_f64_vec().unwrap()], leaves.iter().map(of).collect()].concat()
}

fn draw(rows: usize, cols: usize, mean: f64, std: f64, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..rows * cols).map(|_| (mean + std * random.normal()) as f32).collect()
}

/// Values and gradients in f32 on every device against f64: within `tolerance` of the largest.
fn against_f64(kind: NormKind, eps: f64, values: &[f32], shape: &[usize], tolerance: f64) {
    let x = Tensor::from_slice(values, shape, &Device::cpu()).unwrap();
    let want = run(kind, eps, &x, true);
    each_device(|device| {
        let got = run(kind, eps, &x.to_device(device).unwrap(), false);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            // A gradient may be what is left of terms as large as the weights, which are about 1.
            let floor = if i == 0 { 1e-3 } else { 1.0 };
            let largest = want.iter().fold(floor, |m: f64, v| m.max(v.abs()));
            assert_close(
                &format!("{kind:?} {shape:?} on {device}, result {i}"),
                got,
                want,
                tolerance * largest,
                tolerance,
            );
        }
    });
}

#[test]
fn rows_of_any_width() {
    for kind in KINDS {
        for (rows, cols) in [(5, 1), (4, 3), (1, 255), (1, 257), (3, 768), (2, 8193), (1, 12289)] {
            against_f64(kind, 1e-5, &draw(rows, cols, 0.5, 1.0, 1), &[rows, cols], 1e-5);
        }
    }
}

#[test]
fn rows_of_a_million() {
    for kind in [NormKind::Layer, NormKind::Rms, NormKind::Crms] {
        against_f64(kind, 1e-5, &draw(2, 1 << 20, 0.5, 1.0, 2), &[2, 1 << 20], 2e-5);
    }
}

/// More rows than a dispatch has workgroups in one dimension, where a workgroup takes eight of them.
#[test]
fn half_a_million_rows() {
    against_f64(NormKind::Layer, 1e-3, &draw(600_001, 2, 0.0, 1.0, 3), &[600_001, 2], 2e-5);
}

#[test]
fn hardly_any_variance() {
    for kind in KINDS {
        against_f64(kind, 1e-12, &draw(3, 257, 0.0, 1e-4, 4), &[3, 257], 1e-4);
        // Deviations below the root of eps.
        against_f64(kind, 1e-5, &draw(3, 257, 0.0, 1e-6, 5), &[3, 257], 1e-5);
    }
}

/// Mean 10,000 and deviation 1: after the mean's rounding is corrected the error is that of the input. The sum of squares minus the
/// squared sum, which one pass would give, is far off.
#[test]
fn far_from_zero() {
    let x = draw(4, 1000, 1e4, 1.0, 6);
    each_device(|device| {
        let norm = |x: Tensor| x.layer_norm(None, None, 1e-5).unwrap().to_f64_vec().unwrap();
        let got = norm(Tensor::from_slice(&x, &[4, 1000], device).unwrap());
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let want = norm(Tensor::from_vec(wide, &[4, 1000], &Device::cpu()).unwrap());
        assert_close("far from zero", &got, &want, 1e-4, 0.0);
        let row = &x[..1000];
        let mean = row.iter().sum::<f32>() / 1000.0;
        let variance = row.iter().map(|v| v * v).sum::<f32>() / 1000.0 - mean * mean;
        let one_pass = f64::from((row[0] - mean) / (variance.max(0.0) + 1e-5).sqrt());
        assert!((one_pass - want[0]).abs() > 0.01, "one pass would do: {one_pass}, {}", want[0]);
    });
}

/// Constant rows, rows of zeros and rows of one element: finite, also without eps.
#[test]
fn nothing_to_divide_by() {
    for device in devices() {
        for kind in KINDS {
            for (eps, value) in [(0.0, 0.0), (0.0, 3.0), (1e-5, 0.0), (1e-5, 3.0)] {
                for cols in [1, 5, 64] {
                    let x = Tensor::full(value, &[2, cols], DType::F32, &device).unwrap();
                    let all = run(kind, eps, &x, false);
                    assert!(
                        all.iter().flatten().all(|v| v.is_finite()),
                        "{kind:?}, eps {eps}, {cols} of {value}: {all:?}"
                    );
                }
            }
        }
    }
}

/// Layer norm with every step rounded to f16, which the engine never does: what a norm of f16 has to be safe from.
fn naive(row: &[f16]) -> Vec<f64> {
    let sum = |values: &[f16]| {
        let mut values = values.to_vec();
        while values.len() > 1 {
            values = values.chunks(2).map(|pair| pair.iter().fold(f16::ZERO, |a, &b| a + b)).collect();
        }
        values[0]
    };
    let n = f16::from_f64(row.len() as f64);
    let mean = sum(row) / n;
    let squares: Vec<f16> = row.iter().map(|&v| (v - mean) * (v - mean)).collect();
    let deviation = f16::from_f64((sum(&squares) / n).to_f64().sqrt());
    row.iter().map(|&v| ((v - mean) / deviation).to_f64()).collect()
}

/// Gaussian rows of f16 at scales from 1e-4 to 1e4, one with an outlier, and rows next to the largest number.
#[test]
fn f16_neither_overflows_nor_vanishes() {
    let d = 1024;
    let halves = |values: &[f64]| values.iter().map(|&v| f16::from_f64(v)).collect::<Vec<f16>>();
    let mut random = Random::new(8);
    let normal: Vec<f64> = (0..d).map(|_| random.normal()).collect();
    let mut rows: Vec<Vec<f16>> =
        [1e-4, 1e-2, 1.0, 1e2, 1e4].map(|scale| halves(&normal.iter().map(|v| v * scale).collect::<Vec<_>>())).to_vec();
    let outlier = |i: usize, v: f64| if i == 0 { 2.7 * (d as f64).sqrt() } else { v };
    rows.push(halves(&normal.iter().enumerate().map(|(i, &v)| outlier(i, v)).collect::<Vec<_>>()));
    rows.push(halves(&(0..d).map(|i| if i % 2 == 0 { 65504.0 } else { -65504.0 }).collect::<Vec<_>>()));
    rows.push(halves(&(0..d).map(|i| 65504.0 - 32.0 * (i % 7) as f64).collect::<Vec<_>>()));
    for (i, row) in rows.iter().enumerate() {
        let wide: Vec<f64> = row.iter().map(|v| v.to_f64()).collect();
        let want = Tensor::from_vec(wide, &[d], &Device::cpu()).unwrap();
        for (name, options) in [
            ("layer", NormOptions::new(NormKind::Layer, 0.0)),
            ("safe layer", NormOptions { safe: true, ..NormOptions::new(NormKind::Layer, 0.0) }),
            ("rms", NormOptions::new(NormKind::Rms, 0.0)),
            ("fourth power", NormOptions::new(NormKind::Lp(4.0), 0.0)),
            ("sixteenth power", NormOptions::new(NormKind::Lp(16.0), 0.0)),
        ] {
            let want = want.row_norm(&options).unwrap().to_f64_vec().unwrap();
            each_device(|device| {
                let x = Tensor::from_slice(row, &[d], device).unwrap();
                let got = x.row_norm(&options).unwrap().to_f64_vec().unwrap();
                // Half a unit in the last place, of an outlier too.
                assert_close(&format!("{name} of row {i} on {device}"), &got, &want, 2e-4, 6e-4);
            });
        }
        let error = |got: Vec<f64>| {
            let want = want.layer_norm(None, None, 0.0).unwrap().to_f64_vec().unwrap();
            got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, |m: f64, e| if e < m { m } else { e })
        };
        if matches!(i, 0 | 3 | 4) {
            let error = error(naive(row));
            assert!(error.is_nan() || error > 0.5, "f16 arithmetic would do for row {i}: off by {error}");
        }
    }
}

/// The pre-normaliser: no square overflows near the largest f32, or vanishes near the smallest. Without it both happen.
#[test]
fn safe_from_the_largest_to_the_smallest() {
    let normal: Vec<f64> = draw(2, 300, 0.0, 1.0, 9).iter().map(|&v| f64::from(v)).collect();
    for scale in [1e37, 1e25, 1e-25, 1e-30] {
        let x: Vec<f32> = normal.iter().map(|v| (v * scale) as f32).collect();
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let wide = Tensor::from_vec(wide, &[2, 300], &Device::cpu()).unwrap();
        for kind in [NormKind::Layer, NormKind::Rms, NormKind::Crms, NormKind::Unit(2.0), NormKind::Lp(5.0)] {
            let safe = NormOptions { safe: true, ..NormOptions::new(kind, 0.0) };
            let want = wide.row_norm(&safe).unwrap().to_f64_vec().unwrap();
            each_device(|device| {
                let x = Tensor::from_slice(&x, &[2, 300], device).unwrap();
                let got = x.row_norm(&safe).unwrap().to_f64_vec().unwrap();
                assert_close(&format!("{kind:?} at {scale} on {device}"), &got, &want, 1e-5, 1e-5);
                if kind == NormKind::Layer {
                    let got = x.layer_norm(None, None, 0.0).unwrap().to_f64_vec().unwrap();
                    let off = got.iter().zip(&want).any(|(a, b)| (a - b).abs() > 0.5 || a.is_nan());
                    assert!(off, "squares would do at {scale} on {device}");
                }
            });
        }
    }
}

/// The order of additions is fixed: gradients of gain and bias are the same bits in every run.
#[test]
fn gradients_of_parameters_are_the_same_bits() {
    let x = draw(3001, 37, 0.0, 1.0, 10);
    each_device(|device| {
        let x = Tensor::from_slice(&x, &[3001, 37], device).unwrap();
        let first = run(NormKind::Layer, 1e-5, &x, false);
        for _ in 0..3 {
            for (a, b) in run(NormKind::Layer, 1e-5, &x, false).iter().zip(&first) {
                assert_equal("bits", a, b);
            }
        }
    });
}
