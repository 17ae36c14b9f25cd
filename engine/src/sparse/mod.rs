//! Sparse attention's lists: which blocks of keys a block of queries attends to.

mod build;
pub(crate) mod keys;
mod lists;
mod scores;
mod unions;
pub(crate) mod words;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::mask::{Mask, Pairs};
use crate::{DType, Device, Error, Result, Tensor};

pub use keys::KeyIndex;
pub use lists::BlockLists;
use words::LISTS;

/// The sizes of a block index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// Batch elements with lists of their own: all, or 1 if they share them.
    pub batch: usize,
    /// Heads with lists of their own: all, those of the keys, or 1 if they share them.
    pub heads: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Queries of a block, a multiple of 32; the last block may be cut.
    pub query_block: usize,
    /// Keys of a block, a multiple of 32; the last block may be cut.
    pub key_block: usize,
}

impl BlockLayout {
    /// Blocks of 64 queries and 64 keys, the same for the whole batch and all heads.
    pub fn new(queries: usize, keys: usize) -> Self {
        BlockLayout { batch: 1, heads: 1, queries, keys, query_block: 64, key_block: 64 }
    }

    /// Rows and columns of blocks.
    pub(crate) fn blocks(&self) -> [usize; 2] {
        [self.queries.div_ceil(self.query_block), self.keys.div_ceil(self.key_block)]
    }

    pub(crate) fn matrices(&self) -> usize {
        self.batch * self.heads
    }

    /// The queries and the keys of a block.
    fn ranges(&self, row: usize, column: usize) -> [Range<usize>; 2] {
        let range = |block: usize, size: usize, end: usize| block * size..end.min((block + 1) * size);
        [range(row, self.query_block, self.queries), range(column, self.key_block, self.keys)]
    }

    fn pairs(&self) -> Pairs {
        Pairs { batch: self.batch, heads: self.heads, queries: self.queries, keys: self.keys }
    }

    fn check(&self, op: &'static str) -> Result<()> {
        for (name, size) in [("query", self.query_block), ("key", self.key_block)] {
            if size == 0 || size % 32 != 0 || size > 1 << 20 {
                return Err(Error::argument(op, format!("{name} blocks of {size}, expected a multiple of 32")));
            }
        }
        let [rows, columns] = self.blocks();
        if self.matrices() * rows * columns == 0 {
            return Err(Error::argument(op, format!("a block index without blocks: {self:?}")));
        }
        // What a kernel counts in 32 bits: steps of 32 over all lists.
        let cells = [self.batch, self.heads, rows, columns].iter().try_fold(1usize, |n, &x| n.checked_mul(x));
        let steps = self.query_block.max(self.key_block) / 32;
        match cells.and_then(|cells| cells.checked_mul(steps)).filter(|&steps| steps < 1 << 30) {
            Some(_) => Ok(()),
            None => Err(Error::argument(op, format!("a block index of more than 2^30 tiles: {self:?}"))),
        }
    }
}

/// Which blocks of keys each block of queries attends to, for [`Tensor::sparse_attention`]: lists by block of queries for the
/// results and the queries' gradients, and by block of keys for those of keys and values.
///
/// Query `i` sees key `j` if their block is listed and the index's mask lets it. A block that is listed as full promises
/// that the mask hides no pair of it, which then is not tested, as in FlexAttention (Dong et al., 2024). Clones share all memory.
#[derive(Clone, Debug)]
pub struct BlockIndex {
    layout: BlockLayout,
    /// [`words`], on one device.
    by_query: Tensor,
    by_key: Tensor,
    mask: Mask,
    lowered: Arc<OnceLock<Lowered>>,
}

/// An index made ready for attention under one more mask.
#[derive(Clone, Debug)]
struct Lowered {
    mask: Mask,
    pairs: Pairs,
    device: Device,
    words: Tensor,
}

impl Lowered {
    /// The words that `cache` has for this mask, these pairs and this device, or new ones. A cache holds the first.
    fn of(
        cache: &OnceLock<Lowered>,
        mask: &Mask,
        pairs: Pairs,
        device: &Device,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let fits = |known: &&Lowered| known.mask.same(mask) && known.pairs == pairs && known.device.same(device);
        if let Some(known) = cache.get().filter(fits) {
            return Ok(known.words.clone());
        }
        let words = make()?;
        let _ = cache.set(Lowered { mask: mask.clone(), pairs, device: device.clone(), words: words.clone() });
        Ok(words)
    }
}

