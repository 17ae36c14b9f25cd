//! Positions and scales in attention: rotary, disentangled and head-scaled scores, fused against composed, on all devices.

use proptest::prelude::*;
use wgrad::{
    AttentionOptions, Buckets, DType, Device, Disentangled, Mask, Result, Rope, Rotary, Tensor, nn, reference,
};
use wgrad_tests::{
    Input, Random, View, assert_close, devices, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu,
    same_on_devices_within,
};

/// One attention with terms that depend on positions, drawn from a seed.
#[derive(Debug, Clone)]
struct Case {
    batch: usize,
    key_heads: usize,
    group: usize,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    causal: bool,
    /// c2p, p2c, relative bias, sinks, head scale, rotary, bias.
    terms: [bool; 7],
    seed: u64,
}

impl Case {
    fn draw(seed: u64, small: bool) -> Case {
        let mut random = Random::new(seed);
        let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
        let lengths: &[usize] = if small { &[1, 2, 3, 5, 7] } else { &[1, 2, 5, 31, 33, 64, 65, 100] };
        Case {
            batch: one_of(&[1, 2]),
            key_heads: one_of(&[1, 2]),
            group: one_of(&[1, 1, 2]),
            queries: one_of(lengths),
            keys: one_of(lengths),
            head_dim: one_of(if small { &[2, 4] } else { &[4, 16, 34, 64] }),
            value_dim: one_of(if small { &[1, 3] } else { &[4, 7, 64] }),
            causal: one_of(&[0, 1]) == 1,
            terms: std::array::from_fn(|_| one_of(&[0, 1]) == 1),
            seed,
        }
    }

    fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    fn buckets(&self) -> Buckets {
        let span = 1 + (self.seed % 9) as usize;
        let far = self.seed.is_multiple_of(2).then_some(4 * span);
        Buckets::disentangled(self.queries, self.keys, span, far).unwrap()
    }

    fn inputs(&self) -> Vec<Input> {
        let &Case { batch, key_heads, queries, keys, head_dim, value_dim, seed, .. } = self;
        let (heads, buckets) = (self.heads(), self.buckets().count());
        let by_rows = |length, heads, width, seed| {
            Input::normal(&[batch, length, heads, width], seed).view(View::Permute(vec![0, 2, 1, 3]))
        };
        let mut inputs = vec![
            by_rows(queries, heads, head_dim, seed ^ 1),
            by_rows(keys, key_heads, head_dim, seed ^ 2),
            Input::normal(&[batch, key_heads, keys, value_dim], seed ^ 3),
        ];
        let extras = [
            Input::normal(&[batch, heads, queries, buckets], seed ^ 4),
            Input::normal(&[batch, heads, keys, buckets], seed ^ 5),
            Input::normal(&[heads, queries + keys - 1], seed ^ 6),
            Input::normal(&[heads], seed ^ 7),
            Input::normal(&[heads], seed ^ 8),
        ];
        inputs.extend(extras.into_iter().zip(self.terms).filter(|(_, there)| *there).map(|(input, _)| input));
        if self.terms[6] {
            inputs.push(Input::normal(&[heads, 1, keys], seed ^ 9));
        }
        inputs
    }

    fn options(&self, x: &[Tensor]) -> Result<AttentionOptions> {
        let mut extras = x[3..].iter().cloned();
        let mut next = |at: usize| if self.terms[at] { extras.next() } else { None };
        let (c2p, p2c) = (next(0), next(1));
        let positions = |length: usize, step: usize| {
            let values = (0..self.batch * length).map(|t| (t * step % 1000) as u32).collect();
            Tensor::from_vec(values, &[self.batch, length], x[0].device())
        };
        let rotary = || -> Result<Rotary> {
            let (queries, keys) = (positions(self.queries, 3)?, positions(self.keys, 2)?);
            Ok(Rotary { rope: Rope::new(self.head_dim / 4 * 2, 100.0)?, queries, keys })
        };
        Ok(AttentionOptions {
            disentangled: (self.terms[0] || self.terms[1]).then(|| Disentangled { c2p, p2c, buckets: self.buckets() }),
            relative_bias: next(2),
            sinks: next(3),
            head_scale: next(4),
            rotary: self.terms[5].then(rotary).transpose()?,
            bias: next(6),
            mask: if self.causal { Mask::causal(1) } else { Mask::all() },
            ..Default::default()
        })
    }

    fn fused(&self, x: &[Tensor]) -> Result<Tensor> {
        x[0].attention(&x[1], &x[2], &self.options(x)?)
    }

    fn composed(&self, x: &[Tensor]) -> Result<Tensor> {
        reference::attention(&x[0], &x[1], &x[2], &self.options(x)?)
    }
}

