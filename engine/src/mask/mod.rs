//! Who sees whom: the one description that all attention shares.

mod check;
pub(crate) mod cost;
mod dense;
pub(crate) mod lower;
mod spans;
pub(crate) mod steps;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::sync::{Arc, OnceLock};

use crate::{Device, Result, Tensor};
use lower::Lowered;

use crate::snippet::VisibleCode;
use crate::sparse::KeyIndex;

/// Which keys a query may see in attention: a conjunction of terms, each true for some pairs of query `i` and key `j`.
///
/// Attention tests whole tiles of pairs against it: what no pair of a tile may see is never computed, and where all may,
/// nothing is tested. Only [`Mask::dense`] takes memory that grows with queries times keys (a bit each). Clones share what
/// was prepared for a device, so one mask serves all layers.
///
/// ```
/// use wgrad::Mask;
/// // A packed batch of two rows, causal within each document, the last 128 tokens only.
/// # use wgrad::{Device, Tensor};
/// # let ids = Tensor::from_vec(vec![0u32, 0, 1, 1, 0, 1, 1, 2], &[2, 4], &Device::cpu()).unwrap();
/// let mask = Mask::segments(&ids, &ids).and(Mask::causal(0)).and(Mask::window(127, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mask {
    terms: Vec<Term>,
    lowered: Arc<OnceLock<Lowered>>,
}

/// The sizes that a mask is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pairs {
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
}

/// Beyond any distance between positions.
const FAR: i64 = 1 << 30;

#[derive(Clone, Debug)]
enum Term {
    /// `j < lengths[b]`.
    KeyLengths(Vec<usize>),
    /// `i < lengths[b]`.
    QueryLengths(Vec<usize>),
    /// `low <= j - i <= high`, or `j < first[b]`, or `i < rows`.
    Band { low: i64, high: i64, first: Vec<usize>, rows: i64 },
    /// Equal numbers, not `u32::MAX`.
    Segments { queries: Tensor, keys: Tensor },
    /// `low[b, h, j] <= t < high[b, h, j]`, where `t` is `times[b, i]`, or `i + shift`.
    Intervals { low: Tensor, high: Tensor, times: Option<Tensor>, shift: i64 },
    /// `j` is in the list of query `i`.
    Keys(KeyIndex),
    /// What a function of the user says of `i + shift`.
    Code { code: VisibleCode, shift: i64 },
    /// `seen[b, h, i / rows, j / columns]`.
    Bits { seen: Tensor, rows: usize, columns: usize },
}

impl Mask {
    fn of(term: Term) -> Self {
        Mask { terms: vec![term], ..Mask::default() }
    }

    /// Every query sees every key. The default.
    pub fn all() -> Self {
        Mask::default()
    }

    /// Query `i` sees the keys `j <= i + offset`. The offset is 0 where queries and keys are the same positions, and the number
    /// of keys before the first query where the queries are the last of more positions (`keys - queries`).
    pub fn causal(offset: i64) -> Self {
        Mask::of(Term::Band { low: -FAR, high: offset.clamp(-FAR, FAR), first: Vec::new(), rows: 0 })
    }

    /// Query `i` sees the keys from `i - left` to `i + right`.
    pub fn window(left: usize, right: usize) -> Self {
        Mask::first_or_window(None, 0, left, right)
    }

    /// [`Mask::window`], and the first `sinks` keys for everybody (Xiao et al., "Efficient streaming language models with
    /// attention sinks", 2023). With `right` 0 add `.and(Mask::causal(0))` if the first queries are not to see later sinks. There
    /// may be fewer keys than sinks.
    pub fn sink_window(sinks: usize, left: usize, right: usize) -> Self {
        Mask::first_or_window(Some(sinks), 0, left, right)
    }

    /// [`Mask::window`], and the first `globals` tokens see all and are seen by all (Beltagy et al., "Longformer", 2020).
    pub fn global_window(globals: usize, left: usize, right: usize) -> Self {
        Mask::first_or_window(Some(globals), globals, left, right)
    }

