//! Lists of keys, one for each query.

use std::sync::{Arc, OnceLock};

use super::Lowered;
use super::unions::unions;
use crate::mask::{Mask, Pairs};
use crate::ops::index::{Groups, group};
use crate::{DType, Device, Error, Result, Tensor};

/// Kind of the first term of a mask's words: `[kind, lists, starts, batches, heads, order, k, unions or 0]`, places of what `shaders/common/gather.wgsl`
/// reads.
pub(crate) const KEYS: u32 = 8;
/// Behind the keys of a list that is shorter than others.
pub(crate) const PADDING: u32 = u32::MAX;

/// Which keys each query attends to, for [`Tensor::sparse_attention`]: for each query up to `k` keys, and for each key, made of
/// that, the queries that list it. Clones share all memory.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    /// [batch, heads, queries, k] u32, ascending.
    lists: Tensor,
    keys: usize,
    /// By matrix and key the entries that name it.
    by_key: Arc<Groups>,
    /// Keys that neighbouring queries share, where that is worth it: words of `unions.rs`. Empty where nobody has looked yet: only GPUs use them.
    unions: Arc<OnceLock<Option<Tensor>>>,
    /// Most queries that list one key, as far as the host knows.
    longest: usize,
    lowered: Arc<OnceLock<Lowered>>,
}

impl KeyIndex {
    /// From lists [batch, heads, queries, k] of u32: the keys of each query in ascending order, and behind them `u32::MAX` where there
    /// are fewer than `k`. Batch and heads may be 1 where all share them, and heads those of the keys. Waits for the device.
    ///
    /// # Errors
    /// If a list is not ascending or names a key that is not below `keys`, or the shape is another.
    pub fn new(lists: &Tensor, keys: usize) -> Result<Self> {
        let op = "KeyIndex::new";
        let k = check_shape(op, lists, keys)?;
        let host = lists.to_vec::<u32>()?;
        for (row, list) in host.chunks(k).enumerate() {
            let length = list.iter().position(|&key| key == PADDING).unwrap_or(k);
            if let Some(&key) = list[..length].iter().find(|&&key| key as usize >= keys) {
                return Err(Error::Index { op, index: i64::from(key), size: keys });
            }
            if let Some(pair) = list[..length].windows(2).find(|pair| pair[0] >= pair[1]) {
                let message = format!("list {row} has key {} before key {}: not ascending", pair[0], pair[1]);
                return Err(Error::argument(op, message));
            }
            if let Some(key) = list[length..].iter().find(|&&key| key != PADDING) {
                return Err(Error::argument(op, format!("list {row} has key {key} behind padding")));
            }
        }
        Self::ascending(op, lists, keys)?.known(&host)
    }

    /// From lists [batch, heads, blocks, k] of one list for each block of `query_block` queries, else as [`KeyIndex::new`] takes them.
    ///
    /// # Errors
    /// As [`KeyIndex::new`], and if so many blocks are not those of `queries`.
    pub fn of_blocks(lists: &Tensor, query_block: usize, queries: usize, keys: usize) -> Result<Self> {
        let op = "KeyIndex::of_blocks";
        check_shape(op, lists, keys)?;
        let blocks = lists.shape()[2];
        if query_block == 0 || queries.div_ceil(query_block) != blocks {
            let message = format!("lists of {blocks} blocks for {queries} queries in blocks of {query_block}");
            return Err(Error::shape(op, message));
        }
        Self::new(&lists.repeat_interleave(query_block, 2)?.narrow(2, 0, queries)?, keys)
    }

    /// The same index, with what neighbouring queries share, so that on a GPU 32 of them go together over the union of their lists. That is
    /// done if the unions have at most four times the keys of a list, on average; [`KeyIndex::new`], [`KeyIndex::of_blocks`] and
    /// [`KeyIndex::from_edges`] look by themselves. Waits for the device.
    ///
    /// # Errors
    /// Those of the device.
    pub fn united(&self) -> Result<Self> {
        let unions = self.shared(&self.lists.to_vec::<u32>()?)?;
        // What was lowered lacks them.
        Ok(KeyIndex { unions: Arc::new(unions.into()), lowered: Arc::default(), ..self.clone() })
    }

    /// The words of the unions of the lists, which are at hand on the host.
    fn shared(&self, lists: &[u32]) -> Result<Option<Tensor>> {
        let &[_, _, queries, k] = self.sizes();
        let Some(words) = unions(lists, queries, k, PADDING) else { return Ok(None) };
        let length = words.len();
        Tensor::from_vec(words, &[length], self.lists.device()).map(Some)
    }