/// Fused against composed, in value and in every gradient.
fn same_as_composed(case: &Case, device: &Device) {
    let run = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let leaves: Vec<Tensor> = case.inputs().iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
        let operands: Vec<Tensor> = case.inputs().iter().zip(&leaves).map(|(i, x)| i.operand(x).unwrap()).collect();
        let out = f(&operands).unwrap();
        let loss = out.mul(&out.add_scalar(0.7).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let mut all = vec![out.to_f64_vec().unwrap()];
        all.extend(leaves.iter().map(|leaf| grads.get(leaf).unwrap().to_f64_vec().unwrap()));
        all
    };
    let (fused, composed) = (run(&|x| case.fused(x)), run(&|x| case.composed(x)));
    // A gradient may be what is left of terms as large as those that make up the largest.
    let overall = composed.iter().flatten().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (at, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        let largest = composed.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        let what = format!("{case:?} on {device}, result {at}");
        assert_close(&what, fused, composed, 3e-5 * largest + 3e-6 * overall, 3e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn gradients(seed in any::<u64>()) {
        let case = Case::draw(seed, true);
        gradcheck("attention", &case.inputs(), |x| case.fused(x));
    }

    #[test]
    fn fused_is_composed(seed in any::<u64>()) {
        same_as_composed(&Case::draw(seed, false), &Device::cpu());
    }
}

// Few: each compiles kernels of its own.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn fused_is_composed_on_gpus(seed in any::<u64>()) {
        if let Some(device) = if seed % 2 == 0 { gpu() } else { portable_gpu() } {
            same_as_composed(&Case::draw(seed, false), device);
        }
    }
}

/// All terms at once.
#[test]
fn devices_agree() {
    let case = Case { terms: [true; 7], queries: 65, keys: 100, causal: true, ..Case::draw(3, false) };
    same_on_devices_within(16.0, "attention", &case.inputs(), |x| case.fused(x));
    let plain = Case { terms: [true, true, false, false, false, false, false], causal: false, ..case };
    same_on_devices_within(16.0, "attention", &plain.inputs(), |x| plain.fused(x));
}

/// DeBERTa's scores from its projections, with the gradient of the table of positions.
#[test]
fn the_table_of_positions_trains() {
    let (heads, length, dim, span) = (2, 9, 4, 3);
    let x = |seed| Input::normal(&[1, heads, length, dim], seed);
    let table = |seed| Input::normal(&[heads, 2 * span, dim], seed);
    let inputs = [x(1), x(2), x(3), table(4), table(5)];
    let scale = 1.0 / (3.0 * dim as f64).sqrt();
    let attend = |x: &[Tensor], composed: bool| {
        let products = |x: &Tensor, table: &Tensor| x.matmul(&table.transpose(1, 2)?)?.mul_scalar(scale);
        let terms = Disentangled {
            c2p: Some(products(&x[0], &x[3])?),
            p2c: Some(products(&x[1], &x[4])?),
            buckets: Buckets::disentangled(length, length, span, Some(8))?,
        };
        let options = AttentionOptions { scale: Some(scale), disentangled: Some(terms), ..Default::default() };
        match composed {
            true => reference::attention(&x[0], &x[1], &x[2], &options),
            false => x[0].attention(&x[1], &x[2], &options),
        }
    };
    gradcheck("disentangled", &inputs, |x| attend(x, false));
    let stored: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let [got, want] = [false, true].map(|composed| attend(&stored, composed).unwrap().to_f64_vec().unwrap());
    assert_close("disentangled", &got, &want, 1e-12, 1e-12);
}

#[test]
fn memory_is_linear_in_the_length_with_every_table() {
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let leaf = |shape: &[usize], seed| Input::normal(shape, seed).stored(&device, DType::F32).unwrap();
        let x = |seed| leaf(&[1, 2, length, 8], seed);
        let (q, k, v) = (x(1), x(2), x(3));
        let (c2p, p2c) = (leaf(&[1, 2, length, 8], 4), leaf(&[1, 2, length, 8], 5));
        let buckets = Buckets::disentangled(length, length, 4, Some(64)).unwrap();
        let relative = nn::relative_bias(&leaf(&[8, 2], 6), length, length, 0, 64, true).unwrap();
        let options = AttentionOptions {
            disentangled: Some(Disentangled { c2p: Some(c2p), p2c: Some(p2c), buckets }),
            relative_bias: Some(relative),
            ..Default::default()
        };
        q.attention(&k, &v, &options).unwrap().sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(128), peak(512));
    assert!(long < 6 * short, "{short} bytes at 128 tokens, {long} at 512");
}

