//! Keys and values of sequences that grow, kept on their device: what [`Tensor::decode`] attends to.

mod paged;
mod pages;

pub use paged::{PagedCache, Sequence};
pub(crate) use pages::{Pages, Places};

use crate::ops::decode::append;
use crate::{DType, Device, Error, Result, Tensor};

const OP: &str = "KvCache";
/// Tokens of the first allocation of a cache that grows.
const FIRST: usize = 64;

/// Keys and values of one attention layer for a batch of sequences, each with a length of its own.
///
/// What is appended is written in place. The memory is [batch, heads, capacity, width]; it doubles when it is full, so that an
/// append costs the same whatever there is, unless the capacity is fixed. Halves keep a cache of half the size, also beside
/// queries of f32.
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// use wgrad::{AttentionOptions, DType, Device, KvCache, Mask, Tensor};
/// let device = Device::cpu();
/// let x = |heads, length| Tensor::ones(&[1, heads, length, 8], DType::F32, &device);
/// let mut cache = KvCache::new(1, 2, 8, 8, DType::F32, &device)?;
/// cache.append(&x(2, 5)?, &x(2, 5)?)?; // the prompt, then token by token
/// for _ in 0..3 {
///     cache.append(&x(2, 1)?, &x(2, 1)?)?;
///     let options = AttentionOptions { mask: Mask::window(127, 0), ..Default::default() };
///     let out = x(4, 1)?.decode(&cache, &options)?;
///     assert_eq!(out.shape(), [1, 4, 1, 8]);
/// }
/// assert_eq!(cache.lengths(), [8]);
/// # Ok(())
/// # }
/// ```
pub struct KvCache {
    pages: Pages,
    places: Places,
    fixed: bool,
}

impl KvCache {
    /// An empty cache for keys of `heads` key heads and width `head_dim`, and values of width `value_dim`, that grows as needed.
    ///
    /// # Errors
    /// If a size is 0, `dtype` is not a float dtype of the device, or memory is exhausted.
    pub fn new(
        batch: usize,
        heads: usize,
        head_dim: usize,
        value_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let grows = KvCache::with_capacity(FIRST, batch, heads, head_dim, value_dim, dtype, device)?;
        Ok(KvCache { fixed: false, ..grows })
    }

    /// As [`KvCache::new`] for at most `capacity` tokens a sequence, all of whose memory is taken at once.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn with_capacity(
        capacity: usize,
        batch: usize,
        heads: usize,
        head_dim: usize,
        value_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let pages = Pages::new(OP, batch, heads, capacity, [head_dim, value_dim], dtype, device)?;
        let places = Places::new(vec![0; batch], vec![0; batch], Vec::new(), device)?;
        Ok(KvCache { pages, places, fixed: true })
    }

    /// Tokens of each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.places.lengths
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.places.longest()
    }

    /// Tokens that each sequence has memory for.
    pub fn capacity(&self) -> usize {
        self.pages.size
    }

    /// Appends `key` [batch, heads, new, head_dim] and `value` [batch, heads, new, value_dim], rounded to the dtype of the cache. Gradients
    /// end here.
    ///
    /// # Errors
    /// If shapes or devices do not fit, the capacity is fixed and too small, or memory is exhausted; the cache is as before then.
    pub fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<()> {
        let new = key.shape().get(2).copied().unwrap_or_default();
        self.append_ragged(key, value, &vec![new; self.pages.count])
    }

    /// As [`KvCache::append`], of sequence `b` the first `counts[b]` tokens alone: for prompts that were padded at their end.
    ///
    /// # Errors
    /// As [`KvCache::append`], or if there is not a count for each sequence, or one is beyond the end.
    pub fn append_ragged(&mut self, key: &Tensor, value: &Tensor, counts: &[usize]) -> Result<()> {
        let new = self.pages.expect_rows(OP, key, value, self.pages.count)?;
        if counts.len() != self.pages.count || counts.iter().any(|&count| count > new) {
            let message = format!("counts {counts:?} for {} sequences of {new} new tokens", self.pages.count);
            return Err(Error::argument(OP, message));
        }
        let add = |(length, count): (&usize, &usize)| length + count;
        let lengths: Vec<usize> = self.places.lengths.iter().zip(counts).map(add).collect();
        let needed = lengths.iter().copied().max().unwrap_or_default();
        if needed > self.pages.size {
            if self.fixed {
                let message = format!("{needed} tokens do not fit a capacity of {}", self.pages.size);
                return Err(Error::argument(OP, message));
            }
            self.pages.grow(needed.max(2 * self.pages.size))?;
        }
        let places = Places::new(lengths, counts.to_vec(), Vec::new(), key.device())?;
        append(OP, &mut self.pages, key, value, &places)?;
        self.places = places;
        Ok(())
    }

    /// Forgets all but the first `length` tokens of each sequence: rejected guesses, or with 0 everything.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        let lengths: Vec<usize> = self.places.lengths.iter().map(|&n| n.min(length)).collect();
        self.places = Places::new(lengths, vec![0; self.pages.count], Vec::new(), self.pages.device())?;
        Ok(())
    }

    /// The keys [batch, heads, longest, head_dim] as they are now; rows of shorter sequences end with what happens to lie there. While it
    /// lives, the next append copies the cache.
    ///
    /// # Errors
    /// None that a valid cache gives.
    pub fn key(&self) -> Result<Tensor> {
        self.pages.key_rows(self.longest())
    }

    /// The values [batch, heads, longest, value_dim], as [`KvCache::key`].
    ///
    /// # Errors
    /// None that a valid cache gives.
    pub fn value(&self) -> Result<Tensor> {
        self.pages.value_rows(self.longest())
    }

    pub(crate) fn held(&self) -> (&Pages, &Places) {
        (&self.pages, &self.places)
    }
}
