//! Every kind of norm: against its composition, against the other device, and against the others where theory says that they agree.

use proptest::prelude::*;
use wgrad::nn::Module;
use wgrad::{Counted, DType, Device, NormKind, NormOptions, Result, Tensor, reference};
use wgrad_models::norm::{Norm, NormConfig};
use wgrad_tests::{Input, Random, assert_close, each_device, gradcheck, gradcheck_within, same_on_devices_within};

use super::{EPS, inputs};

const KINDS: [NormKind; 9] = [
    NormKind::Layer,
    NormKind::Centre,
    NormKind::Rms,
    NormKind::Crms,
    NormKind::Unit(2.0),
    NormKind::Unit(1.0),
    NormKind::Unit(3.0),
    NormKind::Lp(1.5),
    NormKind::Lp(4.0),
];

/// Every kind as it is, safe, and with statistics of a part of the row.
fn all(cols: usize) -> Vec<NormOptions> {
    let mut all = Vec::new();
    for kind in KINDS {
        let plain = NormOptions::new(kind, EPS);
        all.push(plain.clone());
        if kind != NormKind::Crms {
            for rest in [0.0, 0.25] {
                let counted = Some(Counted { first: cols.div_ceil(2), rest });
                all.push(NormOptions { counted, ..plain.clone() });
            }
        }
        all.push(NormOptions { safe: true, ..plain });
    }
    all
}

/// With gain and bias, where the kind has them.
fn with(x: &[Tensor], options: &NormOptions, norm: fn(&Tensor, &NormOptions) -> Result<Tensor>) -> Result<Tensor> {
    if options.kind == NormKind::Crms {
        return norm(&x[0], options)?.mul(&x[1])?.add(&x[2]);
    }
    norm(&x[0], &NormOptions { gain: Some(x[1].clone()), bias: Some(x[2].clone()), ..options.clone() })
}

fn fused(x: &[Tensor], options: &NormOptions) -> Result<Tensor> {
    with(x, options, Tensor::row_norm)
}

/// The values of `f` and the gradients of `sum(f * weights)` in f64 on the CPU.
fn values_and_gradients(inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    let leaves: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let operands: Vec<Tensor> = inputs.iter().zip(&leaves).map(|(i, x)| i.operand(x).unwrap()).collect();
    let y = f(&operands).unwrap();
    let weights = Tensor::arange(1, 1 + y.elements() as i64, DType::F64, y.device()).unwrap().sin().unwrap();
    let shape: Vec<isize> = y.shape().iter().map(|&n| n as isize).collect();
    let loss = y.mul(&weights.reshape(&shape).unwrap()).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let of = |x: &Tensor| gradients.get(x).unwrap().to_f64_vec().unwrap();
    [vec![y.to_f64_vec().unwrap()], leaves.iter().map(of).collect()].concat()
}

