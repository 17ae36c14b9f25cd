//! Each width of a head, each kind of mask by name, and each term beside each kind of list: what drawn cases may miss.

use wgrad::{
    AttentionOptions, BlockIndex, BlockLayout, Buckets, DType, Device, Disentangled, KeyIndex, Mask, Result, Rope,
    Rotary, ScoreModifier, SparseIndex, Tensor, reference,
};
use wgrad_tests::{Input, assert_close, gpu};

/// The result and the gradients of all that is differentiable, of a loss of it.
pub(crate) fn all_of(
    inputs: &[Input],
    device: &Device,
    dtype: DType,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Vec<Vec<f64>> {
    let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, dtype).unwrap()).collect();
    let out = f(&x).unwrap();
    let out_values = out.to_f64_vec().unwrap();
    if !out.is_tracked() {
        return vec![out_values];
    }
    let grads = out.mul(&out.add_scalar(0.7).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
    let leaves = inputs.iter().zip(&x).filter(|(input, _)| input.differentiable);
    let grads = leaves.map(|(_, x)| grads.get(x).unwrap().to_f64_vec().unwrap());
    [out_values].into_iter().chain(grads).collect()
}

/// Each result relative to the largest number of all: gradients may be what is left of terms that large.
pub(crate) fn assert_all(what: &str, got: &[Vec<f64>], want: &[Vec<f64>], slack: f64) {
    let largest = want.iter().flatten().fold(1.0, |m: f64, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert_close(&format!("{what}, result {at}"), got, want, slack * largest, slack);
    }
}

/// Query, key and value with these heads and key heads.
pub(crate) fn inputs(heads: [usize; 2], [queries, keys]: [usize; 2], [width, values]: [usize; 2]) -> Vec<Input> {
    let shapes = [[2, heads[0], queries, width], [2, heads[1], keys, width], [2, heads[1], keys, values]];
    (1..).zip(shapes).map(|(seed, shape)| Input::normal(&shape, seed)).collect()
}

/// The GPU, if there is one, against the CPU device in f64.
fn on_gpu(what: &str, inputs: &[Input], fused: &dyn Fn(&[Tensor]) -> Result<Tensor>, gpu: Option<&Device>) {
    if let Some(gpu) = gpu {
        let (got, want) = (all_of(inputs, gpu, DType::F32, fused), all_of(inputs, &Device::cpu(), DType::F64, fused));
        assert_all(&format!("{what} on {gpu}"), &got, &want, 2e-5);
        gpu.check_guards().unwrap();
    }
}

fn same_as_composed(
    what: &str,
    inputs: &[Input],
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    composed: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    let run = |f| all_of(inputs, &Device::cpu(), DType::F64, f);
    assert_all(what, &run(fused), &run(composed), 1e-10);
}

/// Columns go in one turn up to 128, 64 for gradients of keys and values; beyond, in several.
#[test]
fn wide_heads() {
    for widths in [[96, 128], [128, 256], [256, 96]] {
        let all = inputs([2, 1], [41, 37], widths);
        let options = AttentionOptions { mask: Mask::causal(3), ..Default::default() };
        let fused = |x: &[Tensor]| x[0].attention(&x[1], &x[2], &options);
        same_as_composed(&format!("{widths:?}"), &all, &fused, &|x| {
            reference::attention(&x[0], &x[1], &x[2], &options)
        });
        // Each compiles kernels of its own: all of one, and of another the forward, whose columns are those of the values.
        match widths {
            [256, 96] => on_gpu(&format!("{widths:?}"), &all, &fused, gpu()),
            [128, 256] => {
                let values: Vec<Input> = all.iter().cloned().map(Input::constant).collect();
                on_gpu(&format!("{widths:?}"), &values, &fused, gpu());
            }
            _ => {}
        }
    }
}

pub(crate) const QUERIES: usize = 70;
pub(crate) const KEYS: usize = 75;

