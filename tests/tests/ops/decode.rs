//! Decoding from caches against attention to all keys at once.

use proptest::prelude::*;
use wgrad::{
    AttentionOptions, DType, Device, KvCache, Mask, PagedCache, Result, Rope, Sequence, Tensor, nn, reference,
};
use wgrad_tests::{Input, Random, assert_close, devices, each_device, expect_error, fresh_gpu, gpu, portable_gpu};

fn tensor(shape: &[usize], seed: u64, dtype: DType, device: &Device) -> Tensor {
    Input::normal(shape, seed).constant().stored(device, dtype).unwrap()
}

/// One step of decoding, drawn from a seed.
#[derive(Debug, Clone)]
struct Case {
    lengths: Vec<usize>,
    key_heads: usize,
    group: usize,
    queries: usize,
    widths: [usize; 2],
    term: usize,
    bias: bool,
    relative: bool,
    sinks: bool,
    softcap: bool,
    seed: u64,
}

impl Case {
    fn draw(seed: u64) -> Case {
        let mut random = Random::new(seed);
        let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
        let queries = one_of(&[1, 1, 2, 5]);
        let lengths = (0..one_of(&[1, 2, 3])).map(|_| queries + one_of(&[0, 3, 63, 255, 256, 300, 700])).collect();
        Case {
            lengths,
            key_heads: one_of(&[1, 2]),
            group: one_of(&[1, 1, 3, 4]),
            queries,
            widths: [one_of(&[3, 8, 16]), one_of(&[5, 8, 20])],
            term: one_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            bias: one_of(&[0, 0, 1]) == 1,
            relative: one_of(&[0, 1]) == 1,
            sinks: one_of(&[0, 1]) == 1,
            softcap: one_of(&[0, 0, 1]) == 1,
            seed,
        }
    }

    fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or_default()
    }

    fn mask(&self) -> Mask {
        match self.term {
            0 => Mask::all(),
            1 => Mask::causal(0),
            2 => Mask::causal(0).and(Mask::window(40, 0)),
            3 => Mask::causal(0).and(Mask::sink_window(2, 20, 0)),
            4 => Mask::key_lengths(&self.lengths.iter().map(|n| n / 2).collect::<Vec<_>>()),
            6 => Mask::prefix(&self.lengths.iter().map(|n| n / 3).collect::<Vec<_>>()),
            7 => {
                let (batch, longest) = (self.lengths.len(), self.longest());
                let ids = |n: usize, each: usize| {
                    let ids = (0..batch * n).map(|i| (i % n / each) as u32 % 5).collect();
                    Tensor::from_vec(ids, &[batch, n], &Device::cpu()).unwrap()
                };
                Mask::segments(&ids(self.queries, 2), &ids(longest, 40))
            }
            8 => {
                let longest = self.longest();
                let of = |f: &dyn Fn(usize) -> usize| {
                    let times = (0..self.heads() * longest).map(|i| f(i % longest) as i32 + (i / longest) as i32);
                    Tensor::from_vec(times.collect(), &[1, self.heads(), longest], &Device::cpu()).unwrap()
                };
                Mask::intervals(&of(&|j| j * 2 / 3), &of(&|j| j + longest / 2), None)
            }
            _ => {
                let (batch, longest) = (self.lengths.len(), self.longest());
                let mut random = Random::new(self.seed ^ 3);
                let seen = (0..batch * self.queries * longest).map(|_| random.below(3) > 0).collect();
                Mask::dense(&Tensor::from_vec(seen, &[batch, 1, self.queries, longest], &Device::cpu()).unwrap())
            }
        }
    }

    /// Query, and key and value of all tokens, [batch, heads, longest, width]; and the options.
    fn inputs(&self, dtype: DType, device: &Device) -> ([Tensor; 3], AttentionOptions) {
        let (batch, longest, [d, dv]) = (self.lengths.len(), self.longest(), self.widths);
        let q = tensor(&[batch, self.queries, self.heads(), d], self.seed, dtype, device).transpose(1, 2).unwrap();
        let k = tensor(&[batch, longest, self.key_heads, d], self.seed ^ 1, dtype, device).transpose(1, 2).unwrap();
        let v = tensor(&[batch, self.key_heads, longest, dv], self.seed ^ 2, dtype, device);
        let options = AttentionOptions {
            mask: self.mask(),
            bias: self.bias.then(|| tensor(&[self.heads(), 1, longest], self.seed ^ 4, dtype, device)),
            // Longer than it need be.
            relative_bias: self
                .relative
                .then(|| tensor(&[self.heads(), self.queries + longest + 9], self.seed ^ 5, dtype, device)),
            sinks: self.sinks.then(|| tensor(&[self.heads()], self.seed ^ 6, dtype, device)),
            softcap: self.softcap.then_some(1.5),
            ..Default::default()
        };
        ([q, k, v], options)
    }

    /// Attention of each sequence by itself, composed.
    fn composed(&self, [q, k, v]: &[Tensor; 3], options: &AttentionOptions) -> Vec<f64> {
        let of = |x: &Tensor, b: usize| x.narrow(0, b, 1).unwrap();
        let longest = self.longest();
        let each = self.lengths.iter().enumerate().map(|(b, &length)| {
            let keys = |x: &Tensor, dim: isize| x.narrow(dim, 0, length).unwrap();
            let pairs = (self.lengths.len(), self.heads(), self.queries, longest);
            // Positions count from the first token: causal and window terms say so to `at`, the others stay.
            let mask = options.mask.clone().at((length - self.queries) as i64);
            let seen = mask.to_dense(pairs.0, pairs.1, pairs.2, pairs.3, q.device()).unwrap();
            let seen = seen.expand(&[pairs.0, seen.shape()[1], pairs.2, pairs.3]).unwrap();
            let options = AttentionOptions {
                mask: Mask::dense(&keys(&of(&seen, b), 3)),
                bias: options.bias.as_ref().map(|x| keys(x, -1)),
                relative_bias: options.relative_bias.as_ref().map(|x| {
                    let entries = self.queries + length - 1;
                    x.narrow(1, x.shape()[1] - entries, entries).unwrap()
                }),
                ..options.clone()
            };
            let (k, v) = (keys(&of(k, b), 2), keys(&of(v, b), 2));
            reference::attention(&of(q, b), &k, &v, &options).unwrap().to_f64_vec().unwrap()
        });
        each.flatten().collect()
    }

    /// In pieces, as prompts and steps bring them.
    fn pieces(&self) -> Vec<Vec<usize>> {
        let first = self.lengths.iter().map(|&length| (length - self.queries) / 2).collect();
        let rest = self.lengths.iter().map(|&length| length - self.queries - (length - self.queries) / 2).collect();
        vec![first, rest, vec![self.queries; self.lengths.len()]]
    }

    fn fill(&self, [_, k, v]: &[Tensor; 3], dtype: DType) -> Result<KvCache> {
        let [d, dv] = self.widths;
        let mut cache = KvCache::new(self.lengths.len(), self.key_heads, d, dv, dtype, k.device())?;
        let mut before = vec![0; self.lengths.len()];
        for counts in self.pieces() {
            let new = counts.iter().copied().max().unwrap_or_default();
            let rows = |x: &Tensor| {
                let each = before.iter().enumerate().map(|(b, &start)| {
                    let there = new.min(self.longest() - start);
                    let x = x.narrow(0, b, 1)?.narrow(2, start, there)?;
                    x.pad(&[(0, 0), (0, 0), (0, (new - there) as isize), (0, 0)], wgrad::PadMode::Constant(0.0))
                });
                let each = each.collect::<Result<Vec<_>>>()?;
                Tensor::concat(&each.iter().collect::<Vec<_>>(), 0)
            };
            cache.append_ragged(&rows(k)?, &rows(v)?, &counts)?;
            before.iter_mut().zip(&counts).for_each(|(before, count)| *before += count);
        }
        assert_eq!(cache.lengths(), self.lengths);
        Ok(cache)
    }

    fn fill_paged(&self, [_, k, v]: &[Tensor; 3], dtype: DType, page: usize) -> Result<(PagedCache, Vec<Sequence>)> {
        let [d, dv] = self.widths;
        let pages = self.lengths.iter().map(|n| n.div_ceil(page)).sum::<usize>() + 2;
        let mut cache = PagedCache::new(pages, page, self.key_heads, d, dv, dtype, k.device())?;
        let sequences: Vec<Sequence> = self.lengths.iter().map(|_| cache.start()).collect();
        // In turns, so that pages of all sequences mix.
        for third in 0..3 {
            for (b, &length) in self.lengths.iter().enumerate() {
                let (start, end) = (length * third / 3, length * (third + 1) / 3);
                let rows = |x: &Tensor| x.narrow(0, b, 1)?.narrow(2, start, end - start);
                cache.append(&sequences[b..=b], &rows(k)?, &rows(v)?)?;
            }
        }
        Ok((cache, sequences))
    }
}