fn assert_same(what: &str, a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        let largest = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        assert_close(what, a, b, tolerance * largest, tolerance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn fused_is_composed(rows in 1..6usize, cols in 1..70usize, seed in any::<u64>()) {
        let inputs = inputs(rows, cols, seed);
        for options in all(cols) {
            let name = format!("{options:?}");
            // Near zero a power below 2 is bent without bound.
            gradcheck_within(10.0, &name, &inputs, |x| fused(x, &options));
            let composed = values_and_gradients(&inputs, |x| with(x, &options, reference::norm));
            assert_same(&name, &values_and_gradients(&inputs, |x| fused(x, &options)), &composed, 1e-9);
        }
    }
}

/// One lane a row and several, rows that are whole fours and not, behind views.
#[test]
fn devices_agree() {
    for (rows, cols) in [(3, 7), (37, 12)] {
        let inputs = inputs(rows, cols, 20);
        for options in all(cols) {
            same_on_devices_within(20.0, &format!("{options:?}"), &inputs, |x| fused(x, &options));
        }
    }
}

#[test]
fn along_any_dimension() {
    let input = [Input::normal(&[3, 5, 4], 1)];
    for dim in [0, 1, -1] {
        gradcheck("l2_norm", &input, |x| x[0].l2_norm(dim, EPS));
        same_on_devices_within(4.0, "l2_norm", &input, |x| x[0].l2_norm(dim, EPS));
        each_device(|device| {
            let x = input[0].stored(device, DType::F32).unwrap();
            let lengths = x.l2_norm(dim, 0.0).unwrap().norm(2.0, &[dim], false).unwrap().to_f64_vec().unwrap();
            assert_close("unit length", &lengths, &vec![1.0; lengths.len()], 1e-6, 0.0);
        });
    }
    let norm = |x: &[Tensor]| x[0].row_norm(&NormOptions { dims: Some(2), ..NormOptions::new(NormKind::Rms, EPS) });
    gradcheck("rms over two dimensions", &input, norm);
    same_on_devices_within(4.0, "rms over two dimensions", &input, norm);
}

/// The rows that layer norm leaves as they are but for scale: of sum zero.
fn centred(rows: usize, cols: usize, seed: u64) -> Input {
    let mut input = Input::normal(&[rows, cols], seed);
    for row in input.values.chunks_mut(cols) {
        let mean = row.iter().sum::<f64>() / cols as f64;
        row.iter_mut().for_each(|v| *v -= mean);
    }
    input
}

/// Of a zero-mean row, layer norm, RMS norm, and the compressed RMS norm of all but its last element are one function (Jiang et
/// al. 2023), with one gradient, at every width.
#[test]
fn layer_is_rms_is_crms() {
    let plain = |kind| NormOptions::new(kind, EPS);
    for cols in [2, 3, 9, 768] {
        let full = centred(2, cols, 7);
        let values = full.values.chunks(cols).flat_map(|row| row[..cols - 1].to_vec()).collect::<Vec<_>>();
        let short = [Input::of(&values, &[2, cols - 1])];
        // The whole row as a function of all but its last element.
        let whole = |x: &Tensor| Tensor::concat(&[x, &x.sum(&[-1], true)?.neg()?], -1);
        let cut = |y: Tensor| y.narrow(-1, 0, cols - 1);
        let crms = values_and_gradients(&short, |x| x[0].row_norm(&plain(NormKind::Crms)));
        for kind in [NormKind::Layer, NormKind::Rms] {
            let other = values_and_gradients(&short, |x| cut(whole(&x[0])?.row_norm(&plain(kind))?));
            assert_same(&format!("crms and {kind:?}"), &crms, &other, 1e-12);
        }
        each_device(|device| {
            let (x, c) = (full.stored(device, DType::F32).unwrap(), short[0].stored(device, DType::F32).unwrap());
            let want = c.row_norm(&plain(NormKind::Crms)).unwrap().to_f64_vec().unwrap();
            for kind in [NormKind::Layer, NormKind::Rms] {
                let got = cut(x.row_norm(&plain(kind)).unwrap()).unwrap().to_f64_vec().unwrap();
                assert_close("equal norms", &got, &want, 1e-5, 1e-5);
            }
        });
    }
}

/// The two halves make the whole; the power 2 is the plain norm; RMS norm is `sqrt(d)` times L2 (Zhang, Sennrich 2019).
#[test]
fn norms_of_each_other() {
    let input = [Input::normal(&[4, 11], 3)];
    let norm = |kind, eps| move |x: &Tensor| x.row_norm(&NormOptions::new(kind, eps));
    let same = |what: &str, a: &dyn Fn(&Tensor) -> Result<Tensor>, b: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let [a, b] = [a, b].map(|f| values_and_gradients(&input, |x| f(&x[0])));
        assert_same(what, &a, &b, 1e-12);
    };
    let halves = |x: &Tensor| norm(NormKind::Rms, EPS)(&norm(NormKind::Centre, 0.0)(x)?);
    same("centre, then scale", &norm(NormKind::Layer, EPS), &halves);
    same("the power 2", &norm(NormKind::Lp(2.0), EPS), &norm(NormKind::Layer, EPS));
    let root = 11f64.sqrt();
    let scaled = |x: &Tensor| norm(NormKind::Unit(2.0), root * EPS.sqrt())(x)?.mul_scalar(root);
    same("sqrt(d) L2", &scaled, &norm(NormKind::Rms, EPS));
    let all = Some(Counted { first: 11, rest: 0.0 });
    let counted = |x: &Tensor| x.row_norm(&NormOptions { counted: all, ..NormOptions::new(NormKind::Layer, EPS) });
    same("all counted", &counted, &norm(NormKind::Layer, EPS));
}

