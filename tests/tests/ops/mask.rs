//! Attention under masks and biases of all kinds, fused against composed, on all devices.

use proptest::prelude::*;
use wgrad::{AttentionOptions, DType, Device, Mask, Result, Tensor, nn, reference};
use wgrad_tests::{
    Input, Random, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu, same_on_devices_within,
};

/// One attention, drawn from a seed: sizes, which options, and the numbers of the mask.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub batch: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub queries: usize,
    pub keys: usize,
    head_dim: usize,
    value_dim: usize,
    pub terms: Vec<usize>,
    bias: Option<[bool; 3]>,
    pub relative: bool,
    sinks: bool,
    softcap: bool,
    pub seed: u64,
}

impl Case {
    pub fn draw(seed: u64, small: bool) -> Case {
        let mut random = Random::new(seed);
        let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
        let lengths: &[usize] = if small { &[1, 2, 3, 5, 7] } else { &[1, 2, 5, 31, 32, 33, 63, 65, 100] };
        let dims: &[usize] = if small { &[1, 2, 3, 5] } else { &[1, 4, 7, 16, 33, 64, 72] };
        let [key_heads, group] = [one_of(&[1, 2]), one_of(&[1, 1, 2, 3])];
        let mut case = Case {
            batch: one_of(&[1, 2]),
            heads: key_heads * group,
            key_heads,
            queries: one_of(lengths),
            keys: one_of(lengths),
            head_dim: one_of(dims),
            value_dim: one_of(dims),
            terms: Vec::new(),
            bias: None,
            relative: one_of(&[0, 0, 1]) == 1,
            sinks: one_of(&[0, 0, 1]) == 1,
            softcap: one_of(&[0, 0, 1]) == 1,
            seed,
        };
        case.terms = (0..one_of(&[0, 1, 1, 2])).map(|_| one_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).collect();
        case.bias = (one_of(&[0, 1]) == 1).then(|| [one_of(&[0, 1]) == 1, one_of(&[0, 1]) == 1, one_of(&[0, 1]) == 1]);
        case
    }

    /// Query, key, value, and the biases there are.
    pub fn inputs(&self) -> Vec<Input> {
        let &Case { batch, heads, key_heads, queries, keys, head_dim, value_dim, seed, .. } = self;
        // As projections give them: [batch, length, heads, width], seen as [batch, heads, length, width].
        let heads_view = |length: usize, heads: usize, width: usize, seed: u64| {
            Input::normal(&[batch, length, heads, width], seed).view(wgrad_tests::View::Permute(vec![0, 2, 1, 3]))
        };
        let mut inputs = vec![
            heads_view(queries, heads, head_dim, seed ^ 1),
            heads_view(keys, key_heads, head_dim, seed ^ 2),
            Input::normal(&[batch, key_heads, keys, value_dim], seed ^ 3),
        ];
        if let Some([b, h, q]) = self.bias {
            let shape = [if b { batch } else { 1 }, if h { heads } else { 1 }, if q { queries } else { 1 }, keys];
            inputs.push(Input::normal(&shape, seed ^ 4));
        }
        if self.relative {
            let heads = if seed.is_multiple_of(2) { heads } else { 1 };
            inputs.push(Input::normal(&[heads, queries + keys - 1], seed ^ 5));
        }
        if self.sinks {
            inputs.push(Input::normal(&[heads], seed ^ 6));
        }
        inputs
    }

    pub fn options(&self, x: &[Tensor]) -> Result<AttentionOptions> {
        let mut extras = x[3..].iter().cloned();
        Ok(AttentionOptions {
            mask: self.mask(x[0].device())?,
            bias: self.bias.and_then(|_| extras.next()),
            relative_bias: if self.relative { extras.next() } else { None },
            sinks: if self.sinks { extras.next() } else { None },
            softcap: self.softcap.then_some(1.5),
            ..Default::default()
        })
    }

