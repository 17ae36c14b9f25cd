//! Sparse attention: listed blocks, listed keys, and sequences of several lengths, each against dense attention in f64.

use wgrad::{AttentionOptions, BlockIndex, BlockLayout, BlockLists, DType, Device, KeyIndex, Mask, Tensor};

use super::attention::results;
use super::{Work, compare, dtype, normal};
use crate::params::Params;
use crate::{Error, Result, check};

/// Query, key, value and, for `_bwd`, the gradient of the result, `[b, h, l, dh]`.
struct Inputs {
    b: usize,
    h: usize,
    l: usize,
    dh: usize,
    dtype: DType,
    backward: bool,
    tensors: Vec<Tensor>,
}

impl Inputs {
    fn new(name: &str, params: &mut Params, device: &Device, l: usize) -> Result<Self> {
        let (b, h) = (params.size("b", 1)?, params.size("h", 2)?);
        let (l, dh) = (params.size("l", l)?, params.size("dh", 64)?);
        let mut inputs =
            Inputs { b, h, l, dh, dtype: dtype(params)?, backward: name.ends_with("_bwd"), tensors: Vec::new() };
        inputs.fill(device, [b, h, l, dh])?;
        Ok(inputs)
    }

    fn fill(&mut self, device: &Device, shape: [usize; 4]) -> Result<()> {
        let count = if self.backward { 4 } else { 3 };
        self.tensors = (0..count).map(|_| normal(&shape, self.dtype, device)).collect::<wgrad::Result<_>>()?;
        Ok(())
    }

    /// `attention(q, k, v)` on the device against `dense` in f64 on the CPU. `pairs` of a query and a key are computed.
    fn work(
        self,
        name: &str,
        pairs: f64,
        attention: impl Fn(&Tensor, &Tensor, &Tensor) -> wgrad::Result<Tensor> + 'static,
        dense: impl FnOnce() -> wgrad::Result<Mask> + 'static,
    ) -> Work {
        let (name, dtype, given) = (name.to_string(), self.dtype, self.tensors.clone());
        // Two products forward; the convention for backward is five.
        let products = if self.backward { 7.0 } else { 2.0 };
        Work {
            flops: Some(products * 2.0 * pairs * self.dh as f64),
            bytes: None,
            f32: dtype == DType::F32,
            wait: true,
            step: Box::new(move || Ok(results(&given, &attention)?)),
            check: Box::new(move |step| {
                let wide: Vec<Tensor> = self.tensors.iter().map(check::to_reference).collect::<Result<_>>()?;
                let options = AttentionOptions { mask: dense()?, ..AttentionOptions::default() };
                let want = results(&wide, |q, k, v| q.attention(k, v, &options))?;
                compare(&name, &step()?, &want, check::tolerance(dtype))
            }),
        }
    }
}

/// A whole number that looks random.
fn hash(n: usize) -> usize {
    let mut z = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)) as usize >> 8
}

/// Of each row of blocks of `block` queries and keys, `density` of the blocks at random: the same for all heads.
pub fn sparse_attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let inputs = Inputs::new(name, params, device, 4096)?;
    let block = params.size("block", 64)?;
    let density = params.fraction("density", 0.25)?;
    let layout = BlockLayout { query_block: block, key_block: block, ..BlockLayout::new(inputs.l, inputs.l) };
    let blocks = inputs.l.div_ceil(block);
    let of_row = ((density * blocks as f64).round() as usize).clamp(1, blocks);
    let mut lists = BlockLists { starts: vec![0], ..BlockLists::default() };
    for row in 0..blocks {
        let mut columns: Vec<usize> = (0..blocks).collect();
        columns.sort_by_key(|&column| hash(row * blocks + column));
        columns.truncate(of_row);
        columns.sort_unstable();
        lists.blocks.extend(columns.into_iter().map(|column| column as u32));
        lists.starts.push(lists.blocks.len() as u32);
    }
    lists.full = vec![true; lists.blocks.len()];
    let index = BlockIndex::from_lists(lists, &Mask::all(), layout, device)?;
    let (heads, pairs) = (inputs.h, (inputs.b * inputs.h * blocks * of_row * block * block) as f64);
    let same = index.clone();
    let options = AttentionOptions::default();
    Ok(inputs.work(name, pairs, move |q, k, v| q.sparse_attention(k, v, &index, &options), move || same.to_mask(heads)))
}

/// `k` keys for each query, spread over the sequence: the same for all heads, and for `share` queries in a row. `form=lists` goes over the
/// lists, `form=blocks` over the blocks that they touch.
pub fn topk_attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let inputs = Inputs::new(name, params, device, 4096)?;
    let (l, k) = (inputs.l, params.size("k", 64)?);
    let share = params.size("share", 1)?;
    let by_blocks = params.choice("form", &["lists", "blocks"])? == "blocks";
    if k > l {
        return Err(Error::new(format!("k={k} keys for each query of l={l}")));
    }
    let step = l / k;
    let list = |i: usize| (0..k).map(move |n| (n * step + hash(i / share * k + n) % step) as u32);
    let lists = Tensor::from_vec((0..l).flat_map(list).collect(), &[1, 1, l, k], device)?;
    let index = KeyIndex::new(&lists, l)?;
    let pairs = (inputs.b * inputs.h * l * k) as f64;
    let same = Mask::keys(&index);
    let blocks = match by_blocks {
        true => Some(BlockIndex::from_mask(&same, BlockLayout::new(l, l), device)?),
        false => None,
    };
    let attention = move |q: &Tensor, k: &Tensor, v: &Tensor| match &blocks {
        Some(blocks) => q.sparse_attention(k, v, blocks, &AttentionOptions::default()),
        None => q.sparse_attention(k, v, &index, &AttentionOptions::default()),
    };
    Ok(inputs.work(name, pairs, attention, move || Ok(same)))
}

