//! Rows of a million of every kind, long sums, halves at their limits, and the same bits in every run.

use half::f16;
use wgrad::{DType, Device, NormKind, NormOptions, Result, Tensor, autograd};
use wgrad_tests::{Random, assert_close, assert_equal, gpu};

use super::EPS;
use crate::random::at;

const LONG: usize = 1 << 20;

fn normal(shape: &[usize], seed: u64, dtype: DType, device: &Device) -> Tensor {
    let mut random = Random::new(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| (0.5 + random.normal()) as f32).collect();
    Tensor::from_vec(values, shape, device).unwrap().cast(dtype).unwrap()
}

/// As leaves of a dtype on a device, with all the bits of `x` if it is wider.
fn leaves(x: &[Tensor], dtype: DType, device: &Device) -> Vec<Tensor> {
    x.iter().map(|x| x.detach().cast(dtype).unwrap().to_device(device).unwrap().requires_grad()).collect()
}

/// The results of `f`, and the gradients of all leaves under weights that are the same everywhere.
fn all_of(x: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>) -> Vec<Vec<f64>> {
    let out = f(x).unwrap();
    let seeds: Vec<Tensor> = (1..).zip(&out).map(|(seed, y)| normal(y.shape(), seed, y.dtype(), y.device())).collect();
    let seeds: Vec<(&Tensor, Tensor)> = out.iter().zip(seeds).collect();
    let gradients = autograd::backward(&seeds, &[], false).unwrap();
    let of_leaves = x.iter().map(|x| gradients.get(x).unwrap());
    out.iter().chain(of_leaves).map(|x| x.to_f64_vec().unwrap()).collect()
}

/// Each result against f64 on the CPU device, relative to its largest number, or to the weights of the loss.
fn against_f64(
    what: &str,
    x: &[Tensor],
    dtype: DType,
    device: &Device,
    slack: f64,
    f: &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) {
    let got = all_of(&leaves(x, dtype, device), f);
    let want = all_of(&leaves(x, DType::F64, &Device::cpu()), f);
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        assert_close(&format!("{what}, {dtype} on {device}, result {at}"), got, want, slack * largest, slack);
    }
}

fn kind(kind: NormKind) -> impl Fn(&[Tensor]) -> Result<Vec<Tensor>> {
    move |x| {
        let (gain, bias) = (Some(x[1].clone()), Some(x[2].clone()));
        Ok(vec![x[0].row_norm(&NormOptions { gain, bias, ..NormOptions::new(kind, EPS) })?])
    }
}

fn parameters(cols: usize, dtype: DType) -> [Tensor; 2] {
    [3, 4].map(|seed| normal(&[cols], seed, dtype, &Device::cpu()))
}

#[test]
fn rows_of_a_million() {
    let cpu = Device::cpu();
    let x = |dtype| [&[normal(&[1, LONG], 2, dtype, &cpu)][..], &parameters(LONG, dtype)].concat();
    for each in [NormKind::Centre, NormKind::Unit(2.0), NormKind::Lp(3.0)] {
        against_f64(&format!("{each:?}"), &x(DType::F32), DType::F32, &cpu, 1e-5, &kind(each));
    }
    for (dtype, slack) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        against_f64("rms", &x(dtype), dtype, &cpu, slack, &kind(NormKind::Rms));
    }
    let Some(gpu) = gpu() else { return };
    against_f64("power", &x(DType::F32), DType::F32, gpu, 2e-5, &kind(NormKind::Lp(3.0)));
    against_f64("rms", &x(DType::F16), DType::F16, gpu, 2e-3, &kind(NormKind::Rms));
}

/// The sum is a result, and as long.
#[test]
fn sums_of_a_million() {
    let x: Vec<Tensor> = [1, 2].map(|seed| normal(&[1, LONG], seed, DType::F32, &Device::cpu())).to_vec();
    for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
        against_f64("norm of a sum", &x, DType::F32, device, 2e-5, &|x| {
            let (y, sum) = x[0].add_row_norm(&x[1], 0.0, &NormOptions::new(NormKind::Layer, EPS))?;
            Ok(vec![y, sum])
        });
    }
}