/// What [`Tensor::sparse_attention`] goes over.
#[derive(Clone, Copy, Debug)]
pub enum SparseIndex<'a> {
    /// Blocks of queries and keys.
    Blocks(&'a BlockIndex),
    /// A list of keys for each query.
    Keys(&'a KeyIndex),
}

impl<'a> From<&'a BlockIndex> for SparseIndex<'a> {
    fn from(index: &'a BlockIndex) -> Self {
        SparseIndex::Blocks(index)
    }
}

impl<'a> From<&'a KeyIndex> for SparseIndex<'a> {
    fn from(index: &'a KeyIndex) -> Self {
        SparseIndex::Keys(index)
    }
}

impl SparseIndex<'_> {
    /// Errs if the index is not one for these pairs, or its mask and the other do not fit.
    pub(crate) fn check(self, op: &'static str, outer: &Mask, pairs: Pairs, key_heads: usize) -> Result<()> {
        match self {
            SparseIndex::Blocks(index) => index.check(op, outer, pairs, key_heads),
            SparseIndex::Keys(index) => index.check(op, pairs, key_heads),
        }
    }

    pub(crate) fn lowered(self, op: &'static str, mask: &Mask, pairs: Pairs, device: &Device) -> Result<Tensor> {
        match self {
            SparseIndex::Blocks(index) => index.lowered(op, mask, pairs, device),
            SparseIndex::Keys(index) => index.lowered(op, mask, pairs, device),
        }
    }

    pub(crate) fn to_mask(self, heads: usize) -> Result<Mask> {
        match self {
            SparseIndex::Blocks(index) => index.to_mask(heads),
            SparseIndex::Keys(index) => Ok(Mask::keys(index)),
        }
    }

    /// The index's own mask.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        match self {
            SparseIndex::Blocks(index) => Some(&index.mask),
            SparseIndex::Keys(_) => None,
        }
    }
}

impl BlockIndex {
    fn of(layout: BlockLayout, by_query: Tensor, by_key: Tensor, mask: Mask) -> Self {
        BlockIndex { layout, by_query, by_key, mask, lowered: Arc::default() }
    }

    /// The sizes.
    pub fn layout(&self) -> BlockLayout {
        self.layout
    }

    /// What hides pairs inside of listed blocks.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The lists of key blocks by block of queries. Waits for the device.
    ///
    /// # Errors
    /// If the device failed since the last wait.
    pub fn by_query(&self) -> Result<BlockLists> {
        let [rows, columns] = self.layout.blocks();
        BlockLists::read(&self.by_query.to_vec()?, self.layout.matrices(), rows, columns)
    }

    /// The lists of query blocks by block of keys: the same blocks. Waits for the device.
    ///
    /// # Errors
    /// If the device failed since the last wait.
    pub fn by_key(&self) -> Result<BlockLists> {
        let [rows, columns] = self.layout.blocks();
        BlockLists::read(&self.by_key.to_vec()?, self.layout.matrices(), columns, rows)
    }

    /// The part of all blocks that is listed. Waits for the device.
    ///
    /// # Errors
    /// If the device failed since the last wait.
    pub fn density(&self) -> Result<f64> {
        let [rows, columns] = self.layout.blocks();
        Ok(self.by_query()?.len() as f64 / (self.layout.matrices() * rows * columns) as f64)
    }

    /// The same visibility as a mask for dense attention with so many heads: the oracle of the tests. Waits for the device.
    ///
    /// # Errors
    /// If `heads` does not fit the layout, or the device failed since the last wait.
    pub fn to_mask(&self, heads: usize) -> Result<Mask> {
        let op = "BlockIndex::to_mask";
        let layout = self.layout;
        check_heads(op, [layout.batch, layout.heads], layout.batch, heads)?;
        let [rows, columns] = layout.blocks();
        let mut seen = vec![false; layout.matrices() * rows * columns];
        let lists = self.by_query()?;
        for (row, blocks) in lists.rows().enumerate() {
            blocks.for_each(|(block, _)| seen[row * columns + block] = true);
        }
        let device = self.by_query.device();
        let seen = Tensor::from_vec(seen, &[layout.batch, layout.heads, rows, columns], device)?;
        let each = if layout.heads == 1 { 1 } else { heads / layout.heads };
        let seen = seen.repeat_interleave(each, 1)?;
        Ok(Mask::blocks(&seen, layout.query_block, layout.key_block).and(self.mask.clone()))
    }

