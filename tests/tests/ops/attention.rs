//! Attention against its composition, and rotary positions.

use wgrad::{AttentionOptions, DType, Device, Mask, Tensor, autograd};
use wgrad_tests::{Input, View, assert_close, each_device, expect_error, gradcheck, same_on_devices_within};

/// One head without a mask, written down.
fn plain(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    [tq, tk, d, dv]: [usize; 4],
    allowed: impl Fn(usize, usize) -> bool,
) -> Vec<f64> {
    let mut out = vec![0.0; tq * dv];
    for i in 0..tq {
        let score = |j: usize| (0..d).map(|c| q[i * d + c] * k[j * d + c]).sum::<f64>() / (d as f64).sqrt();
        let weights: Vec<f64> = (0..tk).map(|j| if allowed(i, j) { score(j).exp() } else { 0.0 }).collect();
        let total: f64 = weights.iter().sum();
        for (j, w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            (0..dv).for_each(|c| out[i * dv + c] += w / total * v[j * dv + c]);
        }
    }
    out
}

fn inputs(heads: usize, key_heads: usize) -> [Input; 3] {
    let heads = Input::normal(&[2, 4, heads, 6], 1).view(View::Permute(vec![0, 2, 1, 3]));
    [heads, Input::normal(&[2, key_heads, 5, 6], 2), Input::normal(&[2, key_heads, 5, 3], 3)]
}

#[test]
fn attention_by_definition() {
    each_device(|device| {
        let inputs =
            [Input::normal(&[1, 1, 4, 6], 1), Input::normal(&[1, 1, 5, 6], 2), Input::normal(&[1, 1, 5, 3], 3)];
        let [q, k, v] = [0, 1, 2].map(|i| inputs[i].stored(device, DType::F32).unwrap());
        let [x, y, z] = [0, 1, 2].map(|i| &inputs[i].values);
        let check = |options: AttentionOptions, allowed: &dyn Fn(usize, usize) -> bool| {
            let got = q.attention(&k, &v, &options).unwrap().to_f64_vec().unwrap();
            assert_close("attention", &got, &plain(x, y, z, [4, 5, 6, 3], allowed), 1e-5, 1e-5);
        };
        check(AttentionOptions::default(), &|_, _| true);
        check(AttentionOptions { mask: Mask::causal(1), ..Default::default() }, &|i, j| j <= i + 1);
        // The first two queries see nothing: zeros.
        check(AttentionOptions { mask: Mask::causal(-2), ..Default::default() }, &|i, j| j + 2 <= i);
        check(AttentionOptions { mask: Mask::window(1, 0), ..Default::default() }, &|i, j| j <= i && i <= j + 1);
    });
}