/// Section 1.1 of Ba et al.: no change by shift and scale; and what the gradient is orthogonal to, exactly with eps too.
#[test]
fn invariances_of_layer_norm() {
    let x = Input::normal(&[3, 17], 5);
    let moved: Vec<f64> = x.values.iter().map(|v| 300.0 * v - 40.0).collect();
    let y = |values: &[f64]| {
        let x = Tensor::from_slice(values, &[3, 17], &Device::cpu()).unwrap();
        x.layer_norm(None, None, 0.0).unwrap().to_f64_vec().unwrap()
    };
    assert_close("shift and scale", &y(&moved), &y(&x.values), 1e-11, 0.0);
    let made = values_and_gradients(std::slice::from_ref(&x), |x| x[0].layer_norm(None, None, EPS));
    for row in 0..3 {
        let [x, y, dx] = [&x.values, &made[0], &made[1]].map(|v| &v[17 * row..17 * (row + 1)]);
        let mean = x.iter().sum::<f64>() / 17.0;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 17.0;
        let g: Vec<f64> = (0..17).map(|i| ((17 * row + i + 1) as f64).sin()).collect();
        assert!(dx.iter().sum::<f64>().abs() < 1e-12);
        let along: f64 = dx.iter().zip(x).map(|(dx, x)| dx * (x - mean)).sum();
        let expected = EPS / (variance + EPS) * g.iter().zip(y).map(|(g, y)| g * y).sum::<f64>();
        assert!((along - expected).abs() < 1e-12, "{along}, expected {expected}");
    }
}

/// Normalised queries and keys give scores that do not depend on the scale of the weights before them, and are bounded: by the
/// factor (Henry et al. 2020), or for RMS norm with 1/sqrt(d) by sqrt(d) times the largest product of the gains.
#[test]
fn scores_of_normalised_queries_and_keys_are_bounded() {
    each_device(|device| {
        let draw = |seed| Input::normal(&[2, 9, 16], seed).stored(device, DType::F32).unwrap();
        let gain = |seed| Input::uniform(-2.0, 2.0, &[16], seed).stored(device, DType::F32).unwrap();
        let (q, k, gains) = (draw(1), draw(2), [gain(3), gain(4)]);
        let scores = |q: &Tensor, k: &Tensor| q.matmul(&k.transpose(-1, -2).unwrap()).unwrap();
        let largest = |s: &Tensor| s.abs().unwrap().max(&[], false).unwrap().item().unwrap();
        let (q_large, k_large) = (q.mul_scalar(1e3).unwrap(), k.mul_scalar(1e3).unwrap());
        assert!(largest(&scores(&q_large, &k_large)) > 1e6, "without a norm scores grow with the weights");

        let g = 12.0;
        let l2 = |q: &Tensor, k: &Tensor| {
            let unit = |x: &Tensor| x.l2_norm(-1, 1e-6).unwrap();
            scores(&unit(q), &unit(k)).mul_scalar(g).unwrap()
        };
        let (small, large) = (l2(&q, &k), l2(&q_large, &k_large));
        assert!(largest(&large) <= g * (1.0 + 1e-6));
        assert_close("L2", &large.to_f64_vec().unwrap(), &small.to_f64_vec().unwrap(), 1e-4, 0.0);
        assert!((largest(&l2(&q, &q)) - g).abs() < 1e-4, "a query that is its key reaches the bound");

        let rms = |q: &Tensor, k: &Tensor| {
            let normed = |x: &Tensor, i: usize| x.rms_norm(Some(&gains[i]), 1e-6).unwrap();
            scores(&normed(q, 0), &normed(k, 1)).mul_scalar(0.25).unwrap()
        };
        let bound = 4.0 * largest(&gains[0].mul(&gains[1]).unwrap());
        assert!(largest(&rms(&q_large, &k_large)) <= bound * (1.0 + 1e-5));
    });
}

