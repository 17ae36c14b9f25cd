//! Linear attention: chunked, recurrent and quadratic are one function; the decaying sum below it.

use proptest::prelude::*;
use wgrad::{DType, Device, LinearAttention, Result, Tensor, nn, reference};
use wgrad_tests::{
    Input, assert_close, each_device, expect_error, fresh_gpu, gpu, gradcheck, gradcheck_within,
    same_on_devices_within, strategy,
};

fn inputs(length: usize, heads: usize) -> Vec<Input> {
    // Positive features, so that a divisor stays away from zero.
    let features = |seed| Input::uniform(0.1, 1.0, &[2, heads, length, 3], seed);
    vec![features(1), features(2), Input::normal(&[2, heads, length, 4], 3), Input::uniform(-1.5, -0.01, &[heads], 4)]
}

fn options(x: &[Tensor], causal: bool, decay: bool, normalize: bool, chunk: usize) -> LinearAttention {
    LinearAttention {
        causal,
        log_decay: decay.then(|| x[3].clone()),
        normalize: normalize.then_some(1e-3),
        chunk,
        ..Default::default()
    }
}

/// Whether causal, decaying, divided.
const KINDS: [[bool; 3]; 6] = [
    [false, false, false],
    [false, false, true],
    [true, false, false],
    [true, false, true],
    [true, true, false],
    [true, true, true],
];

#[test]
fn chunks_of_any_size_give_the_quadratic_form() {
    for (length, chunk) in [(1, 64), (7, 3), (8, 4), (5, 5), (70, 64), (4, 1)] {
        for [causal, decay, normalize] in KINDS {
            let x: Vec<Tensor> =
                inputs(length, 2).iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
            let options = options(&x, causal, decay, normalize, chunk);
            let (got, _) = x[0].linear_attention(&x[1], &x[2], &options).unwrap();
            let want = reference::linear_attention(&x[0], &x[1], &x[2], &options).unwrap();
            let (got, want) = (got.to_f64_vec().unwrap(), want.to_f64_vec().unwrap());
            assert_close("linear_attention", &got, &want, 1e-11, 1e-11);
        }
    }
}

#[test]
fn gradients() {
    for [causal, decay, normalize] in KINDS {
        let run = |x: &[Tensor]| -> Result<Tensor> {
            let (out, state) = x[0].linear_attention(&x[1], &x[2], &options(x, causal, decay, normalize, 3))?;
            let seen = state.square()?.mean_all()?.cast(out.dtype())?;
            out.mean_all()?.add(&seen)?.add(&out.square()?)
        };
        let inputs = &inputs(7, 2)[..if decay { 4 } else { 3 }];
        gradcheck("linear_attention", inputs, run);
        same_on_devices_within(8.0, "linear_attention", inputs, run);
    }
}

/// What earlier calls left behind gets a gradient, chunk by chunk and step by step.
#[test]
fn gradients_through_the_state() {
    for [causal, decay, normalize] in KINDS {
        let width = if normalize { 5 } else { 4 };
        let state = Input::uniform(0.1, 1.0, &[2, 2, 3, width], 9);
        // Without decay its logarithms are there for their place alone.
        let mut all = inputs(7, 2);
        all[3].differentiable = decay;
        all.push(state);
        let run = |x: &[Tensor]| -> Result<Tensor> {
            let options = LinearAttention { state: Some(x[4].clone()), ..options(x, causal, decay, normalize, 3) };
            let (out, state) = x[0].linear_attention(&x[1], &x[2], &options)?;
            out.square()?.add(&state.square()?.mean_all()?)
        };
        gradcheck("linear_attention after a state", &all, run);
        let steps = |x: &[Tensor]| -> Result<Tensor> {
            let options = options(x, true, decay, normalize, 3);
            let (mut state, mut rows) = (x[4].clone(), Vec::new());
            for i in 0..7 {
                let [q, k, v] = [0, 1, 2].map(|of| x[of].select(2, i));
                let (row, after) = q?.linear_attention_step(&k?, &v?, &state, &options)?;
                rows.push(row);
                state = after;
            }
            Tensor::stack(&rows.iter().collect::<Vec<_>>(), 2)?.square()?.add(&state.square()?.mean_all()?)
        };
        if causal {
            gradcheck("linear_attention_step", &all, steps);
            let of = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
                let x: Vec<Tensor> = all.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
                let grads = f(&x).unwrap().sum_all().unwrap().backward().unwrap();
                let leaves = all.iter().zip(&x).filter(|(input, _)| input.differentiable);
                leaves.flat_map(|(_, x)| grads.get(x).unwrap().to_f64_vec().unwrap()).collect::<Vec<_>>()
            };
            assert_close("steps and chunks", &of(&steps), &of(&run), 1e-11, 1e-11);
        }
    }
    let Some(gpu) = gpu() else { return };
    let all = [inputs(7, 2), vec![Input::uniform(0.1, 1.0, &[2, 2, 3, 4], 9)]].concat();
    let [got, want] = [gpu, &Device::cpu()].map(|device| {
        let x: Vec<Tensor> = all.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
        let options = LinearAttention { state: Some(x[4].clone()), ..options(&x, true, true, false, 3) };
        let (out, _) = x[0].linear_attention(&x[1], &x[2], &options).unwrap();
        let grads = out.square().unwrap().sum_all().unwrap().backward().unwrap();
        x.iter().flat_map(|x| grads.get(x).unwrap().to_f64_vec().unwrap()).collect::<Vec<_>>()
    });
    assert_close("linear_attention after a state", &got, &want, 1e-3, 1e-4);
}