#[test]
fn attention_gradients() {
    for (heads, key_heads) in [(3, 3), (4, 2), (4, 1)] {
        let [q, k, v] = inputs(heads, key_heads);
        gradcheck("attention", &[q.clone(), k.clone(), v.clone()], |x| {
            x[0].attention(&x[1], &x[2], &Default::default())
        });
        let bias = Input::normal(&[heads, 1, 5], 4);
        let mask = Input::bools(&[2, 1, 4, 5], 5);
        let all = [q, k, v, bias, mask];
        let options = |x: &[Tensor]| AttentionOptions {
            scale: Some(0.3),
            softcap: Some(2.0),
            bias: Some(x[3].clone()),
            mask: Mask::from(x[4].clone()).and(Mask::causal(0)).and(Mask::window(2, 3)),
            ..Default::default()
        };
        gradcheck("attention", &all, |x| x[0].attention(&x[1], &x[2], &options(x)));
        same_on_devices_within(4.0, "attention", &all, |x| x[0].attention(&x[1], &x[2], &options(x)));
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zeros_and_no_gradient() {
    each_device(|device| {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let leaf = |seed| Input::normal(&[1, 1, 3, 4], seed).stored(device, dtype).unwrap();
            let (q, k, v) = (leaf(1), leaf(2), leaf(3));
            let options = AttentionOptions { mask: Mask::causal(-3), ..Default::default() };
            let out = q.attention(&k, &v, &options).unwrap();
            assert!(out.to_f64_vec().unwrap().iter().all(|&x| x == 0.0));
            let gradients = autograd::backward(&[(&out, out.ones_like().unwrap())], &[], false).unwrap();
            for leaf in [&q, &k, &v] {
                assert!(gradients.get(leaf).unwrap().to_f64_vec().unwrap().iter().all(|&x| x == 0.0));
            }
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap();
        let none =
            zeros(&[2, 3, 4, 5]).attention(&zeros(&[2, 3, 0, 5]), &zeros(&[2, 3, 0, 6]), &Default::default()).unwrap();
        assert_eq!(none.shape(), [2, 3, 4, 6]);
        assert!(none.to_f64_vec().unwrap().iter().all(|&x| x == 0.0));
    });
}

/// So many queries that software drivers give a subgroup 32 of them: with some queries left over, and what hides single pairs.
#[test]
fn many_queries() {
    let heads =
        [Input::normal(&[1, 2, 261, 8], 1), Input::normal(&[1, 1, 70, 8], 2), Input::normal(&[1, 1, 70, 12], 3)];
    let sinks = Input::normal(&[2], 5);
    let all: Vec<Input> = heads.into_iter().chain([sinks]).collect();
    let mask = Mask::causal(-100).and(Mask::key_lengths(&[67]));
    same_on_devices_within(4.0, "attention", &all, |x| {
        let options = AttentionOptions { mask: mask.clone(), sinks: Some(x[3].clone()), ..Default::default() };
        x[0].attention(&x[1], &x[2], &options)
    });
}

#[test]
fn rotary_turns_pairs() {
    let x = Input::normal(&[2, 3, 5, 8], 1);
    let positions = Input::indices(40, &[2, 5], DType::I32, 2);
    for (rotary_dim, interleaved) in [(8, false), (8, true), (4, false), (4, true), (0, false)] {
        let rotary = |x: &[Tensor]| x[0].rotary(&x[1], 100.0, rotary_dim, interleaved);
        let both = [x.clone(), positions.clone()];
        gradcheck("rotary", &both, rotary);
        same_on_devices_within(8.0, "rotary", &both, rotary);
        let stored: Vec<Tensor> = both.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
        let got = rotary(&stored).unwrap().to_f64_vec().unwrap();
        let mut want = x.values.clone();
        for row in 0..30 {
            let position = positions.values[row / 15 * 5 + row % 5];
            for k in 0..rotary_dim / 2 {
                let (i, j) = if interleaved { (2 * k, 2 * k + 1) } else { (k, k + rotary_dim / 2) };
                let (u, w) = (x.values[row * 8 + i], x.values[row * 8 + j]);
                let (sin, cos) = (position * 100f64.powf(-2.0 * k as f64 / rotary_dim as f64)).sin_cos();
                (want[row * 8 + i], want[row * 8 + j]) = (u * cos - w * sin, w * cos + u * sin);
            }
        }
        assert_close("rotary", &got, &want, 1e-12, 1e-12);
    }
}

#[test]
fn bad_input_is_refused() {
    let cpu = Device::cpu();
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    let (q, k) = (t(&[1, 4, 3, 8]), t(&[1, 2, 5, 8]));
    let none = AttentionOptions::default();
    expect_error(t(&[4, 3, 8]).attention(&k, &k, &none), &["attention", "ranks 3, 4, 4"]);
    expect_error(q.attention(&t(&[1, 2, 5, 6]), &k, &none), &["attention", "[1, 2, 5, 6]"]);
    expect_error(
        q.attention(&t(&[1, 3, 5, 8]), &t(&[1, 3, 5, 8]), &none),
        &["attention", "4 query heads", "3 key heads"],
    );
    let mask = AttentionOptions { mask: t(&[3, 5]).into(), ..Default::default() };
    expect_error(q.attention(&k, &k, &mask), &["attention", "bool"]);
    let bias = AttentionOptions { bias: Some(t(&[2, 1, 4, 3, 5])), ..Default::default() };
    expect_error(q.attention(&k, &k, &bias), &["attention", "bias", "[2, 1, 4, 3, 5]", "[1, 4, 3, 5]"]);
    let softcap = AttentionOptions { softcap: Some(0.0), ..Default::default() };
    expect_error(q.attention(&k, &k, &softcap), &["attention", "softcap"]);

    let positions = Tensor::zeros(&[1, 3], DType::U32, &cpu).unwrap();
    expect_error(q.rotary(&positions, 1e4, 7, false), &["rotary", "7", "head_dim 8"]);
    expect_error(q.rotary(&positions, -1.0, 8, false), &["rotary", "theta -1"]);
    expect_error(q.rotary(&t(&[1, 3]), 1e4, 8, false), &["rotary", "f32"]);
    expect_error(k.rotary(&positions, 1e4, 8, false), &["rotary", "[1, 3]", "[1, 5]"]);
}