/// Masked structural growth: with new channels of any content that count nothing and are masked by gain and bias, the first
/// channels come out as from the narrow norm; and partial RMSNorm is plain arithmetic.
#[test]
fn growth_keeps_the_function() {
    let (old, new) = (6, 10);
    each_device(|device| {
        let wide = Input::normal(&[4, new], 1).stored(device, DType::F32).unwrap();
        let narrow = wide.narrow(-1, 0, old).unwrap();
        let gain = Input::normal(&[new], 2).stored(device, DType::F32).unwrap();
        let mask: Vec<f32> = (0..new).map(|i| if i < old { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, &[new], device).unwrap();
        let counted = Some(Counted { first: old, rest: 0.0 });
        for kind in [NormKind::Layer, NormKind::Rms] {
            let before = super::affine(kind, Some(&gain.narrow(0, 0, old).unwrap()), None);
            let grown = NormOptions { counted, ..super::affine(kind, Some(&gain.mul(&mask).unwrap()), None) };
            let (before, grown) = (narrow.row_norm(&before).unwrap(), wide.row_norm(&grown).unwrap());
            let first = grown.narrow(-1, 0, old).unwrap().to_f64_vec().unwrap();
            assert_close("growth", &first, &before.to_f64_vec().unwrap(), 1e-6, 1e-6);
            assert!(grown.narrow(-1, old, new - old).unwrap().to_f64_vec().unwrap().iter().all(|&v| v == 0.0));
        }
    });
    let mut random = Random::new(4);
    let x: Vec<f64> = (0..16).map(|_| random.normal()).collect();
    let partial =
        NormOptions { counted: Some(Counted { first: 2, rest: 0.0 }), ..NormOptions::new(NormKind::Rms, EPS) };
    let y = Tensor::from_slice(&x, &[16], &Device::cpu()).unwrap().row_norm(&partial).unwrap().to_f64_vec().unwrap();
    let root = ((x[0] * x[0] + x[1] * x[1]) / 2.0 + EPS).sqrt();
    assert_close("partial", &y, &x.iter().map(|v| v / root).collect::<Vec<_>>(), 1e-12, 0.0);
}

/// Blocks of models have every kind that needs no parameter.
#[test]
fn plain_kinds_in_models() {
    each_device(|device| {
        let build = wgrad::nn::Build::new(device);
        let draw = |seed| Input::normal(&[3, 10], seed).stored(device, DType::F32).unwrap();
        let (x, residual) = (draw(1), draw(2));
        for kind in KINDS {
            let config = NormConfig { kind: wgrad_models::norm::NormKind::Plain(kind), eps: EPS };
            let norm = Norm::new(config, 10, &build).unwrap();
            assert_eq!(norm.parameter_count(), 0);
            let options = NormOptions::new(kind, EPS);
            let want = x.row_norm(&options).unwrap().to_f64_vec().unwrap();
            assert_eq!(norm.forward(&x).unwrap().to_f64_vec().unwrap(), want, "{kind:?}");
            let (want, _) = x.add_row_norm(&residual, 0.0, &options).unwrap();
            let got = norm.forward_add(&x, &residual, 0.0, None).unwrap();
            assert_eq!(got.to_f64_vec().unwrap(), want.to_f64_vec().unwrap(), "{kind:?}");
        }
    });
}
