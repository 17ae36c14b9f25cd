//! Layer norm and root-mean-square norm; other kinds, sums and extremes in modules of their own.

mod extremes;
mod kinds;
mod long;
mod narrow;
mod phase;
mod stateful;
mod sums;
mod weights;

use proptest::prelude::*;
use wgrad::{Counted, DType, Device, NormKind, NormOptions, Result, Tensor, reference};
use wgrad_tests::{
    Input, View, assert_close, each_device, expect_error, gradcheck, same_on_devices, same_on_devices_in,
    same_on_devices_within, strategy,
};

/// A kind with gain and bias.
fn affine(kind: NormKind, gain: Option<&Tensor>, bias: Option<&Tensor>) -> NormOptions {
    NormOptions { gain: gain.cloned(), bias: bias.cloned(), ..NormOptions::new(kind, EPS) }
}

/// x behind a view, gain, bias. Not behind an expanded view: of equal elements a norm leaves but rounding, many times magnified.
fn inputs(rows: usize, cols: usize, seed: u64) -> [Input; 3] {
    let draw = |seed| strategy::view_of(&[rows, cols], &|shape, seed| Input::normal(shape, seed), seed);
    let x = draw(seed);
    let expanded = x.views.iter().any(|view| matches!(view, View::Expand(_)));
    [
        if expanded { Input::normal(&[rows, cols], seed) } else { x },
        Input::uniform(0.5, 1.5, &[cols], seed ^ 1),
        Input::normal(&[cols], seed ^ 2),
    ]
}

type Norm = fn(&[Tensor]) -> Result<Tensor>;

const EPS: f64 = 1e-3;
const NORMS: [(&str, Norm, Norm); 5] = [
    (
        "layer_norm",
        |x| x[0].layer_norm(Some(&x[1]), Some(&x[2]), EPS),
        |x| reference::norm(&x[0], &affine(NormKind::Layer, Some(&x[1]), Some(&x[2]))),
    ),
    (
        "layer_norm without gain",
        |x| x[0].layer_norm(None, Some(&x[2]), EPS)?.add(&x[1]),
        |x| reference::norm(&x[0], &affine(NormKind::Layer, None, Some(&x[2])))?.add(&x[1]),
    ),
    (
        "layer_norm without bias",
        |x| x[0].layer_norm(Some(&x[1]), None, EPS)?.add(&x[2]),
        |x| reference::norm(&x[0], &affine(NormKind::Layer, Some(&x[1]), None))?.add(&x[2]),
    ),
    (
        "rms_norm",
        |x| x[0].rms_norm(Some(&x[1]), EPS)?.add(&x[2]),
        |x| reference::norm(&x[0], &affine(NormKind::Rms, Some(&x[1]), None))?.add(&x[2]),
    ),
    (
        "plain rms_norm",
        |x| x[0].rms_norm(None, EPS)?.mul(&x[1])?.add(&x[2]),
        |x| reference::norm(&x[0], &affine(NormKind::Rms, None, None))?.mul(&x[1])?.add(&x[2]),
    ),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn fused_is_composed(rows in prop_oneof![1..20usize, Just(100usize)], cols in strategy::size(), seed in any::<u64>()) {
        let inputs = inputs(rows, cols, seed);
        for (name, fused, composed) in NORMS {
            gradcheck(name, &inputs, fused);
            // The gradient of a short row is what is left of terms of 1 / sqrt(eps). Up to three operations round to a half.
            same_on_devices_within(if cols < 4 { 50.0 } else { 4.0 }, name, &inputs, fused);
            each_device(|device| {
                let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
                // The views are made anew for each graph, since a backward pass releases its own.
                let operands = || -> Vec<Tensor> { inputs.iter().zip(&x).map(|(i, x)| i.operand(x).unwrap()).collect() };
                let (a, b) = (fused(&operands()).unwrap(), composed(&operands()).unwrap());
                assert_close(name, &a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap(), 1e-5, 1e-5);
                let weights = Tensor::arange(0, a.elements() as i64, DType::F32, device).unwrap().sin().unwrap();
                let weights = weights.reshape(&[rows as isize, cols as isize]).unwrap();
                let gradients = |y: Tensor| y.mul(&weights).unwrap().sum_all().unwrap().backward().unwrap();
                let (a, b) = (gradients(a), gradients(b));
                for x in &x {
                    let (a, b) = (a.get(x).unwrap().to_f64_vec().unwrap(), b.get(x).unwrap().to_f64_vec().unwrap());
                    let largest = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                    assert_close(name, &a, &b, 2e-5 * largest, 1e-5);
                }
            });
        }
    }
}

/// So many rows that software drivers keep them in registers, or long ones in pieces, several to a workgroup; the last workgroup, the last
/// piece and the last fours of a row are not whole.
#[test]
fn many_rows_of_middling_width() {
    for (rows, cols) in [(37, 32), (41, 45), (33, 770), (35, 1023), (33, 1025), (32, 2051), (34, 1536)] {
        // Software drivers take seconds to compile a kernel: all dtypes for one width of each way.
        let dtypes = &[DType::F32, DType::F16, DType::BF16][..if [45, 770, 2051].contains(&cols) { 3 } else { 1 }];
        for (name, fused, _) in NORMS {
            // Of so many elements some are sums that cancel, after each part was rounded to a half.
            same_on_devices_in(dtypes, 8.0, name, &inputs(rows, cols, 3 * cols as u64), fused);
        }
    }
}

