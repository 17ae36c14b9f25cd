//! Norms of maps by amplitude and phase: the closed form against Fourier transforms.

use proptest::prelude::*;
use wgrad::nn::{Build, Module, Param};
use wgrad::{DType, Device, FftNorm, Result, Tensor, autograd};
use wgrad_models::norm::{PhaseBase, PhaseKind, PhaseNorm, PhaseNormConfig};
use wgrad_tests::{Input, assert_close, each_device, gradcheck, same_on_devices_within};

const EPS: f64 = 1e-3;
const BATCH: PhaseBase = PhaseBase::Batch { momentum: 0.1 };
const KINDS: [PhaseKind; 3] = [PhaseKind::Preserving, PhaseKind::ContentControlling, PhaseKind::StyleControlling];
/// The shares of the temperatures 1e-4 and 0.1.
const LOGITS: [f64; 2] = [1e-5, 9e-5];

fn engine<T>(result: wgrad_models::Result<T>) -> Result<T> {
    result.map_err(|e| wgrad::Error::argument("phase_norm", e.to_string()))
}

fn param(norm: &PhaseNorm, name: &str) -> Param {
    norm.named_parameters().into_iter().find(|(known, _)| known == name).expect(name).1
}

/// A new norm, with shares that are not equal.
fn new(kind: PhaseKind, base: PhaseBase, channels: usize, dtype: DType, device: &Device) -> PhaseNorm {
    let config = PhaseNormConfig { kind, base, eps: EPS };
    let norm = PhaseNorm::new(config, channels, &Build::new(device).with_dtype(dtype)).unwrap();
    if kind != PhaseKind::Preserving {
        let scale = if kind == PhaseKind::StyleControlling { 1e3 } else { 1.0 };
        let logits = Tensor::from_slice(&LOGITS.map(|v| v * scale), &[2], &Device::cpu()).unwrap();
        param(&norm, "logits").set(&logits.cast(dtype).unwrap().to_device(device).unwrap()).unwrap();
    }
    norm
}

/// The Fourier transform over the last two dimensions, or its inverse.
fn transform(re: &Tensor, im: &Tensor, inverse: bool) -> Result<(Tensor, Tensor)> {
    let mut parts = (re.clone(), im.clone());
    for _ in 0..2 {
        let (re, im) = match inverse {
            false => parts.0.fft(&parts.1, FftNorm::Backward)?,
            true => parts.0.ifft(&parts.1, FftNorm::Backward)?,
        };
        parts = (re.transpose(-1, -2)?, im.transpose(-1, -2)?);
    }
    Ok(parts)
}

/// Amplitude, and cosine and sine of the phase. Of the constant frequency of a map of mean zero the amplitude is zero, which has no slope:
/// a little is added under the root.
fn polar(x: &Tensor) -> Result<[Tensor; 3]> {
    let (re, im) = transform(x, &x.zeros_like()?, false)?;
    let amplitude = re.square()?.add(&im.square()?)?.add_scalar(1e-24)?.sqrt()?;
    Ok([amplitude.clone(), re.div(&amplitude)?, im.div(&amplitude)?])
}

/// The definition, by transforms, in training.
fn by_transforms(kind: PhaseKind, base: PhaseBase, x: &Tensor) -> Result<Tensor> {
    let normed = match base {
        PhaseBase::Batch { .. } => x.batch_norm(None, None, EPS)?,
        PhaseBase::Instance => x.instance_norm(None, None, EPS)?,
    };
    let mean = match base {
        PhaseBase::Batch { .. } => x.mean(&[0, 2, 3], true)?,
        PhaseBase::Instance => x.mean(&[2, 3], true)?,
    };
    let first = 1.0 / (1.0 + ((LOGITS[1] - LOGITS[0]) / 1e-4).exp());
    let [of_map, cosine, sine] = polar(x)?;
    let [of_normed, ..] = polar(&normed)?;
    let (amplitude, [cosine, sine]) = match kind {
        PhaseKind::Preserving => (of_normed, [cosine, sine]),
        PhaseKind::ContentControlling => {
            let [_, cosine, sine] = polar(&x.sub(&mean.mul_scalar(first)?)?)?;
            (of_normed, [cosine, sine])
        }
        PhaseKind::StyleControlling => {
            (of_normed.mul_scalar(first)?.add(&of_map.mul_scalar(1.0 - first)?)?, [cosine, sine])
        }
    };
    Ok(transform(&amplitude.mul(&cosine)?, &amplitude.mul(&sine)?, true)?.0)
}