    pub fn mask(&self, device: &Device) -> Result<Mask> {
        let &Case { batch, heads, queries, keys, .. } = self;
        let mut random = Random::new(self.seed ^ 9);
        let mut mask = Mask::all();
        for term in &self.terms {
            let lengths =
                |random: &mut Random, most: usize| (0..batch).map(|_| random.below(most + 1)).collect::<Vec<_>>();
            let sorted = |random: &mut Random, length: usize| {
                let mut ids: Vec<u32> = (0..length).map(|_| random.below(3) as u32).collect();
                ids.sort_unstable();
                Tensor::from_vec(ids, &[1, length], &Device::cpu())
            };
            let times = |random: &mut Random, spread: usize, shape: &[usize]| {
                let n = shape.iter().product();
                Tensor::from_vec((0..n).map(|_| random.below(spread) as i32).collect(), shape, &Device::cpu())
            };
            let bools = |random: &mut Random, shape: &[usize]| {
                let n: usize = shape.iter().product();
                Tensor::from_vec((0..n).map(|_| random.below(3) > 0).collect(), shape, device)
            };
            mask = mask.and(match term {
                0 => Mask::causal(random.below(queries + 4) as i64 - 4),
                1 => Mask::window(random.below(keys + 1), random.below(5)),
                2 => Mask::sink_window(random.below(keys + 5), random.below(keys + 1), 0),
                10 => Mask::global_window(random.below(keys + 5), random.below(9), random.below(9)),
                3 => Mask::prefix(&lengths(&mut random, keys)),
                4 => Mask::key_lengths(&lengths(&mut random, keys)),
                5 => Mask::query_lengths(&lengths(&mut random, queries)),
                6 => Mask::segments(&sorted(&mut random, queries)?, &sorted(&mut random, keys)?),
                7 => {
                    let low = times(&mut random, queries, &[batch, 1, keys])?;
                    Mask::intervals(&low, &times(&mut random, 2 * queries, &[batch, 1, keys])?, None)
                }
                8 => Mask::dense(&bools(&mut random, &[batch, 1, queries, keys])?),
                _ => Mask::blocks(&bools(&mut random, &[heads, queries.div_ceil(16), keys.div_ceil(8)])?, 16, 8),
            });
        }
        Ok(mask)
    }

    fn fused(&self, x: &[Tensor]) -> Result<Tensor> {
        x[0].attention(&x[1], &x[2], &self.options(x)?)
    }

    fn composed(&self, x: &[Tensor]) -> Result<Tensor> {
        reference::attention(&x[0], &x[1], &x[2], &self.options(x)?)
    }
}

/// An attention in two ways.
pub(crate) type Way<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Fused against composed, in value and in every gradient.
fn same_as_composed(case: &Case, device: &Device) {
    same(case, device, 3e-6, &|x| case.fused(x), &|x| case.composed(x));
}