fn same_as_attention(case: &Case, device: &Device, dtype: DType, kept: DType, slack: f64) {
    let (inputs, options) = case.inputs(dtype, device);
    let want = case.composed(&inputs, &options);
    let cache = case.fill(&inputs, kept).unwrap();
    let got = inputs[0].decode(&cache, &options).unwrap();
    assert_eq!((got.dtype(), got.shape()[3]), (dtype, case.widths[1]));
    assert_close(&format!("{case:?} on {device}"), &got.to_f64_vec().unwrap(), &want, slack, slack);
    let (cache, sequences) = case.fill_paged(&inputs, kept, 16).unwrap();
    let got = inputs[0].decode_paged(&cache, &sequences, &options).unwrap().to_f64_vec().unwrap();
    assert_close(&format!("{case:?} in pages on {device}"), &got, &want, slack, slack);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn decoding_is_attention(seed in any::<u64>()) {
        let case = Case::draw(seed);
        same_as_attention(&case, &Device::cpu(), DType::F64, DType::F64, 1e-10);
        same_as_attention(&case, &Device::cpu(), DType::F32, DType::F32, 1e-5);
        same_as_attention(&case, &Device::cpu(), DType::F32, DType::BF16, 0.05);
    }
}

// Few: each compiles kernels of its own.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn decoding_is_attention_on_gpus(seed in any::<u64>()) {
        for device in [gpu(), portable_gpu()].into_iter().flatten() {
            same_as_attention(&Case::draw(seed), device, DType::F32, DType::F32, 1e-5);
        }
    }
}

/// All options at once, and caches of halves.
#[test]
fn every_option_on_every_device() {
    let all = Case { term: 3, bias: true, relative: true, sinks: true, softcap: true, ..Case::draw(5) };
    let wide = Case { widths: [20, 300], lengths: vec![3, 300], queries: 3, term: 1, group: 3, ..all.clone() };
    // Segments go by the number of a query, not by its position.
    let segments = Case { term: 7, lengths: vec![705, 305], queries: 5, softcap: false, ..all.clone() };
    for device in devices() {
        same_as_attention(&all, &device, DType::F32, DType::F32, 1e-5);
        same_as_attention(&segments, &device, DType::F32, DType::F32, 1e-5);
        same_as_attention(&wide, &device, DType::F32, DType::F16, 5e-3);
        same_as_attention(&all, &device, DType::BF16, DType::BF16, 0.05);
        device.check_guards().unwrap();
    }
}