    fn first_or_window(first: Option<usize>, rows: usize, left: usize, right: usize) -> Self {
        let distance = |n: usize| i64::try_from(n).map_or(FAR, |n| n.min(FAR));
        let first = first.map(|n| n.min(FAR as usize)).into_iter().collect();
        Mask::of(Term::Band { low: -distance(left), high: distance(right), first, rows: distance(rows) })
    }

    /// Causal, but the first `lengths[b]` keys are seen by everybody: a prefix language model (Raffel et al., 2020). One length
    /// for each batch element, or one for all.
    pub fn prefix(lengths: &[usize]) -> Self {
        Mask::of(Term::Band { low: -FAR, high: 0, first: lengths.to_vec(), rows: 0 })
    }

    /// Keys from `lengths[b]` on are padding. One length for each batch element, or one for all.
    pub fn key_lengths(lengths: &[usize]) -> Self {
        Mask::of(Term::KeyLengths(lengths.to_vec()))
    }

    /// Queries from `lengths[b]` on see nothing, and give zeros. One length for each batch element, or one for all.
    pub fn query_lengths(lengths: &[usize]) -> Self {
        Mask::of(Term::QueryLengths(lengths.to_vec()))
    }

    /// A query sees the keys of its own segment, as sequences that are packed into one row need it: `queries` [batch or 1,
    /// queries] and `keys` [batch or 1, keys], u32. Number `u32::MAX` is padding, which sees and is seen by nothing.
    ///
    /// The numbers are read when the mask is first used: keep them on the CPU device, or a GPU is waited for.
    pub fn segments(queries: &Tensor, keys: &Tensor) -> Self {
        Mask::of(Term::Segments { queries: queries.detach(), keys: keys.detach() })
    }

    /// Query `i` at time `t[b, i]` sees key `j` if `low[b, h, j] <= t < high[b, h, j]`: one term for prefix, permutation, two-stream,
    /// blank-infilling, n-gram and block-diffusion masks. `low` and `high` are i32, [batch or 1, heads or 1, keys]; `times` is
    /// i32 [batch or 1, queries], or absent: then time is the position `i`.
    ///
    /// The numbers are read when the mask is first used: keep them on the CPU device, or a GPU is waited for.
    pub fn intervals(low: &Tensor, high: &Tensor, times: Option<&Tensor>) -> Self {
        let times = times.map(Tensor::detach);
        Mask::of(Term::Intervals { low: low.detach(), high: high.detach(), times, shift: 0 })
    }

    /// Any mask: bool, true where a query may see a key; broadcasts to [batch, heads, queries, keys]. It is kept as bits.
    pub fn dense(seen: &Tensor) -> Self {
        Mask::of(Term::Bits { seen: seen.detach(), rows: 1, columns: 1 })
    }

    /// Blocks of `query_block` queries times `key_block` keys are visible or not: bool, broadcasts to [batch, heads, blocks of
    /// queries, blocks of keys], where the last blocks may be cut.
    pub fn blocks(seen: &Tensor, query_block: usize, key_block: usize) -> Self {
        Mask::of(Term::Bits { seen: seen.detach(), rows: query_block, columns: key_block })
    }

    /// A query sees the keys of its list. Where the lists of neighbours have much in common, a [`BlockIndex`](crate::BlockIndex) of this mask is
    /// faster than attention by the lists themselves.
    pub fn keys(index: &KeyIndex) -> Self {
        Mask::of(Term::Keys(index.clone()))
    }