/// Both outputs and all gradients against the operations one after the other, without dropout and with it.
#[test]
fn long_sums_are_composed() {
    for cols in [768, 8193] {
        let x = [1, 2].map(|seed| normal(&[3, cols], seed, DType::F32, &Device::cpu())).to_vec();
        let x = [x, parameters(cols, DType::F32).to_vec()].concat();
        for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
            for p in [0.0, 0.3] {
                let options = |x: &[Tensor]| {
                    let (gain, bias) = (Some(x[2].clone()), Some(x[3].clone()));
                    NormOptions { gain, bias, ..NormOptions::new(NormKind::Layer, EPS) }
                };
                let fused = |x: &[Tensor]| {
                    let (y, sum) = at(device, 5, || x[0].add_row_norm(&x[1], p, &options(x)))?;
                    Ok(vec![y, sum])
                };
                let apart = |x: &[Tensor]| {
                    let sum = at(device, 5, || x[0].dropout(p))?.add(&x[1])?;
                    Ok(vec![wgrad::reference::norm(&sum, &options(x))?, sum])
                };
                let [got, want] = [&fused as &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>, &apart]
                    .map(|f| all_of(&leaves(&x, DType::F32, device), f));
                for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                    let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                    assert_close(&format!("{cols}, {p} on {device}, result {at}"), got, want, 1e-5 * largest, 1e-5);
                }
            }
        }
    }
}

/// Gradients of rows near the largest f16; and of two sums the norm of the one that f16 holds, though the other is infinite, and its norm no number.
#[test]
fn f16_near_overflow() {
    let cols = 512;
    let mut random = Random::new(7);
    let row: Vec<f64> = (0..cols).map(|_| random.uniform(-6.5e4, 6.5e4)).collect();
    let row: Vec<f16> =
        row.iter().chain(&row.iter().map(|v| v / 2.0).collect::<Vec<_>>()).map(|&v| f16::from_f64(v)).collect();
    let x = Tensor::from_slice(&row, &[2, cols], &Device::cpu()).unwrap();
    let all = [&[x][..], &parameters(cols, DType::F16)].concat();
    for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
        for each in [NormKind::Layer, NormKind::Rms] {
            against_f64(&format!("{each:?}"), &all, DType::F16, device, 2e-3, &kind(each));
        }
        let sum = |x: &[Tensor]| x[0].add_row_norm(&x[0], 0.0, &NormOptions::new(NormKind::Layer, EPS));
        let (y, total) = sum(&leaves(&all, DType::F16, device)).unwrap();
        let (want, exact) = sum(&leaves(&all, DType::F64, &Device::cpu())).unwrap();
        let [y, total, want, exact] = [y, total, want, exact].map(|x| x.to_f64_vec().unwrap());
        assert!(exact.iter().zip(&total).all(|(want, got)| (want.abs() >= 65520.0) == got.is_infinite()), "{device}");
        assert!(total[..cols].iter().any(|v| v.is_infinite()));
        assert!(y[..cols].iter().all(|v| v.is_nan()), "{device}");
        assert_close(&format!("norm of a sum on {device}"), &y[cols..], &want[cols..], 2e-3, 2e-3);
    }
}

/// The order of additions is fixed for every kind.
#[test]
fn gradients_of_every_kind_are_the_same_bits() {
    let cols = 37;
    let x = normal(&[3001, cols], 10, DType::F32, &Device::cpu());
    let all = [&[x][..], &parameters(cols, DType::F32)].concat();
    let kinds = [NormKind::Layer, NormKind::Centre, NormKind::Rms, NormKind::Unit(2.0), NormKind::Lp(3.0)];
    for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
        for each in kinds {
            let run = || all_of(&leaves(&all, DType::F32, device), &kind(each));
            let first = run();
            for _ in 0..2 {
                run().iter().zip(&first).for_each(|(a, b)| assert_equal("bits", a, b));
            }
        }
        let run = || {
            all_of(&leaves(&all[..1], DType::F32, device), &|x| {
                Ok(vec![x[0].row_norm(&NormOptions::new(NormKind::Crms, EPS))?])
            })
        };
        run().iter().zip(&run()).for_each(|(a, b)| assert_equal("bits", a, b));
    }
}