/// Keys of 64 and 128, and masks of three kinds in one kernel: those that are not meant hide nothing.
#[test]
fn wide_keys_under_masks_by_name() {
    let plain = Case { bias: false, relative: false, sinks: false, softcap: false, ..Case::draw(5) };
    for widths in [[64, 64], [128, 128]] {
        for term in [6, 7, 8] {
            let lengths = vec![70, 300];
            let case = Case { widths, term, lengths, queries: 1, key_heads: 1, group: 2, ..plain.clone() };
            same_as_attention(&case, &Device::cpu(), DType::F64, DType::F64, 1e-10);
            let Some(gpu) = gpu() else { continue };
            let (inputs, mut options) = case.inputs(DType::F32, gpu);
            let want = case.composed(&inputs, &options);
            let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::cpu()).unwrap();
            let always = Tensor::full(1e6, &[1, 1, 300], DType::I32, &Device::cpu()).unwrap();
            options.mask = options
                .mask
                .and(Mask::window(1000, 1000))
                .and(Mask::segments(&zeros(&[1, 1], DType::U32), &zeros(&[1, 300], DType::U32)))
                .and(Mask::intervals(&zeros(&[1, 1, 300], DType::I32), &always, None));
            let got = inputs[0].decode(&case.fill(&inputs, DType::F32).unwrap(), &options).unwrap();
            assert_close(&format!("{case:?}"), &got.to_f64_vec().unwrap(), &want, 1e-5, 1e-5);
        }
    }
}

#[test]
fn a_cache_grows_and_forgets() {
    each_device(|device| {
        let x = |length: usize, seed: u64| tensor(&[2, 2, length, 8], seed, DType::F32, device);
        let mut cache = KvCache::new(2, 2, 8, 8, DType::F32, device).unwrap();
        let (k, v) = (x(150, 1), x(150, 2));
        let part = |x: &Tensor, start: usize, n: usize| x.narrow(2, start, n).unwrap();
        cache.append(&part(&k, 0, 60), &part(&v, 0, 60)).unwrap();
        let capacity = cache.capacity();
        // What a tensor shows is not changed by what comes later.
        let shown = cache.key().unwrap();
        cache.append(&part(&k, 60, 90), &part(&v, 60, 90)).unwrap();
        assert!(cache.capacity() > capacity);
        assert_eq!(shown.to_vec::<f32>().unwrap(), part(&k, 0, 60).to_vec::<f32>().unwrap());
        let held = |cache: &KvCache| [cache.key().unwrap(), cache.value().unwrap()].map(|x| x.to_vec::<f32>().unwrap());
        assert_eq!(held(&cache), [&k, &v].map(|x| x.to_vec::<f32>().unwrap()));
        cache.truncate(20).unwrap();
        cache.append(&part(&k, 20, 130), &part(&v, 20, 130)).unwrap();
        assert_eq!(held(&cache), [&k, &v].map(|x| x.to_vec::<f32>().unwrap()));
        cache.truncate(0).unwrap();
        assert_eq!((cache.longest(), cache.lengths()), (0, &[0, 0][..]));
    });
}