    /// Any mask, in WGSL of one's own: FlexAttention's `mask_mod` (Dong et al., 2024). The text has a function
    /// `visible(q: u32, k: u32, head: u32, batch: u32) -> bool`, and may have others. A [`BlockIndex`](crate::BlockIndex) of the mask spares the
    /// blocks that it hides; without one all pairs are looked at. Make it once: texts are kept until the process ends.
    ///
    /// On the CPU device, which does not run WGSL, the mask is an error: see [`Mask::wgsl_and_rust`]. A mask can hold one such term.
    ///
    /// ```
    /// use wgrad::Mask;
    /// // Every eighth key, and what came just before.
    /// let strided = Mask::wgsl("fn visible(q: u32, k: u32, head: u32, batch: u32) -> bool { return k <= q && (k % 8u == 0u || q - k < 8u); }")?;
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the text is no valid WGSL: the message has line and column. If the function is missing or has another signature, or another
    /// name of the text is one of the kernels'. In a browser these come at the first use.
    pub fn wgsl(text: &str) -> Result<Self> {
        Ok(Mask::of(Term::Code { code: VisibleCode::new(text, None)?, shift: 0 }))
    }

    /// [`Mask::wgsl`] with the same function `(query, key, head, batch)` in Rust, for the CPU device.
    ///
    /// # Errors
    /// As [`Mask::wgsl`].
    pub fn wgsl_and_rust(
        text: &str,
        visible: impl Fn(usize, usize, usize, usize) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Mask::of(Term::Code { code: VisibleCode::new(text, Some(Arc::new(visible)))?, shift: 0 }))
    }

    /// The function of the user, if there is one.
    pub(crate) fn code(&self) -> Option<&VisibleCode> {
        self.terms.iter().find_map(|term| if let Term::Code { code, .. } = term { Some(code) } else { None })
    }

    /// What both masks allow.
    #[must_use]
    pub fn and(mut self, other: Mask) -> Self {
        self.terms.extend(other.terms);
        Mask { terms: self.terms, ..Mask::default() }
    }

    /// The same mask for queries of which the first stands at position `offset` among the keys: what causal, window, prefix and
    /// interval terms say of position `i` is said of `i + offset`. For queries that continue a sequence whose keys are kept.
    #[must_use]
    pub fn at(mut self, offset: i64) -> Self {
        let offset = offset.clamp(-FAR, FAR);
        for term in &mut self.terms {
            match term {
                Term::Band { low, high, rows, .. } => {
                    *rows = (*rows - offset).max(0);
                    // What is unbounded stays so.
                    *low = if *low == -FAR { -FAR } else { (*low + offset).clamp(-FAR, FAR) };
                    *high = if *high == FAR { FAR } else { (*high + offset).clamp(-FAR, FAR) };
                }
                Term::Intervals { shift, .. } | Term::Code { shift, .. } => *shift += offset,
                _ => {}
            }
        }
        Mask { terms: self.terms, ..Mask::default() }
    }

    /// Whether this is a clone of the other, or both are all.
    pub(crate) fn same(&self, other: &Mask) -> bool {
        Arc::ptr_eq(&self.lowered, &other.lowered) || (self.is_all() && other.is_all())
    }

    /// The kinds of its terms, as the words have them, each a bit: kernels leave out what the others would need.
    pub(crate) fn kinds(&self) -> u32 {
        self.terms.iter().fold(0, |kinds, term| kinds | 1 << term.kind())
    }

    /// Whether every query sees every key.
    pub fn is_all(&self) -> bool {
        self.terms.is_empty()
    }

    /// The mask as a bool tensor that broadcasts to [batch, heads, queries, keys], for looking at and for tests.
    ///
    /// # Errors
    /// If a term does not fit these sizes.
    pub fn to_dense(&self, batch: usize, heads: usize, queries: usize, keys: usize, device: &Device) -> Result<Tensor> {
        let pairs = Pairs { batch, heads, queries, keys };
        self.check("Mask::to_dense", pairs)?;
        match self.seen(pairs, device)? {
            Some(seen) => Ok(seen),
            None => Tensor::ones(&[1, 1, 1, 1], crate::DType::Bool, device),
        }
    }
}

impl From<Tensor> for Mask {
    /// [`Mask::dense`].
    fn from(seen: Tensor) -> Self {
        Mask::dense(&seen)
    }
}

impl From<Option<Tensor>> for Mask {
    /// [`Mask::dense`], or all.
    fn from(seen: Option<Tensor>) -> Self {
        seen.map_or_else(Mask::all, Mask::from)
    }
}