#[test]
fn memory_is_linear_in_the_length() {
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let x: Vec<Tensor> = inputs(length, 2).iter().map(|i| i.stored(&device, DType::F32).unwrap()).collect();
        let (out, _) = x[0].linear_attention(&x[1], &x[2], &options(&x, true, true, false, 64)).unwrap();
        out.sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(1024), peak(4096));
    assert!(long <= 5 * short, "{device}: {short} bytes for 1024, {long} for 4096");
}

#[test]
fn a_cut_sequence_and_single_steps_give_the_whole() {
    each_device(|device| {
        for dtype in [DType::F32, DType::F16] {
            let x: Vec<Tensor> = inputs(9, 3).iter().map(|i| i.stored(device, dtype).unwrap()).collect();
            let whole = options(&x, true, true, true, 4);
            let (want, last) = x[0].linear_attention(&x[1], &x[2], &whole).unwrap();
            let (want, last) = (want.to_f64_vec().unwrap(), last.to_f64_vec().unwrap());
            let close = |got: &Tensor, want: &[f64]| {
                let slack = if dtype == DType::F16 { 2e-3 } else { 1e-5 };
                assert_close("linear_attention", &got.to_f64_vec().unwrap(), want, slack, slack);
            };

            let part = |i: usize, start: usize, length: usize| x[i].narrow(2, start, length).unwrap();
            let run = |start: usize, length: usize, state: Option<Tensor>| {
                let [q, k, v] = [0, 1, 2].map(|i| part(i, start, length));
                q.linear_attention(&k, &v, &LinearAttention { state, ..whole.clone() }).unwrap()
            };
            let (first, state) = run(0, 5, None);
            let (second, state) = run(5, 4, Some(state));
            close(&Tensor::concat(&[&first, &second], 2).unwrap(), &want);
            close(&state, &last);

            let mut state = state.zeros_like().unwrap();
            let mut rows = Vec::new();
            for i in 0..9 {
                let [q, k, v] = [0, 1, 2].map(|of| x[of].select(2, i).unwrap());
                let (row, after) = q.linear_attention_step(&k, &v, &state, &whole).unwrap();
                rows.push(row);
                state = after;
            }
            close(&Tensor::stack(&rows.iter().collect::<Vec<_>>(), 2).unwrap(), &want);
            close(&state, &last);
        }
    });
}