    /// The same index with what its lists say, which are at hand on the host. On the CPU device unions are not looked for until they are asked for.
    fn known(mut self, lists: &[u32]) -> Result<Self> {
        let &[_, _, queries, k] = self.sizes();
        let mut counts = vec![0; self.keys];
        self.longest = 0;
        for matrix in lists.chunks(queries * k) {
            counts.fill(0);
            matrix.iter().filter(|&&key| key != PADDING).for_each(|&key| counts[key as usize] += 1);
            self.longest = counts.iter().copied().max().unwrap_or_default().max(self.longest);
        }
        let unions = if self.lists.device().is_gpu() { self.shared(lists)?.into() } else { OnceLock::new() };
        self.unions = Arc::new(unions);
        Ok(self)
    }

    /// Whether neighbouring queries go over the union of their lists together, on a GPU.
    pub fn is_united(&self) -> bool {
        self.unions().is_some()
    }

    fn unions(&self) -> Option<&Tensor> {
        // Lists of the CPU device, which are read without waiting.
        let look = || self.shared(&self.lists.to_vec::<u32>().ok()?).ok().flatten();
        self.unions.get_or_init(look).as_ref()
    }

    /// Of the lists, and the most queries that list one key, as far as the host knows.
    pub(crate) fn lengths(&self) -> [usize; 2] {
        [self.sizes()[3], self.longest]
    }

    /// From the edges of a graph, each a batch element, a query, and a key that it sees, in any order; one that comes twice counts once.
    /// All heads share the lists, which are as long as the largest degree. Graph-guided attention is dense under [`Mask::keys`] of
    /// this, or over the blocks that it touches ([`BlockIndex::from_mask`](crate::BlockIndex::from_mask), which a GPU finds itself).
    ///
    /// # Errors
    /// If an edge leads out of `[batch, queries, keys]`.
    pub fn from_edges(edges: &[[usize; 3]], [batch, queries, keys]: [usize; 3], device: &Device) -> Result<Self> {
        let op = "KeyIndex::from_edges";
        let mut lists = vec![Vec::new(); batch * queries];
        for &[b, query, key] in edges {
            if let Some((index, size)) = [(b, batch), (query, queries), (key, keys)].into_iter().find(|(i, n)| i >= n) {
                return Err(Error::Index { op, index: index as i64, size });
            }
            lists[b * queries + query].push(key as u32);
        }
        for list in &mut lists {
            list.sort_unstable();
            list.dedup();
        }
        let k = lists.iter().map(Vec::len).max().unwrap_or_default().max(1);
        lists.iter_mut().for_each(|list| list.resize(k, PADDING));
        let host = lists.concat();
        let lists = Tensor::from_vec(host.clone(), &[batch, 1, queries, k], device)?;
        check_shape(op, &lists, keys)?;
        Self::ascending(op, &lists, keys)?.known(&host)
    }

    /// For each query, the `k` keys of the highest scores among those that `mask` lets it see, the first ones among equals. `scores` is [batch,
    /// heads, queries, keys], and the index is made on its device, without waiting. The choice has no gradient.
    ///
    /// # Errors
    /// If scores or the mask do not fit, or `k` is 0.
    pub fn from_scores(scores: &Tensor, k: usize, mask: &Mask) -> Result<Self> {
        let op = "KeyIndex::from_scores";
        scores.expect_float(op)?;
        let &[batch, heads, queries, keys] = scores.shape() else {
            let message = format!("scores of shape {:?}, expected [batch, heads, queries, keys]", scores.shape());
            return Err(Error::shape(op, message));
        };
        let pairs = Pairs { batch, heads, queries, keys };
        mask.check(op, pairs)?;
        let device = scores.device();
        let mut order = scores.detach();
        if order.dtype().is_half() {
            order = order.cast(DType::F32)?;
        }
        let hidden = mask.seen(pairs, device)?.map(|seen| seen.logical_not()).transpose()?;
        if let Some(hidden) = &hidden {
            order = order.masked_fill(hidden, f64::from(f32::MIN))?;
        }
        let mut lists = order.topk_places(k.min(keys), true)?;
        if let Some(hidden) = hidden {
            let hidden = hidden.expand(&[batch, heads, queries, keys])?.gather(-1, &lists)?;
            let padding = Tensor::full(f64::from(PADDING), &[1], DType::U32, device)?;
            (lists, _) = Tensor::where_cond(&hidden, &padding, &lists)?.sort(-1, false)?;
        }
        check_shape(op, &lists, keys)?;
        Self::ascending(op, &lists, keys)
    }