    /// Checks what kernels take for granted: both lists ascending and within the layout, and the same blocks. Waits for the device.
    ///
    /// # Errors
    /// If that is not so, or the device failed since the last wait.
    pub fn validate(&self) -> Result<()> {
        let op = "BlockIndex::validate";
        let (by_query, by_key) = (self.by_query()?, self.by_key()?);
        let [rows, columns] = self.layout.blocks();
        by_query.check(op, self.layout.matrices() * rows, columns)?;
        by_key.check(op, self.layout.matrices() * columns, rows)?;
        if by_query.transposed(self.layout.matrices(), columns) == by_key {
            return Ok(());
        }
        Err(Error::argument(op, "the lists by query and by key have different blocks"))
    }

    /// The words of the index and one more mask on a device; the terms must fit.
    pub(crate) fn lowered(&self, op: &'static str, mask: &Mask, pairs: Pairs, device: &Device) -> Result<Tensor> {
        Lowered::of(&self.lowered, mask, pairs, device, || {
            let BlockLayout { batch, heads, query_block, key_block, .. } = self.layout;
            let [batch, heads, query_block, key_block] = [batch, heads, query_block, key_block].map(|n| n as u32);
            let header = [LISTS, 0, 0, batch, heads, query_block, key_block, mask.is_all().into()];
            let (by_query, by_key) = (self.by_query.to_device(device)?, self.by_key.to_device(device)?);
            let terms = mask.clone().and(self.mask.clone());
            terms.with_lists(op, header, &[(1, by_query), (2, by_key)], pairs, device)
        })
    }

    /// Errs if the index is not one for these pairs, or its mask and the other do not fit.
    pub(crate) fn check(&self, op: &'static str, outer: &Mask, pairs: Pairs, key_heads: usize) -> Result<()> {
        let layout = self.layout;
        if (layout.queries, layout.keys) != (pairs.queries, pairs.keys) {
            let of = format!("{} queries and {} keys", layout.queries, layout.keys);
            let message = format!("a block index of {of} for {} queries and {} keys", pairs.queries, pairs.keys);
            return Err(Error::shape(op, message));
        }
        check_key_heads(op, [layout.batch, layout.heads], pairs, key_heads)?;
        self.mask.clone().and(outer.clone()).check(op, pairs)
    }
}

/// Errs if an index of so many batch elements and heads is not one for these pairs.
fn check_key_heads(op: &'static str, [batch, heads]: [usize; 2], pairs: Pairs, key_heads: usize) -> Result<()> {
    if heads != 1 && heads != pairs.heads && heads != key_heads {
        let message = format!("an index of {heads} heads for {} query heads and {key_heads} key heads", pairs.heads);
        return Err(Error::shape(op, message));
    }
    check_heads(op, [batch, heads], pairs.batch, pairs.heads)
}

fn check_heads(op: &'static str, [b, h]: [usize; 2], batch: usize, heads: usize) -> Result<()> {
    if (b == 1 || b == batch) && heads.is_multiple_of(h) {
        return Ok(());
    }
    Err(Error::shape(op, format!("an index of batch {b} and {h} heads for a batch of {batch} and {heads} heads")))
}

/// u32 words as a tensor.
fn tensor(words: Vec<u32>, device: &Device) -> Result<Tensor> {
    let length = words.len();
    Tensor::from_vec(words, &[length], device)
}

fn expect_lists(op: &'static str, name: &str, x: &Tensor, shape: &[usize]) -> Result<Vec<u32>> {
    x.expect_dtype(op, DType::U32, "u32 lists of blocks")?;
    if x.shape() == shape {
        return x.to_vec();
    }
    Err(Error::shape(op, format!("{name} of shape {:?}, expected {shape:?}", x.shape())))
}