/// Compares two ways; results may be `slack` of the largest number of all apart.
pub(crate) fn same(case: &Case, device: &Device, slack: f64, fused: Way, composed: Way) {
    let run = |f: Way| {
        let leaves: Vec<Tensor> = case.inputs().iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
        let operands: Vec<Tensor> = case.inputs().iter().zip(&leaves).map(|(i, x)| i.operand(x).unwrap()).collect();
        let out = f(&operands).unwrap();
        let loss = out.mul(&out.add_scalar(0.7).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let mut all = vec![out.to_f64_vec().unwrap()];
        all.extend(leaves.iter().map(|leaf| grads.get(leaf).unwrap().to_f64_vec().unwrap()));
        all
    };
    let (fused, composed) = (run(fused), run(composed));
    // A gradient may be what is left of terms as large as those that make up the largest; that of a score is a difference to
    // the product of a row of the result with its gradient, and nothing is left of it where one key alone is seen.
    let rows = composed[0].chunks(case.value_dim.max(1)).map(|row| row.iter().map(|v| (2.0 * v + 0.7) * v).sum());
    let overall = composed.iter().flatten().copied().chain(rows).fold(0.0, |m: f64, v| m.max(v.abs()));
    for (at, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        let largest = composed.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        wgrad_tests::assert_close(
            &format!("{case:?} on {device}, result {at}"),
            fused,
            composed,
            3e-5 * largest + slack * overall,
            3e-5,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
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

// Fewer: each compiles kernels of its own.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn fused_is_composed_on_gpus(seed in any::<u64>()) {
        // One of them each time: software drivers take seconds to compile a kernel.
        if let Some(device) = if seed % 2 == 0 { gpu() } else { portable_gpu() } {
            same_as_composed(&Case::draw(seed, false), device);
        }
    }
}

/// All options at once, in all dtypes.
#[test]
fn devices_agree() {
    let case = Case { terms: vec![0, 8], bias: Some([true, false, true]), sinks: true, ..Case::draw(7, false) };
    same_on_devices_within(16.0, "attention", &case.inputs(), |x| case.fused(x));
    let case = Case { terms: vec![4], bias: None, relative: true, ..Case::draw(8, false) };
    same_on_devices_within(16.0, "attention", &case.inputs(), |x| case.fused(x));
}

/// The result and the gradients of its squares.
fn all_of(x: &[Tensor], attention: Way) -> Vec<f64> {
    let y = attention(x).unwrap();
    let gradients = y.mul(&y).unwrap().sum_all().unwrap().backward().unwrap();
    let all = [&y].into_iter().chain(x.iter().map(|x| gradients.get(x).unwrap()));
    all.flat_map(|x| x.to_f64_vec().unwrap()).collect()
}

/// Over several blocks, whose ends are not those of segments; in order, and not.
#[test]
fn segments_of_any_order() {
    let Some(device) = gpu() else { return };
    let length = 170;
    let number = |at: usize| [3u32, 3, 7, u32::MAX, 9][at / 35];
    for turned in [false, true] {
        let ids = (0..length).map(|at| number(if turned { (at + 60) % length } else { at })).collect();
        let ids = Tensor::from_vec(ids, &[1, length], &Device::cpu()).unwrap();
        let options = AttentionOptions { mask: Mask::segments(&ids, &ids), ..Default::default() };
        let leaf = |seed| Input::normal(&[1, 2, length, 8], seed).stored(device, DType::F32).unwrap();
        let x = [leaf(1), leaf(2), leaf(3)];
        let fused = all_of(&x, &|x| x[0].attention(&x[1], &x[2], &options));
        let composed = all_of(&x, &|x| reference::attention(&x[0], &x[1], &x[2], &options));
        wgrad_tests::assert_close("segments", &fused, &composed, 1e-4, 1e-4);
    }
}

#[test]
fn dropout_takes_the_weights_that_the_composition_takes() {
    let Some(device) = gpu() else { return };
    // Rows of weights begin at any of the four words of a block of random numbers, or always at the first.
    for keys in [40, 41, 42, 43] {
        let leaf = |length, seed| Input::normal(&[2, 2, length, 8], seed).stored(device, DType::F32).unwrap();
        let x = [leaf(40, 1), leaf(keys, 2), leaf(keys, 3)];
        let options = AttentionOptions { dropout: 0.4, mask: Mask::causal(3), ..Default::default() };
        let run = |attention: Way| {
            device.set_seed(11);
            all_of(&x, attention)
        };
        let fused = run(&|x| x[0].attention(&x[1], &x[2], &options));
        let composed = run(&|x| reference::attention(&x[0], &x[1], &x[2], &options));
        wgrad_tests::assert_close(&format!("dropout of {keys} keys"), &fused, &composed, 1e-4, 1e-4);
    }
}

/// With the unit matrix for values the result is the weights after dropout, from which the gradients follow.
#[test]
fn dropout_is_the_same_in_both_directions() {
    each_device(|device| {
        let leaf = |seed| Input::normal(&[1, 1, 40, 8], seed).stored(device, DType::F32).unwrap();
        let (q, k) = (leaf(1), leaf(2));
        let unit = (0..1600).map(|i| if i % 41 == 0 { 1.0f32 } else { 0.0 }).collect();
        let v = Tensor::from_vec(unit, &[1, 1, 40, 40], device).unwrap().requires_grad();
        let d_out = Input::normal(&[1, 1, 40, 40], 3).constant().stored(device, DType::F32).unwrap();
        let options = AttentionOptions { dropout: 0.3, ..Default::default() };
        let out = q.attention(&k, &v, &options).unwrap();
        let grads = wgrad::autograd::backward(&[(&out, d_out.clone())], &[], false).unwrap();
        let kept = out.detach();
        let weights = q.detach().attention_weights(&k.detach(), &Default::default()).unwrap();
        let fallen = kept.to_f64_vec().unwrap().iter().filter(|&&w| w == 0.0).count();
        assert!((400..560).contains(&fallen), "{fallen} of 1600 fell at a rate of 0.3");
        let same = |what: &str, got: &Tensor, want: &Tensor| {
            wgrad_tests::assert_close(what, &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-5, 1e-4);
        };
        same("values", grads.get(&v).unwrap(), &kept.transpose(2, 3).unwrap().matmul(&d_out).unwrap());
        let through = kept.mul(&d_out).unwrap();
        let delta = through.sum(&[-1], true).unwrap();
        let d_scores = through.sub(&weights.mul(&delta).unwrap()).unwrap().mul_scalar(1.0 / 8f64.sqrt()).unwrap();
        same("queries", grads.get(&q).unwrap(), &d_scores.matmul(&k.detach()).unwrap());
        same("keys", grads.get(&k).unwrap(), &d_scores.transpose(2, 3).unwrap().matmul(&q.detach()).unwrap());
    });
}

#[test]
fn positions_as_bias() {
    let close = |got: &[f64], want: &[f64]| wgrad_tests::assert_close("alibi_slopes", got, want, 1e-6, 0.0);
    close(&nn::alibi_slopes(8)[..3], &[0.5, 0.25, 0.125]);
    close(&nn::alibi_slopes(12)[8..], &[0.5f64.sqrt(), 0.353553, 0.176777, 0.088388]);
    let x = [1, 2, 3].map(|seed| Input::normal(&[1, 3, 6, 4], seed)).to_vec();
    let slopes = Input::of(&[0.5, 0.3, 0.1], &[3]);
    gradcheck("alibi", &[x.clone(), vec![slopes]].concat(), |x| {
        let relative_bias = Some(nn::alibi(&x[3], 6, 6, 0)?);
        x[0].attention(&x[1], &x[2], &AttentionOptions { relative_bias, ..Default::default() })
    });
    gradcheck("relative_bias", &[x, vec![Input::normal(&[8, 3], 4)]].concat(), |x| {
        let relative_bias = Some(nn::relative_bias(&x[3], 6, 6, 0, 20, true)?);
        x[0].attention(&x[1], &x[2], &AttentionOptions { relative_bias, ..Default::default() })
    });
    let bias = nn::alibi(&Tensor::from_slice(&[1.0f32], &[1], &Device::cpu()).unwrap(), 2, 3, 1).unwrap();
    assert_eq!(bias.to_vec::<f32>().unwrap(), [-2.0, -1.0, 0.0, -1.0]);
    expect_error(nn::alibi(&bias, 2, 3, 0), &["alibi", "[1, 4]", "[heads]"]);
}

#[test]
fn what_is_hidden_leaves_no_trace() {
    each_device(|device| {
        let tensor = |input: Input| input.stored(device, DType::F32).unwrap();
        let (q, k, v) =
            (Input::normal(&[1, 2, 70, 16], 1), Input::normal(&[1, 2, 70, 16], 2), Input::normal(&[1, 2, 70, 16], 3));
        let options = AttentionOptions { mask: Mask::key_lengths(&[50]), ..Default::default() };
        let changed = |x: &Input| {
            let mut x = x.clone();
            x.values.iter_mut().enumerate().filter(|(i, _)| i / 16 % 70 >= 50).for_each(|(_, v)| *v = 1e30);
            x
        };
        let run = |k: Input, v: Input| {
            let (q, k, v) = (tensor(q.clone()), tensor(k), tensor(v));
            let out = q.attention(&k, &v, &options).unwrap();
            let grads = out.square().unwrap().sum_all().unwrap().backward().unwrap();
            let of_keys = grads.get(&k).unwrap().narrow(2, 0, 50).unwrap();
            [out, grads.get(&q).unwrap().clone(), of_keys].map(|x| x.to_f64_vec().unwrap())
        };
        assert_eq!(run(k.clone(), v.clone()), run(changed(&k), changed(&v)));
    });
}

#[test]
fn memory_is_linear_in_the_length() {
    // A device of its own, whose peak no other test raises.
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let leaf = |seed| Input::normal(&[1, 2, length, 16], seed).stored(&device, DType::F32).unwrap();
        let (q, k, v) = (leaf(1), leaf(2), leaf(3));
        let options = AttentionOptions { mask: Mask::causal(0), ..Default::default() };
        let loss = q.attention(&k, &v, &options).unwrap().sum_all().unwrap();
        loss.backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(256), peak(1024));
    assert!(long <= 5 * short, "{device}: {short} bytes for 256, {long} for 1024");
}

#[test]
fn weights_are_those_of_the_attention() {
    let case = Case { sinks: true, terms: vec![0, 4], ..Case::draw(5, false) };
    let x: Vec<Tensor> =
        case.inputs().iter().map(|i| i.operand(&i.stored(&Device::cpu(), DType::F64).unwrap()).unwrap()).collect();
    let weights = x[0].attention_weights(&x[1], &case.options(&x).unwrap()).unwrap();
    let values = x[2].repeat_interleave(case.heads / case.key_heads, 1).unwrap();
    let want = weights.matmul(&values).unwrap().to_f64_vec().unwrap();
    wgrad_tests::assert_close("weights", &case.fused(&x).unwrap().to_f64_vec().unwrap(), &want, 1e-12, 1e-12);
}

#[test]
fn bad_masks_are_refused() {
    let cpu = Device::cpu();
    let x = Tensor::zeros(&[2, 3, 5, 4], DType::F32, &cpu).unwrap();
    let refused = |mask: Mask, words: &[&str]| {
        let options = AttentionOptions { mask, ..Default::default() };
        expect_error(x.attention(&x, &x, &options), words);
    };
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &cpu).unwrap();
    refused(Mask::key_lengths(&[5, 6]), &["attention", "key lengths say 6", "5 keys"]);
    refused(Mask::key_lengths(&[1, 2, 3]), &["3 key lengths", "batch of 2"]);
    refused(Mask::prefix(&[9]), &["prefix lengths say 9", "5 keys"]);
    refused(Mask::query_lengths(&[]), &["0 query lengths"]);
    let ids = zeros(&[2, 5], DType::U32);
    refused(Mask::segments(&ids, &zeros(&[2, 4], DType::U32)), &["key segments", "[2, 4]", "[2, 5]"]);
    refused(Mask::segments(&zeros(&[2, 5], DType::I32), &ids), &["u32 segment numbers"]);
    let low = zeros(&[1, 3, 5], DType::I32);
    refused(Mask::intervals(&low, &zeros(&[1, 3, 6], DType::I32), None), &["interval ends", "[1, 3, 6]", "[2, 3, 5]"]);
    refused(Mask::dense(&zeros(&[2, 3, 4, 5], DType::Bool)), &["mask", "[2, 3, 4, 5]", "[2, 3, 5, 5]"]);
    refused(Mask::blocks(&zeros(&[3, 3], DType::Bool), 2, 0), &["blocks", "2 queries and 0 keys"]);
    refused(Mask::blocks(&zeros(&[3, 3], DType::Bool), 2, 1), &["[3, 3]", "[2, 3, 3, 5]"]);
    let relative = AttentionOptions { relative_bias: Some(zeros(&[3, 8], DType::F32)), ..Default::default() };
    expect_error(x.attention(&x, &x, &relative), &["relative bias", "[3, 8]", "[3, 9]"]);
    let sinks = AttentionOptions { sinks: Some(zeros(&[2], DType::F32)), ..Default::default() };
    expect_error(x.attention(&x, &x, &sinks), &["sinks", "[2]", "[3]"]);
}