    /// From lists that are as [`KeyIndex::new`] wants them.
    fn ascending(op: &'static str, lists: &Tensor, keys: usize) -> Result<Self> {
        let (batch, heads) = (lists.shape()[0], lists.shape()[1]);
        let lists = lists.detach().contiguous()?;
        let device = lists.device();
        // Row r of all matrices is slot r + 1, and padding is no row.
        let first: Vec<u32> = (0..batch * heads).map(|matrix| (matrix * keys + 1) as u32).collect();
        let first = Tensor::from_vec(first, &[batch, heads, 1, 1], device)?;
        let padding = Tensor::full(f64::from(PADDING), &[1], DType::U32, device)?;
        let nowhere = Tensor::zeros(&[1], DType::U32, device)?;
        let slots = Tensor::where_cond(&lists.eq(&padding)?, &nowhere, &lists.add(&first)?)?;
        let by_key = group(op, &slots.reshape(&[-1])?.contiguous()?, batch * heads * keys)?;
        // Nobody looks for unions of what a device chose: that would wait for it.
        let (by_key, unions, longest) = (Arc::new(by_key), Arc::new(OnceLock::from(None)), lists.shape()[2]);
        Ok(KeyIndex { lists, keys, by_key, unions, longest, lowered: Arc::default() })
    }

    /// The lists [batch, heads, queries, k].
    pub fn lists(&self) -> &Tensor {
        &self.lists
    }

    /// Which keys each query lists, [batch, heads, queries, keys] for so many heads.
    pub(crate) fn seen(&self, heads: usize) -> Result<Tensor> {
        let (&[batch, own, queries, k], keys) = (self.sizes(), self.keys);
        let mut seen = vec![false; batch * own * queries * keys];
        for (row, list) in self.lists.to_vec::<u32>()?.chunks(k).enumerate() {
            list.iter().filter(|&&key| key != PADDING).for_each(|&key| seen[row * keys + key as usize] = true);
        }
        let seen = Tensor::from_vec(seen, &[batch, own, queries, keys], self.lists.device())?;
        seen.repeat_interleave(if own == 1 { 1 } else { heads / own }, 1)
    }

    pub(crate) fn sizes(&self) -> &[usize; 4] {
        // Of rank 4 since it was made.
        self.lists.shape().first_chunk().unwrap_or(&[0; 4])
    }

    /// The words of the index and a mask on a device; the terms must fit.
    pub(crate) fn lowered(&self, op: &'static str, mask: &Mask, pairs: Pairs, device: &Device) -> Result<Tensor> {
        Lowered::of(&self.lowered, mask, pairs, device, || {
            let &[batch, heads, _, k] = self.sizes();
            let flat = |x: &Tensor| x.to_device(device)?.reshape(&[-1]);
            let parts = [&self.lists, &self.by_key.starts, &self.by_key.order].map(flat);
            let [lists, starts, order] = parts;
            // Places are filled in: 1, 2 and 5, and 7 where there is something.
            let header = [KEYS, 0, 0, batch as u32, heads as u32, 0, k as u32, 0];
            let mut arrays = vec![(1, lists?), (2, starts?), (5, order?)];
            if let Some(unions) = self.unions().filter(|_| device.is_gpu()) {
                arrays.push((7, flat(unions)?));
            }
            mask.with_lists(op, header, &arrays, pairs, device)
        })
    }

    /// Errs if the index is not one for these pairs.
    pub(crate) fn check(&self, op: &'static str, pairs: Pairs, key_heads: usize) -> Result<()> {
        let &[batch, heads, queries, _] = self.sizes();
        if (queries, self.keys) != (pairs.queries, pairs.keys) {
            let of = format!("{queries} queries and {} keys", self.keys);
            let message = format!("lists of {of} for {} queries and {} keys", pairs.queries, pairs.keys);
            return Err(Error::shape(op, message));
        }
        super::check_key_heads(op, [batch, heads], pairs, key_heads)
    }
}

/// The length of the lists, if they are u32 [batch, heads, queries, k] and there is something in them.
fn check_shape(op: &'static str, lists: &Tensor, keys: usize) -> Result<usize> {
    lists.expect_dtype(op, DType::U32, "u32 lists of keys")?;
    let &[batch, heads, queries, k] = lists.shape() else {
        let message = format!("lists of shape {:?}, expected [batch, heads, queries, k]", lists.shape());
        return Err(Error::shape(op, message));
    };
    if lists.elements() == 0 || keys == 0 {
        let message = format!("lists of shape {:?} of {keys} keys: there is nothing in them", lists.shape());
        return Err(Error::argument(op, message));
    }
    let rows = [batch, heads, keys].iter().try_fold(1u32, |n, &x| n.checked_mul(u32::try_from(x).ok()?));
    if rows.is_none_or(|rows| rows == u32::MAX) || lists.elements() > 1 << 30 {
        let message = format!("lists of {batch} x {heads} x {queries} x {k} of {keys} keys are too large");
        return Err(Error::argument(op, message));
    }
    Ok(k)
}