#[test]
fn forks_share_pages_until_they_part() {
    each_device(|device| {
        let x = |length: usize, seed: u64| tensor(&[1, 1, length, 4], seed, DType::F32, device);
        let query = tensor(&[1, 1, 1, 4], 9, DType::F32, device);
        let none = AttentionOptions::default();
        let mut cache = PagedCache::new(6, 4, 1, 4, 4, DType::F32, device).unwrap();
        let first = cache.start();
        let (k, v) = (x(6, 1), x(6, 2));
        cache.append(&[first], &k, &v).unwrap();
        assert_eq!(cache.free_pages(), 4);
        let second = cache.fork(first).unwrap();
        assert_eq!((cache.free_pages(), cache.length(second).unwrap()), (4, 6));
        let (more_k, more_v) = (x(1, 3), x(1, 4));
        cache.append(&[second], &more_k, &more_v).unwrap();
        // The full page is shared still, the other was copied.
        assert_eq!(cache.free_pages(), 3);
        let want = |k: &Tensor, v: &Tensor| query.attention(k, v, &none).unwrap().to_f64_vec().unwrap();
        let got = |cache: &PagedCache, s| query.decode_paged(cache, &[s], &none).unwrap().to_f64_vec().unwrap();
        let close = |a: &[f64], b: &[f64]| assert_close("fork", a, b, 1e-5, 1e-5);
        close(&got(&cache, first), &want(&k, &v));
        let both = |a: &Tensor, b: &Tensor| Tensor::concat(&[a, b], 2).unwrap();
        close(&got(&cache, second), &want(&both(&k, &more_k), &both(&v, &more_v)));

        // Three more pages and one token: no room, and nothing has changed.
        let error = cache.append(&[first], &x(15, 5), &x(15, 6)).unwrap_err();
        assert!(matches!(error, wgrad::Error::OutOfMemory { .. }), "{error}");
        assert_eq!((cache.length(first).unwrap(), cache.free_pages()), (6, 3));
        cache
            .append(&[first, second], &x(1, 7).expand(&[2, 1, 1, 4]).unwrap(), &x(1, 8).expand(&[2, 1, 1, 4]).unwrap())
            .unwrap();
        assert_eq!((cache.length(first).unwrap(), cache.length(second).unwrap()), (7, 8));
        cache.truncate(second, 3).unwrap();
        assert_eq!(cache.free_pages(), 4);
        // It still shares its page with the other, and takes a copy before it writes there.
        cache.append(&[second], &more_k, &more_v).unwrap();
        assert_eq!(cache.free_pages(), 3);
        close(
            &got(&cache, second),
            &want(&both(&k.narrow(2, 0, 3).unwrap(), &more_k), &both(&v.narrow(2, 0, 3).unwrap(), &more_v)),
        );
        cache.remove(first).unwrap();
        cache.remove(second).unwrap();
        assert_eq!(cache.free_pages(), 6);
        expect_error(cache.remove(first), &["PagedCache", "Sequence(0)"]);
    });
}

#[test]
fn a_layer_with_a_cache_gives_what_the_whole_gives() {
    each_device(|device| {
        let layer = nn::MultiHeadAttention::grouped(16, [4, 2], true, 0.0, &nn::Build::new(device)).unwrap();
        let layer = layer.with_rope(Rope::new(4, 1e4).unwrap());
        let x = tensor(&[2, 9, 16], 1, DType::F32, device);
        let options = AttentionOptions { mask: Mask::causal(0), ..Default::default() };
        let want = layer.forward(&x, &x, &options).unwrap().to_f64_vec().unwrap();
        let mut cache = layer.cache(2, DType::F32).unwrap();
        // A prompt, a token, and some at once.
        let parts = [(0, 5), (5, 1), (6, 3)]
            .map(|(start, n)| layer.cached(&x.narrow(1, start, n).unwrap(), &mut cache, &options).unwrap());
        let got = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).unwrap().to_f64_vec().unwrap();
        assert_close("cached", &got, &want, 1e-5, 1e-5);
    });
    let build = nn::Build::new(&Device::cpu());
    expect_error(nn::MultiHeadAttention::grouped(12, [6, 4], true, 0.0, &build).map(drop), &["6 heads", "4 key heads"]);
}