#[test]
fn accuracy() {
    each_device(|device| {
        // Deviations of 1 about 100,000, and of 1e-4 about 0.
        let far: Vec<f32> = (0..64).map(|i| 1e5 + if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let want: Vec<f64> = (0..64).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let y = Tensor::from_vec(far, &[1, 64], device).unwrap().layer_norm(None, None, 0.0).unwrap();
        assert_close("far from zero", &y.to_f64_vec().unwrap(), &want, 1e-5, 0.0);
        let near: Vec<f32> = want.iter().map(|v| *v as f32 * 1e-4).collect();
        let y = Tensor::from_vec(near, &[1, 64], device).unwrap().layer_norm(None, None, 1e-12).unwrap();
        assert_close("small", &y.to_f64_vec().unwrap(), &want, 1e-3, 0.0);
        // The same in so many and so long rows that they are taken in pieces, and an outlier in the first.
        let long: Vec<f32> = (0..40 * 1500).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for (offset, tolerance) in [(1e5, 1e-5), (0.0, 1e-6)] {
            let x: Vec<f32> = long.iter().map(|v| offset + v).collect();
            let y = Tensor::from_vec(x, &[40, 1500], device).unwrap().layer_norm(None, None, 0.0).unwrap();
            let want: Vec<f64> = long.iter().map(|v| f64::from(*v)).collect();
            assert_close("long rows", &y.to_f64_vec().unwrap(), &want, tolerance, 0.0);
        }
        let mut x = long.clone();
        x.chunks_mut(1500).for_each(|row| row[3] = 1e6);
        let norm = |x: Vec<f32>, device: &Device| {
            let x = Tensor::from_vec(x, &[40, 1500], device)?;
            x.cast(if device.is_gpu() { DType::F32 } else { DType::F64 })?.layer_norm(None, None, 0.0)?.to_f64_vec()
        };
        let want = norm(x.clone(), &Device::cpu()).unwrap();
        assert_close("outlier", &norm(x, device).unwrap(), &want, 1e-5, 1e-5);
        let constant = Tensor::full(3.0, &[2, 5], DType::F32, device).unwrap().layer_norm(None, None, 1e-5).unwrap();
        assert_eq!(constant.to_vec::<f32>().unwrap(), [0.0; 10]);
    });
}

#[test]
fn several_dimensions() {
    let inputs = [Input::normal(&[3, 4, 6], 1), Input::normal(&[4, 6], 2), Input::normal(&[4, 6], 3)];
    gradcheck("layer_norm", &inputs, |x| x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-3));
    same_on_devices("layer_norm", &inputs, |x| x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-3));
    gradcheck("layer_norm_over", &inputs[..1], |x| x[0].layer_norm_over(2, 1e-3));
    let empty = Tensor::zeros(&[0, 4], DType::F32, &Device::cpu()).unwrap().requires_grad();
    let gain = Tensor::ones(&[4], DType::F32, &Device::cpu()).unwrap().requires_grad();
    let loss = empty.layer_norm(Some(&gain), None, 1e-5).unwrap().sum_all().unwrap();
    assert_eq!(loss.backward().unwrap().get(&gain).unwrap().to_vec::<f32>().unwrap(), [0.0; 4]);
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let x = Tensor::zeros(&[2, 3], DType::F32, &cpu).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &cpu).unwrap();
    let wrong = zeros(&[2], DType::F32);
    expect_error(x.layer_norm(Some(&wrong), None, 1e-5), &["layer_norm", "gain", "[2]", "[3]"]);
    expect_error(x.layer_norm(None, Some(&wrong), 1e-5), &["layer_norm", "bias", "[2]"]);
    expect_error(x.rms_norm(Some(&zeros(&[3], DType::F16)), 1e-5), &["rms_norm", "f16"]);
    expect_error(x.rms_norm(None, -1.0), &["rms_norm", "-1"]);
    expect_error(x.layer_norm_over(3, 1e-5), &["layer_norm", "3", "[2, 3]"]);
    expect_error(zeros(&[3], DType::I32).layer_norm(None, None, 1e-5), &["layer_norm", "i32"]);
    expect_error(x.l2_norm(2, 1e-5), &["l2_norm", "2"]);
    expect_error(zeros(&[], DType::F32).l2_norm(0, 1e-5), &["l2_norm"]);
    let plain = |kind| NormOptions::new(kind, 1e-5);
    for p in [0.5, f64::NAN, f64::INFINITY] {
        expect_error(x.row_norm(&plain(NormKind::Lp(p))), &["row_norm", &p.to_string(), "from 1 on"]);
    }
    let gain = Some(zeros(&[3], DType::F32));
    expect_error(x.row_norm(&NormOptions { gain, ..plain(NormKind::Crms) }), &["row_norm", "Crms", "gain"]);
    for (first, rest) in [(4, 0.0), (0, 0.0), (1, -0.5), (1, 1.5), (1, f64::NAN)] {
        let counted = Some(Counted { first, rest });
        let given = x.row_norm(&NormOptions { counted, ..plain(NormKind::Layer) });
        expect_error(given, &["row_norm", &format!("{first} elements of 3"), &rest.to_string()]);
        let closed = x.row_norm(&NormOptions { counted, ..plain(NormKind::Crms) });
        expect_error(closed, &["row_norm", "Crms", "counts all"]);
    }
    for p in [-0.1, 1.1, f64::NAN] {
        expect_error(x.add_row_norm(&x, p, &plain(NormKind::Rms)), &["add_row_norm", "probability", &p.to_string()]);
    }
}