/// Masks of two batch elements and two heads.
pub(crate) fn masks() -> Vec<(&'static str, Mask)> {
    let cpu = Device::cpu();
    let segments = |length: usize, each: usize| {
        let ids = (0..2 * length).map(|n| if n % length > length - 4 { u32::MAX } else { (n % length / each) as u32 });
        Tensor::from_vec(ids.collect(), &[2, length], &cpu).unwrap()
    };
    let times = |shape: &[usize], f: &dyn Fn(usize) -> usize| {
        Tensor::from_vec((0..shape.iter().product()).map(|n| f(n) as i32).collect(), shape, &cpu).unwrap()
    };
    let low = times(&[2, 1, KEYS], &|n| n % KEYS / 2);
    let high = times(&[2, 1, KEYS], &|n| n % KEYS + n / KEYS * 9);
    let by_head = [times(&[1, 2, KEYS], &|n| n % 40), times(&[1, 2, KEYS], &|n| 10 + n / KEYS * 30 + n % 25)];
    let of_queries = times(&[2, QUERIES], &|n| (n * 29) % 71);
    let seen = (0..2 * 5 * 5).map(|n| n * 7 % 3 > 0).collect();
    let seen = Tensor::from_vec(seen, &[2, 5, 5], &cpu).unwrap();
    let dense = (0..QUERIES * KEYS).map(|n| n * 13 % 7 > 2).collect();
    let dense = Tensor::from_vec(dense, &[QUERIES, KEYS], &cpu).unwrap();
    vec![
        ("all", Mask::all()),
        ("causal", Mask::causal(2)),
        ("window", Mask::window(20, 9)),
        ("sink_window", Mask::sink_window(3, 15, 2)),
        ("global_window", Mask::global_window(4, 10, 10)),
        ("prefix", Mask::prefix(&[40, 3])),
        ("key_lengths", Mask::key_lengths(&[75, 33])),
        ("query_lengths", Mask::query_lengths(&[31, 70])),
        ("segments", Mask::segments(&segments(QUERIES, 20), &segments(KEYS, 22))),
        ("intervals", Mask::intervals(&low, &high, None)),
        ("intervals at times", Mask::intervals(&low, &high, Some(&of_queries))),
        ("intervals by head", Mask::intervals(&by_head[0], &by_head[1], None)),
        ("dense", Mask::dense(&dense)),
        ("blocks", Mask::blocks(&seen, 16, 15)),
    ]
}

/// A mask that hides nothing, of terms of all kinds: with it, all masks run the same compiled kernels.
pub(crate) fn every_kind() -> Mask {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &cpu).unwrap();
    let always = Tensor::full(1e6, &[1, 1, KEYS], DType::I32, &cpu).unwrap();
    Mask::key_lengths(&[KEYS])
        .and(Mask::query_lengths(&[QUERIES]))
        .and(Mask::window(1000, 1000))
        .and(Mask::segments(&zeros(&[1, QUERIES], DType::U32), &zeros(&[1, KEYS], DType::U32)))
        .and(Mask::intervals(&zeros(&[1, 1, KEYS], DType::I32), &always, None))
        .and(Mask::dense(&Tensor::ones(&[1, 1], DType::Bool, &cpu).unwrap()))
}

#[test]
fn masks_by_name() {
    let all = inputs([2, 2], [QUERIES, KEYS], [8, 8]);
    for (name, mask) in masks() {
        let options = AttentionOptions { mask: mask.and(every_kind()), ..Default::default() };
        let fused = |x: &[Tensor]| x[0].attention(&x[1], &x[2], &options);
        same_as_composed(name, &all, &fused, &|x| reference::attention(&x[0], &x[1], &x[2], &options));
        on_gpu(name, &all, &fused, gpu());
    }
}

fn blocks(device: &Device) -> BlockIndex {
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(QUERIES, KEYS) };
    let seen = Tensor::from_vec((0..9).map(|n| n % 4 != 1).collect(), &[1, 1, 3, 3], &Device::cpu()).unwrap();
    BlockIndex::from_mask(&Mask::blocks(&seen, 32, 32).and(Mask::causal(30)), layout, device).unwrap()
}

fn keys(device: &Device) -> KeyIndex {
    let lists = (0..QUERIES as u32).flat_map(|i| (0..8).map(move |n| if n > i % 9 { u32::MAX } else { n * 9 + i % 5 }));
    KeyIndex::new(&Tensor::from_vec(lists.collect(), &[1, 1, QUERIES, 8], device).unwrap(), KEYS).unwrap()
}