fn maps(shape: &[usize], seed: u64) -> Input {
    // Means of both signs, none zero or near what the batch's makes of it: signs turn there. In four maps one turns by a share of it.
    let mut input = Input::normal(shape, seed);
    let area = shape[2] * shape[3];
    for (i, map) in input.values.chunks_mut(area).enumerate() {
        let n = (i / shape[1]) as f64;
        let offset = [0.8, -0.6, 1.5][i % shape[1] % 3] * (0.3 + 0.4 * n + 0.15 * n * n);
        let mean = map.iter().sum::<f64>() / area as f64;
        map.iter_mut().for_each(|v| *v += offset - mean);
    }
    input
}

#[test]
fn closed_form_is_that_of_transforms() {
    for kind in KINDS {
        for base in [BATCH, PhaseBase::Instance] {
            for shape in [[2, 3, 4, 4], [4, 2, 5, 7], [5, 1, 1, 3], [4, 2, 2, 1]] {
                let at = format!("{kind:?} by {base:?} of {shape:?}");
                let run = |dtype: DType, device: &Device| {
                    let x = maps(&shape, 3).stored(device, dtype).unwrap();
                    let y = new(kind, base, shape[1], dtype, device).forward(&x).unwrap();
                    (x, y)
                };
                let (x, y) = run(DType::F64, &Device::cpu());
                let want = by_transforms(kind, base, &x).unwrap();
                assert_close(&at, &y.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-9, 1e-9);
                // Gradients of both, weighed at random.
                let weights = Input::normal(&shape, 9).stored(&Device::cpu(), DType::F64).unwrap().detach();
                let gradient = |y: &Tensor| {
                    let gradients = autograd::backward(&[(y, weights.clone())], &[], false).unwrap();
                    gradients.get(&x).unwrap().to_f64_vec().unwrap()
                };
                assert_close(&format!("gradient of {at}"), &gradient(&y), &gradient(&want), 1e-7, 1e-7);
                each_device(|device| {
                    let (_, y) = run(DType::F32, device);
                    assert_close(&at, &y.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-5, 1e-5);
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn gradients(batch in 1usize..4, channels in 1usize..4, height in 1usize..5, width in 2usize..5, seed in 0u64..99) {
        for kind in KINDS {
            for base in [BATCH, PhaseBase::Instance] {
                let input = maps(&[batch, channels, height, width], seed);
                let name = format!("{kind:?} by {base:?}");
                gradcheck(&name, &[input], |x| engine(new(kind, base, channels, DType::F64, &Device::cpu()).forward(&x[0])));
            }
        }
    }
}

#[test]
fn devices_agree() {
    for kind in KINDS {
        for base in [BATCH, PhaseBase::Instance] {
            same_on_devices_within(8.0, &format!("{kind:?} by {base:?}"), &[maps(&[2, 3, 4, 5], 5)], |x| {
                engine(new(kind, base, 3, x[0].dtype(), x[0].device()).forward(&x[0]))
            });
        }
    }
}

/// The map that the specification of the project computed by hand.
#[test]
fn a_known_map() {
    let mut state = 71u64;
    let mut next = || {
        state = (1_664_525 * state + 1_013_904_223) % (1 << 32);
        state as f64 / f64::from(1u32 << 31) - 1.0
    };
    let values: Vec<f64> = (0..96).map(|_| next() + 0.5).collect();
    assert_close("values", &values[..4], &[0.027168, 0.937068, 0.367642, 0.092058], 1e-6, 0.0);
    let x = Tensor::from_slice(&values, &[2, 3, 4, 4], &Device::cpu()).unwrap();
    let config = PhaseNormConfig { eps: 1e-5, ..PhaseNormConfig::new(PhaseKind::Preserving) };
    let norm = PhaseNorm::new(config, 3, &Build::new(&Device::cpu()).with_dtype(DType::F64)).unwrap();
    let y = norm.forward(&x).unwrap().to_f64_vec().unwrap();
    assert_close("PCNorm", &y[..4], &[-1.036010, 0.707576, -0.383581, -0.911667], 1e-5, 0.0);
}

/// Evaluation uses the averages, which training moved towards the batch's mean and unbiased variance, and moves none.
#[test]
fn evaluation_by_averages() {
    let device = Device::cpu();
    let x = maps(&[3, 2, 4, 4], 7).stored(&device, DType::F64).unwrap().detach();
    for kind in [PhaseKind::Preserving, PhaseKind::ContentControlling] {
        let norm = new(kind, PhaseBase::Batch { momentum: 1.0 }, 2, DType::F64, &device);
        norm.forward(&x).unwrap();
        let value = |name| param(&norm, name).tensor().to_f64_vec().unwrap();
        let (mean, var) = x.batch_statistics().unwrap();
        assert_close("mean", &value("running_mean"), &mean.to_f64_vec().unwrap(), 1e-12, 0.0);
        assert_close("variance", &value("running_var"), &var.to_f64_vec().unwrap(), 1e-12, 1e-12);
        norm.train(false);
        let together = norm.forward(&x).unwrap().to_f64_vec().unwrap();
        let one = |i| norm.forward(&x.narrow(0, i, 1).unwrap()).unwrap().to_f64_vec().unwrap();
        assert_eq!(together, (0..3).flat_map(one).collect::<Vec<_>>(), "{kind:?}");
    }
    // By its own statistics a map is the same in both modes.
    let norm = new(PhaseKind::StyleControlling, PhaseBase::Instance, 2, DType::F64, &device);
    let trained = norm.forward(&x).unwrap().to_f64_vec().unwrap();
    norm.train(false);
    assert_eq!(trained, norm.forward(&x).unwrap().to_f64_vec().unwrap());
}

/// Gain and bias come after the phase, so that a gain below zero turns no phase.
#[test]
fn gain_and_bias_come_last() {
    let device = Device::cpu();
    let x = maps(&[2, 2, 3, 3], 8).stored(&device, DType::F64).unwrap().detach();
    let norm = new(PhaseKind::Preserving, BATCH, 2, DType::F64, &device);
    let plain = norm.forward(&x).unwrap();
    let of = |values: [f64; 2]| Tensor::from_slice(&values, &[2], &device).unwrap();
    param(&norm, "weight").set(&of([-2.0, 0.5])).unwrap();
    param(&norm, "bias").set(&of([3.0, -1.0])).unwrap();
    let broad = |values| of(values).reshape(&[2, 1, 1]).unwrap();
    let want = plain.mul(&broad([-2.0, 0.5])).unwrap().add(&broad([3.0, -1.0])).unwrap();
    let got = norm.forward(&x).unwrap();
    assert_close("affine", &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-12, 0.0);
}

#[test]
fn bad_input() {
    let device = Device::cpu();
    let norm = new(PhaseKind::Preserving, BATCH, 3, DType::F32, &device);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device).unwrap();
    let sentence = |shape: &[usize]| norm.forward(&zeros(shape)).err().map(|e| e.to_string()).unwrap_or_default();
    for shape in [&[2, 3][..], &[2, 4, 2, 2], &[2, 3, 0, 2]] {
        let got = sentence(shape);
        assert!(got.contains(&format!("{shape:?}")) && got.contains("[batch, 3, height, width]"), "{got}");
    }
    assert!(sentence(&[1, 3, 1, 1]).contains("one element"));
    assert_eq!(norm.forward(&zeros(&[0, 3, 2, 2])).unwrap().shape(), [0, 3, 2, 2]);
    let constant = norm.forward(&zeros(&[2, 3, 2, 2])).unwrap().to_f64_vec().unwrap();
    assert_eq!(constant, [0.0; 24]);
    let eps = PhaseNormConfig { eps: -1.0, ..PhaseNormConfig::new(PhaseKind::Preserving) };
    assert!(PhaseNorm::new(eps, 3, &Build::new(&device)).err().unwrap().to_string().contains("-1"));
}