#[test]
fn empty_sequences_and_strong_decay() {
    each_device(|device| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap();
        let causal = LinearAttention { causal: true, ..Default::default() };
        let (out, state) =
            zeros(&[1, 2, 0, 3]).linear_attention(&zeros(&[1, 2, 0, 3]), &zeros(&[1, 2, 0, 4]), &causal).unwrap();
        assert_eq!((out.shape(), state.shape()), (&[1, 2, 0, 4][..], &[1, 2, 3, 4][..]));
        // Whatever was seen is forgotten at once: each position sees itself alone.
        let ones = Tensor::ones(&[1, 1, 200, 2], DType::F32, device).unwrap();
        let log_decay = Some(Tensor::full(-1e4, &[1], DType::F32, device).unwrap());
        let (out, _) = ones.linear_attention(&ones, &ones, &LinearAttention { log_decay, ..causal }).unwrap();
        assert!(out.to_f64_vec().unwrap().iter().all(|&v| v == 2.0));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn decaying_sums(
        x in strategy::shape(3..=4).prop_flat_map(|s| strategy::viewed(s, Input::normal)),
        seed in any::<u64>(),
    ) {
        let device = Device::cpu();
        let operand = x.operand(&x.stored(&device, DType::F64).unwrap()).unwrap();
        let shape = operand.shape().to_vec();
        let factor = Input::uniform(-0.9, 0.9, &[shape[1]], seed);
        let both = [x, factor.clone()];
        same_on_devices_within(4.0, "decaying_sum", &both, |x| x[0].decaying_sum(&x[1]));

        let values = operand.to_f64_vec().unwrap();
        let (n, inner) = (shape[2], shape[3..].iter().product::<usize>());
        let mut want = values.clone();
        for at in 0..want.len() {
            if at / inner % n > 0 {
                want[at] += factor.values[at / (inner * n) % shape[1]] * want[at - inner];
            }
        }
        let got = operand.decaying_sum(&factor.stored(&device, DType::F64).unwrap()).unwrap();
        assert_close("decaying_sum", &got.to_f64_vec().unwrap(), &want, 1e-12, 1e-12);
    }
}

#[test]
fn decaying_sum_gradients() {
    for shape in [vec![2, 3, 4, 2], vec![1, 2, 1], vec![1, 1, 5, 1, 2]] {
        let factor = Input::uniform(-0.9, 0.9, &[shape[1]], 2);
        gradcheck("decaying_sum", &[Input::normal(&shape, 1), factor], |x| x[0].decaying_sum(&x[1]));
    }
}

#[test]
fn padding_leaves_no_trace() {
    for [causal, decay, normalize] in KINDS {
        let x: Vec<Tensor> = inputs(9, 2).iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
        let whole = LinearAttention { key_lengths: vec![9, 4], ..options(&x, causal, decay, normalize, 4) };
        let (got, state) = x[0].linear_attention(&x[1], &x[2], &whole).unwrap();
        let want = reference::linear_attention(&x[0], &x[1], &x[2], &whole).unwrap();
        assert_close("padded", &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-11, 1e-11);
        // The second row is as if it had four keys; behind them its state only decays.
        let cut = |x: &Tensor| x.narrow(0, 1, 1).unwrap().narrow(2, 0, 4).unwrap();
        let (alone, _) =
            cut(&x[0]).linear_attention(&cut(&x[1]), &cut(&x[2]), &options(&x, causal, decay, normalize, 4)).unwrap();
        assert_close("alone", &cut(&got).to_f64_vec().unwrap(), &alone.to_f64_vec().unwrap(), 1e-11, 1e-11);
        assert_eq!(state.shape()[0], 2);
        let run = |x: &[Tensor]| {
            let padded = LinearAttention { key_lengths: vec![7, 4], ..options(x, causal, decay, normalize, 3) };
            Ok(x[0].linear_attention(&x[1], &x[2], &padded)?.0)
        };
        gradcheck("linear_attention", &inputs(7, 2)[..if decay { 4 } else { 3 }], run);
    }
}

#[test]
fn random_features_estimate_softmax_attention() {
    let device = Device::cpu().with_seed(3);
    let build = nn::Build::new(&device).with_dtype(DType::F64);
    let x = |seed| Input::uniform(-1.0, 1.0, &[1, 1, 6, 4], seed).constant().stored(&device, DType::F64).unwrap();
    let (q, k, v) = (x(1), x(2), x(3));
    let want = q.attention(&k, &v, &Default::default()).unwrap().to_f64_vec().unwrap();
    let error = |features: usize| {
        let features = nn::RandomFeatures::new(4, Some(features), nn::Favor::Softmax, &build).unwrap();
        let options = LinearAttention { normalize: Some(1e-9), ..Default::default() };
        let (q, k) = (features.query(&q).unwrap(), features.key(&k).unwrap());
        let got = q.linear_attention(&k, &v, &options).unwrap().0.to_f64_vec().unwrap();
        got.iter().zip(&want).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    };
    let (few, many) = ((0..8).map(|_| error(16)).sum::<f64>() / 8.0, error(20_000));
    assert!(many < 0.1 && many < 0.2 * few, "an error of {few} with 16 features, of {many} with 20000");

    // Rows of a block are orthogonal, and as long as normal vectors are.
    let w = nn::orthogonal_gaussian(6, 4, &build).unwrap();
    let products = w.matmul(&w.transpose(0, 1).unwrap()).unwrap().to_f64_vec().unwrap();
    for (i, j) in (0..4).flat_map(|i| (0..i).map(move |j| (i, j))) {
        assert!(products[i * 6 + j].abs() < 1e-5 * products[i * 7].max(1.0), "rows {i} and {j}: {products:?}");
    }
    // Without signs of their own, directions would lean: their mean is small.
    let mean = nn::orthogonal_gaussian(8000, 2, &build).unwrap().mean(&[0], false).unwrap().to_f64_vec().unwrap();
    assert!(mean.iter().all(|m| m.abs() < 0.05), "{mean:?}");
}

#[test]
fn gradients_of_features() {
    let weights = Input::normal(&[5, 3], 9).constant();
    for kind in [nn::Favor::Softmax, nn::Favor::Relu] {
        let run = |x: &[Tensor]| {
            let features = nn::RandomFeatures::with_weights(&x[3], kind)?;
            let options = LinearAttention { normalize: Some(1e-6), ..Default::default() };
            // The maximum is a constant of the gradient, and cancels in the quotient but for the small offset.
            Ok(features.query(&x[0])?.linear_attention(&features.key(&x[1])?, &x[2], &options)?.0)
        };
        let x = |seed| Input::normal(&[1, 2, 4, 3], seed);
        gradcheck_within(
            if kind == nn::Favor::Softmax { 1e3 } else { 1.0 },
            "features",
            &[x(1), x(2), x(3), weights.clone()],
            run,
        );
        same_on_devices_within(8.0, "features", &[x(1), x(2), x(3), weights.clone()], run);
    }
}

#[test]
fn learned_rotations_know_distances() {
    let x = Input::normal(&[1, 2, 5, 3], 1);
    let theta = Input::uniform(0.1, 1.0, &[2, 3], 2);
    gradcheck("lrpe", &[x.clone(), theta.clone()], |x| nn::lrpe(&x[0], &x[1], 2));
    let stored: Vec<Tensor> = [x, theta].iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let products = |offset: usize| {
        let y = nn::lrpe(&stored[0], &stored[1], offset).unwrap();
        y.matmul(&y.transpose(2, 3).unwrap()).unwrap().to_f64_vec().unwrap()
    };
    assert_close("lrpe", &products(0), &products(70), 1e-12, 1e-12);
    expect_error(nn::lrpe(&stored[0], &stored[1].narrow(1, 0, 2).unwrap(), 0), &["lrpe", "[2, 2]", "[2, 3]"]);
    let decays = nn::decay_by_layer(4, 0, 3);
    assert_close("decay", &decays, &[-0.25, -0.0625, -0.015625, -0.00390625].map(|d| d * 1.00001), 1e-12, 0.0);
    assert!(nn::decay_by_layer(4, 2, 3).iter().all(|&d| d < 0.0 && d > -1e-5));
}

#[test]
fn bad_input() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    let (q, v) = (t(&[1, 2, 5, 3]), t(&[1, 2, 5, 4]));
    let run = |options: LinearAttention| q.linear_attention(&q, &v, &options);
    let op = "linear_attention";
    expect_error(t(&[2, 5, 3]).linear_attention(&q, &v, &Default::default()), &[op, "[2, 5, 3]", "four"]);
    expect_error(q.linear_attention(&t(&[1, 2, 5, 2]), &v, &Default::default()), &[op, "[1, 2, 5, 2]"]);
    expect_error(run(LinearAttention { log_decay: Some(t(&[2])), ..Default::default() }), &[op, "causal"]);
    let causal = LinearAttention { causal: true, ..Default::default() };
    expect_error(run(LinearAttention { log_decay: Some(t(&[3])), ..causal.clone() }), &[op, "[3]", "2 heads"]);
    expect_error(run(LinearAttention { key_lengths: vec![6], ..causal.clone() }), &[op, "[6]", "5 keys"]);
    expect_error(run(LinearAttention { chunk: 0, ..causal.clone() }), &[op, "chunk"]);
    expect_error(
        run(LinearAttention { state: Some(t(&[1, 2, 3, 5])), ..causal.clone() }),
        &[op, "[1, 2, 3, 5]", "[1, 2, 3, 4]"],
    );
    expect_error(run(LinearAttention { normalize: Some(-1.0), ..causal.clone() }), &[op, "-1"]);
    expect_error(t(&[1, 2, 4, 3]).linear_attention(&q, &v, &causal), &[op, "as many queries as keys"]);
    expect_error(q.decaying_sum(&t(&[3])), &["decaying_sum", "[3]", "2 heads"]);
    expect_error(t(&[3, 4]).decaying_sum(&t(&[4])), &["decaying_sum", "[3, 4]"]);
}