#[test]
fn steady_decoding_creates_nothing() {
    let Some(device) = fresh_gpu() else { return };
    let x = |heads: usize, seed: u64| tensor(&[2, heads, 1, 16], seed, DType::F32, &device);
    let mut cache = KvCache::with_capacity(600, 2, 2, 16, 16, DType::F16, &device).unwrap();
    let mut paged = PagedCache::new(60, 24, 2, 16, 16, DType::F16, &device).unwrap();
    let sequences = [paged.start(), paged.start()];
    let prompt = tensor(&[2, 2, 240, 16], 3, DType::F32, &device);
    cache.append(&prompt, &prompt).unwrap();
    paged.append(&sequences, &prompt, &prompt).unwrap();
    let alibi = nn::alibi(&Tensor::ones(&[4], DType::F32, &device).unwrap(), 1, 600, 599).unwrap();
    let mask = Mask::causal(0).and(Mask::sink_window(4, 200, 0));
    let options = AttentionOptions { mask, relative_bias: Some(alibi), ..Default::default() };
    let mut seen = Vec::new();
    // Over the end of a split, and of pages.
    for step in 0..40 {
        let (q, k, v) = (x(4, step), x(2, step + 100), x(2, step + 200));
        cache.append(&k, &v).unwrap();
        q.decode(&cache, &options).unwrap();
        paged.append(&sequences, &k, &v).unwrap();
        q.decode_paged(&paged, &sequences, &options).unwrap();
        seen.push(device.memory());
    }
    let steady = &seen[4];
    for after in &seen[4..] {
        assert_eq!(after.allocations, steady.allocations, "buffers");
        assert_eq!(after.bind_groups_created, steady.bind_groups_created, "bind groups");
        assert_eq!(after.pipelines, steady.pipelines, "pipelines");
        assert_eq!(after.reads, steady.reads, "waits");
    }
    device.check_guards().unwrap();
}

#[test]
fn bad_input_is_refused() {
    let cpu = Device::cpu();
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    let none = AttentionOptions::default();
    let new = |batch: usize, dtype: DType| KvCache::new(batch, 2, 4, 4, dtype, &cpu);
    expect_error(new(0, DType::F32).map(drop), &["KvCache", "0 sequences"]);
    expect_error(new(1, DType::I32).map(drop), &["KvCache", "i32"]);
    expect_error(PagedCache::new(2, 0, 1, 4, 4, DType::F32, &cpu).map(drop), &["PagedCache", "0 tokens"]);
    let mut cache = KvCache::with_capacity(5, 1, 2, 4, 4, DType::F32, &cpu).unwrap();
    expect_error(cache.append(&t(&[1, 2, 3, 4]), &t(&[1, 2, 2, 4])), &["KvCache", "value", "[1, 2, 2, 4]"]);
    expect_error(cache.append(&t(&[1, 2, 6, 4]), &t(&[1, 2, 6, 4])), &["KvCache", "6 tokens", "capacity of 5"]);
    expect_error(cache.append_ragged(&t(&[1, 2, 3, 4]), &t(&[1, 2, 3, 4]), &[4]), &["KvCache", "[4]"]);
    let query = t(&[1, 4, 1, 4]);
    expect_error(query.decode(&cache, &none), &["decode", "0 tokens"]);
    cache.append(&t(&[1, 2, 3, 4]), &t(&[1, 2, 3, 4])).unwrap();
    expect_error(t(&[1, 3, 1, 4]).decode(&cache, &none), &["decode", "[1, 3, 1, 4]", "multiple of 2 heads"]);
    let dropout = AttentionOptions { dropout: 0.1, ..Default::default() };
    expect_error(query.decode(&cache, &dropout), &["decode", "dropout"]);
    let relative = AttentionOptions { relative_bias: Some(t(&[4, 2])), ..Default::default() };
    expect_error(query.decode(&cache, &relative), &["decode", "relative bias", "[4, 2]", "[4, 3]"]);
    let mut paged = PagedCache::new(2, 4, 2, 4, 4, DType::F32, &cpu).unwrap();
    let one = paged.start();
    let twice = t(&[2, 2, 1, 4]);
    expect_error(paged.append(&[one, one], &twice, &twice), &["PagedCache", "twice"]);
    let mut other = PagedCache::new(2, 4, 2, 4, 4, DType::F32, &cpu).unwrap();
    other.start();
    let unknown = other.start();
    expect_error(query.decode_paged(&paged, &[unknown], &none), &["PagedCache", "Sequence(1)"]);
    let out = query.requires_grad().decode(&cache, &none).unwrap();
    expect_error(out.sum_all().unwrap().backward().map(drop), &["decode", "no backward"]);
}