/// What may be added to, or done with, scores: all that is differentiable beside query, key and value, and the options with it.
pub(crate) struct Terms {
    buckets: Buckets,
    score: ScoreModifier,
    which: &'static [&'static str],
    dropout: f64,
}

impl Terms {
    pub(crate) fn new(which: &'static [&'static str], dropout: f64) -> Self {
        let text = "
            fn score(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return s * s * 0.3 + f32(head); }
            fn score_grad(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return s * 0.6; }";
        let score = ScoreModifier::wgsl(text)
            .unwrap()
            .and_rust(|s, _, _, head, _| s * s * 0.3 + head as f64, |s, _, _, _, _| s * 0.6);
        Terms { buckets: Buckets::disentangled(QUERIES, KEYS, 4, Some(20)).unwrap(), score, which, dropout }
    }

    pub(crate) fn inputs(&self) -> Vec<Input> {
        let count = self.buckets.count();
        let shape = |name: &str| match name {
            "bias" => vec![2, 1, QUERIES, KEYS],
            "row" => vec![2, 1, KEYS],
            "relative" => vec![2, QUERIES + KEYS - 1],
            "c2p" => vec![2, 2, QUERIES, count],
            "p2c" => vec![2, 2, KEYS, count],
            _ => vec![2],
        };
        let given = self.which.iter().filter(|name| !["score", "rotary", "softcap"].contains(name));
        let extras = (10..).zip(given).map(|(seed, name)| Input::normal(&shape(name), seed));
        inputs([2, 1], [QUERIES, KEYS], [8, 8]).into_iter().chain(extras).collect()
    }

    pub(crate) fn options(&self, x: &[Tensor]) -> Result<AttentionOptions> {
        let mut options = AttentionOptions { dropout: self.dropout, ..Default::default() };
        let mut extras = x[3..].iter();
        for &name in self.which {
            let terms = || Disentangled { c2p: None, p2c: None, buckets: self.buckets.clone() };
            match name {
                "score" => options.score = Some(self.score.clone()),
                "softcap" => options.softcap = Some(2.0),
                "rotary" => {
                    let positions = |n: usize| Tensor::arange(0, n as i64, DType::I32, x[0].device())?.expand(&[2, n]);
                    let (queries, keys) = (positions(QUERIES)?, positions(KEYS)?);
                    options.rotary = Some(Rotary { rope: Rope::new(4, 100.0)?, queries, keys });
                }
                "c2p" => options.disentangled.get_or_insert_with(terms).c2p = extras.next().cloned(),
                "p2c" => options.disentangled.get_or_insert_with(terms).p2c = extras.next().cloned(),
                "relative" => options.relative_bias = extras.next().cloned(),
                "sinks" => options.sinks = extras.next().cloned(),
                "head_scale" => options.head_scale = extras.next().cloned(),
                _ => options.bias = extras.next().cloned(),
            }
        }
        Ok(options)
    }
}

/// What is attended to in one of three ways.
pub(crate) fn attend(x: &[Tensor], kind: &str, options: &AttentionOptions, composed: bool) -> Result<Tensor> {
    let (blocks, keys) = (blocks(x[0].device()), keys(x[0].device()));
    let index = match kind {
        "blocks" => SparseIndex::Blocks(&blocks),
        "keys" => SparseIndex::Keys(&keys),
        _ if composed => return reference::attention(&x[0], &x[1], &x[2], options),
        _ => return x[0].attention(&x[1], &x[2], options),
    };
    match composed {
        true => reference::sparse_attention(&x[0], &x[1], &x[2], index, options),
        false => x[0].sparse_attention(&x[1], &x[2], index, options),
    }
}

pub(crate) const EACH: [&[&str]; 8] = [
    &["score"],
    &["head_scale", "rotary"],
    &["c2p", "p2c"],
    &["relative", "sinks"],
    &["bias", "softcap"],
    &["row", "c2p"],
    &["score", "softcap", "rotary", "p2c", "bias"],
    &["head_scale", "relative", "sinks", "c2p", "p2c", "row"],
];