#[test]
fn angles_of_any_kind() {
    let x = Input::normal(&[2, 3, 5, 10], 1);
    let plane = Input::indices(30, &[2, 2, 5], DType::U32, 2);
    let ropes = [
        Rope::axial(8, 50.0, 2).unwrap(),
        Rope::axial(8, 50.0, 2).unwrap().interleaved().with_magnitude(1.3).stretched(4.0),
    ];
    for rope in &ropes {
        let both = [x.clone(), plane.clone()];
        gradcheck("rotary", &both, |x| x[0].rope(&x[1], rope));
        same_on_devices_within(4.0, "rotary", &both, |x| x[0].rope(&x[1], rope));
    }
    // The second axis turns the second half of the pairs: elements 2, 3 with 6, 7.
    let stored: Vec<Tensor> = [&x, &plane].map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).to_vec();
    let got = stored[0].rope(&stored[1], &ropes[0]).unwrap().to_f64_vec().unwrap();
    let mut want = x.values.clone();
    for row in 0..30 {
        let (batch, time) = (row / 15, row % 5);
        for (k, axis, frequency) in [(0, 0, 1.0), (1, 0, 50f64.powf(-0.5)), (2, 1, 1.0), (3, 1, 50f64.powf(-0.5))] {
            let (sin, cos) = (plane.values[(batch * 2 + axis) * 5 + time] * frequency).sin_cos();
            let (a, b) = (x.values[row * 10 + k], x.values[row * 10 + k + 4]);
            (want[row * 10 + k], want[row * 10 + k + 4]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    assert_close("rotary", &got, &want, 1e-12, 1e-12);
}

/// Rows of whole fours, of which a part may turn, as they come and with tokens before heads; heads that several invocations share, and not evenly.
#[test]
fn whole_fours_of_some_heads() {
    let positions = Input::indices(1000, &[2, 64], DType::I32, 2);
    for rope in [Rope::new(8, 1e4).unwrap(), Rope::new(16, 1e4).unwrap(), Rope::new(12, 1e4).unwrap().interleaved()] {
        let heads_first = Input::normal(&[2, 5, 64, 16], 1);
        let tokens_first = Input::normal(&[2, 64, 5, 16], 1).view(View::Permute(vec![0, 2, 1, 3]));
        for x in [heads_first, tokens_first] {
            same_on_devices_within(4.0, "rotary", &[x, positions.clone()], |x| x[0].rope(&x[1], &rope));
        }
    }
}

#[test]
fn angles_are_exact_far_out_and_before_the_start() {
    each_device(|device| {
        let x = Input::normal(&[1, 1, 4, 8], 1);
        let positions = [2_000_000_011i32, -1_999_999_999, -1, 1_000_003];
        let at = Tensor::from_slice(&positions, &[1, 4], device).unwrap();
        let got = x.stored(device, DType::F32).unwrap().rotary(&at, 1e4, 8, false).unwrap().to_f64_vec().unwrap();
        let at = Tensor::from_slice(&positions, &[1, 4], &Device::cpu()).unwrap();
        let want = x.stored(&Device::cpu(), DType::F64).unwrap().rotary(&at, 1e4, 8, false).unwrap();
        assert_close("rotary", &got, &want.to_f64_vec().unwrap(), 4e-6, 0.0);
    });
}

/// Two layers with two thetas, and the products depend on distances alone.
#[test]
fn only_distances_count() {
    for device in devices() {
        let x = |seed| Input::normal(&[1, 2, 6, 8], seed).stored(&device, DType::F32).unwrap();
        let (q, k, v) = (x(1), x(2), x(3));
        for theta in [1e4, 1.6e5] {
            let rope = Rope::new(8, theta).unwrap();
            let at = |start: u32| {
                let positions = Tensor::from_vec((start..start + 6).collect(), &[1, 6], &device).unwrap();
                let rotary = Rotary { rope: rope.clone(), queries: positions.clone(), keys: positions };
                let options = AttentionOptions { rotary: Some(rotary), mask: Mask::causal(0), ..Default::default() };
                q.attention(&k, &v, &options).unwrap().to_f64_vec().unwrap()
            };
            assert_close("rotary", &at(0), &at(4_000_000), 1e-5, 1e-5);
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    let x = t(&[1, 2, 3, 8]);
    let positions = Tensor::zeros(&[1, 3], DType::U32, &Device::cpu()).unwrap();
    expect_error(Rope::axial(6, 1e4, 2).map(drop), &["rotary", "6", "2 axes"]);
    expect_error(Rope::with_frequencies(vec![f64::NAN]).map(drop), &["rotary", "NaN"]);
    expect_error(x.rope(&positions, &Rope::axial(8, 1e4, 2).unwrap()), &["rotary", "[1, 3]", "[1, 2, 3]"]);
    expect_error(x.rope(&positions, &Rope::new(10, 1e4).unwrap()), &["rotary", "10", "head_dim 8"]);
    let terms = |buckets: Buckets, c2p: &[usize]| AttentionOptions {
        disentangled: Some(Disentangled { c2p: Some(t(c2p)), p2c: None, buckets }),
        ..Default::default()
    };
    let buckets = Buckets::disentangled(3, 3, 2, None).unwrap();
    expect_error(x.attention(&x, &x, &terms(buckets.clone(), &[1, 2, 3, 5])), &["attention", "c2p", "[1, 2, 3, 4]"]);
    let few = Buckets::disentangled(2, 3, 2, None).unwrap();
    expect_error(x.attention(&x, &x, &terms(few, &[1, 2, 3, 4])), &["attention", "4 distances", "have 5"]);
    expect_error(Buckets::new(3, 3, 2, |d| (d.unsigned_abs() % 2) as usize).map(drop), &["Buckets", "comes back"]);
    expect_error(Buckets::new(3, 3, 2, |_| 2).map(drop), &["Buckets", "bucket 2 of 2"]);
    let head_scale = AttentionOptions { head_scale: Some(t(&[3])), ..Default::default() };
    expect_error(x.attention(&x, &x, &head_scale), &["attention", "head scale", "[3]", "[2]"]);
}