/// Of normal states of the keys, a query sees the `keep` largest before it (dynamic mask attention): `form=skipping` with the keys in the order in which
/// they go out of sight, `form=dense` as they are.
pub fn dynamic_attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let inputs = Inputs::new(name, params, device, 4096)?;
    let keep = params.size("keep", 256)?;
    let skips = params.choice("form", &["skipping", "dense"])? == "skipping";
    let Inputs { b, h, l, .. } = inputs;
    let states = normal(&[b, h, l], DType::F32, device)?;
    let starts = Tensor::arange(0, l as i64, DType::I32, device)?.reshape(&[1, 1, -1])?;
    let seen = (0..l).map(|i| (i + 1).min(keep)).sum::<usize>() as f64;
    let (same, first) = (states.clone(), starts.clone());
    // Which keys stay is found each time, as a layer does.
    let mask = move |states: &Tensor, starts: &Tensor| Ok(Mask::intervals(starts, &states.kept_until(keep)?, None));
    let attention = move |q: &Tensor, k: &Tensor, v: &Tensor| {
        let options = AttentionOptions { mask: mask(&states, &starts)?, ..AttentionOptions::default() };
        if skips { q.interval_attention(k, v, &options) } else { q.attention(k, v, &options) }
    };
    Ok(inputs.work(name, (b * h) as f64 * seen, attention, move || mask(&same, &first)))
}

/// A query sees its own block of `block` keys and `chosen - 1` at random before it, which no other shares: `form=skipping` goes over the chosen blocks,
/// `form=dense` over all pairs under their mask.
pub fn chosen_attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let inputs = Inputs::new(name, params, device, 4096)?;
    let (block, chosen) = (params.size("block", 32)?, params.size("chosen", 8)?);
    let skips = params.choice("form", &["skipping", "dense"])? == "skipping";
    let Inputs { b, h, l, .. } = inputs;
    let blocks = l.div_ceil(block);
    let (mut lists, mut seen) = (Vec::new(), vec![false; h * l * blocks]);
    for (row, seen) in seen.chunks_mut(blocks).enumerate() {
        let own = row % l / block;
        // Each in a part of its own of what came before.
        let others = |n: usize| (own * n / (chosen - 1), own * (n + 1) / (chosen - 1));
        let drawn = (0..chosen - 1)
            .map(others)
            .map(|(from, to)| if from < to { from + hash(row * chosen + to) % (to - from) } else { own });
        let drawn: Vec<usize> = drawn.collect();
        drawn.iter().chain([&own]).for_each(|&block| seen[block] = true);
        lists.extend(drawn.iter().map(|&block| block as u32));
    }
    let pairs = (b * l * chosen * block * h) as f64;
    let lists = Tensor::from_vec(lists, &[1, h, l, chosen - 1], device)?.repeat_interleave(b, 0)?;
    let seen = Tensor::from_vec(seen, &[1, h, l, blocks], device)?;
    let mask = move || Mask::blocks(&seen, 1, block).and(Mask::causal(0));
    let same = mask.clone();
    let attention = move |q: &Tensor, k: &Tensor, v: &Tensor| match skips {
        true => q.chosen_attention(k, v, &lists, block, None),
        // A layer has another mask each time.
        false => q.attention(k, v, &AttentionOptions { mask: mask(), ..AttentionOptions::default() }),
    };
    Ok(inputs.work(name, pairs, attention, move || Ok(same())))
}

/// `b` sequences of lengths from `l / b` to `l`: `form=packed` one after another in one row, told apart by segments, or
/// `form=padded` in rows of `l`.
pub fn varlen(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let mut inputs = Inputs::new(name, params, device, 1024)?;
    let lengths: Vec<usize> = (1..=inputs.b).map(|n| (inputs.l * n).div_ceil(inputs.b)).collect();
    let packed = params.choice("form", &["packed", "padded"])? == "packed";
    let mask = if packed {
        let segments: Vec<u32> = lengths.iter().enumerate().flat_map(|(n, &length)| vec![n as u32; length]).collect();
        let all = segments.len();
        inputs.fill(device, [1, inputs.h, all, inputs.dh])?;
        let segments = Tensor::from_vec(segments, &[1, all], &Device::cpu())?;
        Mask::segments(&segments, &segments)
    } else {
        Mask::key_lengths(&lengths).and(Mask::query_lengths(&lengths))
    };
    let pairs = lengths.iter().map(|length| (inputs.h * length * length) as f64).sum();
    let options = AttentionOptions { mask: mask.clone(), ..AttentionOptions::default() };
    // Another mask of the same words: that of attention stays prepared for the device.
    let same = Mask::all().and(mask);
    Ok(inputs.work(name, pairs, move |q, k, v| q.attention(k, v, &options), move || Ok(same)))
}