#[test]
fn every_term_beside_every_list() {
    for which in EACH {
        let terms = Terms::new(which, 0.0);
        for kind in ["blocks", "keys"] {
            let run = |x: &[Tensor], composed| attend(x, kind, &terms.options(x)?, composed);
            same_as_composed(&format!("{which:?}, {kind}"), &terms.inputs(), &|x| run(x, false), &|x| run(x, true));
        }
    }
    // Kernels of lists of keys are soon compiled; with blocks this would be the longest of all shaders.
    let terms = Terms::new(&["score", "rotary", "head_scale", "c2p", "p2c"], 0.0);
    on_gpu("keys", &terms.inputs(), &|x| attend(x, "keys", &terms.options(x)?, false), gpu());
}

/// The composition drops the same weights, so all gradients are the same, of what is added to scores too.
#[test]
fn every_term_under_dropout() {
    let cpu = Device::new_cpu();
    for which in EACH {
        let terms = Terms::new(which, 0.3);
        for kind in ["dense", "blocks", "keys"] {
            let run = |composed| {
                cpu.set_seed(5);
                all_of(&terms.inputs(), &cpu, DType::F64, &|x| attend(x, kind, &terms.options(x)?, composed))
            };
            assert_all(&format!("{which:?}, {kind}"), &run(false), &run(true), 1e-10);
        }
    }
    let Some(gpu) = gpu() else { return };
    let terms = Terms::new(&["row"], 0.3);
    let [got, want] = [(gpu, DType::F32), (&cpu, DType::F64)].map(|(device, dtype)| {
        device.set_seed(5);
        all_of(&terms.inputs(), device, dtype, &|x| attend(x, "keys", &terms.options(x)?, false))
    });
    assert_all(&format!("dropout of lists on {gpu}"), &got, &want, 2e-5);
}

/// As many queries as go 32 to a subgroup of a software driver, by blocks and by unions of lists.
#[test]
fn lists_of_many_queries() {
    let (queries, keys) = (261, 70);
    let all = inputs([2, 1], [queries, keys], [8, 12]);
    let check = |what: &str, f: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let on = |device: &Device, dtype| {
            let x: Vec<Tensor> = all.iter().map(|i| i.clone().constant().stored(device, dtype).unwrap()).collect();
            f(&x).unwrap().to_f64_vec().unwrap()
        };
        let Some(gpu) = gpu() else { return };
        assert_close(what, &on(gpu, DType::F32), &on(&Device::cpu(), DType::F64), 1e-5, 1e-5);
    };
    check("blocks", &|x| {
        let layout = BlockLayout { query_block: 64, key_block: 32, ..BlockLayout::new(queries, keys) };
        let index = BlockIndex::from_mask(&Mask::global_window(0, 63, 63), layout, x[0].device())?;
        x[0].sparse_attention(&x[1], &x[2], &index, &Default::default())
    });
    check("unions", &|x| {
        let lists = (0..17u32).flat_map(|block| (0..9).map(move |n| n * 7 + block % 7)).collect();
        let lists = Tensor::from_vec(lists, &[1, 1, 17, 9], x[0].device())?;
        let index = KeyIndex::of_blocks(&lists, 16, queries, keys)?;
        assert!(index.is_united());
        x[0].sparse_attention(&x[1], &x[2], &index, &Default::default())
    });
}

/// With the unit matrix for values the result is the weights.
#[test]
fn weights_of_lists() {
    let unit = (0..KEYS * KEYS).map(|n| f64::from(u8::from(n % (KEYS + 1) == 0))).collect::<Vec<_>>();
    for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
        let dtype = if device.is_gpu() { DType::F32 } else { DType::F64 };
        let [q, k] = [QUERIES, KEYS].map(|n| Input::normal(&[1, 2, n, 8], n as u64).stored(device, dtype).unwrap());
        let unit = Input::of(&unit, &[1, 1, KEYS, KEYS]).stored(device, dtype).unwrap();
        let unit = unit.expand(&[1, 2, KEYS, KEYS]).unwrap();
        let (blocks, keys) = (blocks(device), keys(device));
        for index in [SparseIndex::Blocks(&blocks), SparseIndex::Keys(&keys)] {
            let options = AttentionOptions { mask: Mask::key_lengths(&[60]), ..Default::default() };
            let weights = q.sparse_attention_weights(&k, index, &options).unwrap();
            let want = q.sparse_attention(&k, &unit, index, &options).unwrap();
            let slack = if device.is_gpu() { 1e-5 } else { 1e-12 };
            assert_close("weights", &weights.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), slack, slack);
        }
    }
}
