//! A cache whose sequences take memory page by page and may share it (Kwon et al., "Efficient memory management for large language model
//! serving with PagedAttention", 2023).

use std::collections::BTreeMap;

use super::{Pages, Places};
use crate::ops::decode::append;
use crate::{DType, Device, Error, Result, Tensor};

const OP: &str = "PagedCache";

/// A sequence of a [`PagedCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

/// Keys and values of one attention layer for any number of sequences, in pages of a fixed number of tokens.
///
/// A sequence takes a page when its last one is full, so that at most a page of it is unused. [`PagedCache::fork`] shares all pages;
/// one that is not full is copied when one of its sequences goes on.
pub struct PagedCache {
    pages: Pages,
    /// Sequences that hold each page.
    holders: Vec<u32>,
    /// Pages that nobody holds; the next one is last.
    free: Vec<u32>,
    sequences: BTreeMap<Sequence, Held>,
    next: u64,
}

#[derive(Clone, Default)]
struct Held {
    pages: Vec<u32>,
    length: usize,
}

impl PagedCache {
    /// A cache of `pages` pages of `page_size` tokens (16 to 64 are usual), for keys of `heads` key heads and width `head_dim`, and
    /// values of width `value_dim`.
    ///
    /// # Errors
    /// If a size is 0, `dtype` is not a float dtype of the device, or memory is exhausted.
    pub fn new(
        pages: usize,
        page_size: usize,
        heads: usize,
        head_dim: usize,
        value_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let memory = Pages::new(OP, pages, heads, page_size, [head_dim, value_dim], dtype, device)?;
        let free = (0..pages as u32).rev().collect();
        Ok(PagedCache { pages: memory, holders: vec![0; pages], free, sequences: BTreeMap::new(), next: 0 })
    }

    /// A new sequence without tokens.
    pub fn start(&mut self) -> Sequence {
        self.insert(Held::default())
    }

    /// A new sequence with the tokens of another, whose memory it shares.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn fork(&mut self, sequence: Sequence) -> Result<Sequence> {
        let held = self.of(sequence)?.clone();
        held.pages.iter().for_each(|&page| self.holders[page as usize] += 1);
        Ok(self.insert(held))
    }

    /// Ends a sequence; pages that no other holds are free then.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn remove(&mut self, sequence: Sequence) -> Result<()> {
        let held = self.sequences.remove(&sequence).ok_or_else(|| unknown(sequence))?;
        held.pages.into_iter().for_each(|page| self.release(page));
        Ok(())
    }

    /// Tokens of a sequence.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn length(&self, sequence: Sequence) -> Result<usize> {
        Ok(self.of(sequence)?.length)
    }

    /// Tokens of a page.
    pub fn page_size(&self) -> usize {
        self.pages.size
    }

    /// Pages that no sequence holds.
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// Appends `key` [sequences, heads, new, head_dim] and `value` [sequences, heads, new, value_dim] to these sequences, rounded to the dtype
    /// of the cache. Gradients end here.
    ///
    /// # Errors
    /// If shapes or devices do not fit, a sequence is unknown or named twice, or there are not enough free pages
    /// ([`Error::OutOfMemory`]); the cache is as before then.
    pub fn append(&mut self, sequences: &[Sequence], key: &Tensor, value: &Tensor) -> Result<()> {
        let new = self.pages.expect_rows(OP, key, value, sequences.len())?;
        if new == 0 || sequences.is_empty() {
            return Ok(());
        }
        let needed = self.pages_for(sequences, new)?;
        if needed > self.free.len() {
            let bytes = |pages: usize| (pages * self.pages.bytes()) as u64;
            let (requested, limit) = (bytes(needed), bytes(self.pages.count));
            return Err(Error::OutOfMemory { op: OP, requested, in_use: limit - bytes(self.free.len()), limit });
        }
        for &sequence in sequences {
            self.own_open_page(sequence)?;
        }
        for &sequence in sequences {
            self.extend(sequence, new)?;
        }
        let written = self.places(sequences, new).and_then(|at| append(OP, &mut self.pages, key, value, &at));
        if written.is_err() {
            for &sequence in sequences {
                let length = self.length(sequence)? - new;
                self.truncate(sequence, length)?;
            }
        }
        written
    }

    /// Forgets all but the first `length` tokens of a sequence: rejected guesses.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn truncate(&mut self, sequence: Sequence, length: usize) -> Result<()> {
        let size = self.pages.size;
        let held = self.sequences.get_mut(&sequence).ok_or_else(|| unknown(sequence))?;
        held.length = held.length.min(length);
        let surplus = held.pages.split_off(held.length.div_ceil(size));
        surplus.into_iter().for_each(|page| self.release(page));
        Ok(())
    }

    /// Where these sequences lie, `added` tokens of each being new.
    pub(crate) fn places(&self, sequences: &[Sequence], added: usize) -> Result<Places> {
        let held = sequences.iter().map(|&sequence| self.of(sequence)).collect::<Result<Vec<_>>>()?;
        let most = held.iter().map(|held| held.pages.len()).max().unwrap_or_default();
        // A width that seldom changes, so that its memory is used again.
        let width = most.next_power_of_two();
        let mut table = vec![0; sequences.len() * width];
        for (row, held) in table.chunks_exact_mut(width).zip(&held) {
            row[..held.pages.len()].copy_from_slice(&held.pages);
        }
        let lengths = held.iter().map(|held| held.length).collect();
        Places::new(lengths, vec![added; sequences.len()], table, self.pages.device())
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    fn insert(&mut self, held: Held) -> Sequence {
        let sequence = Sequence(self.next);
        self.next += 1;
        self.sequences.insert(sequence, held);
        sequence
    }

    fn of(&self, sequence: Sequence) -> Result<&Held> {
        self.sequences.get(&sequence).ok_or_else(|| unknown(sequence))
    }

    fn release(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }

    /// The last page of a sequence if it is not full.
    fn open_page(&self, held: &Held) -> Option<u32> {
        held.pages.last().copied().filter(|_| !held.length.is_multiple_of(self.pages.size))
    }

    /// Free pages that it takes to append `new` tokens to each of some sequences.
    fn pages_for(&self, sequences: &[Sequence], new: usize) -> Result<usize> {
        let mut named = std::collections::BTreeSet::new();
        let mut open = BTreeMap::new();
        let mut needed = 0;
        for &sequence in sequences {
            if !named.insert(sequence) {
                return Err(Error::argument(OP, format!("{sequence:?} is named twice")));
            }
            let held = self.of(sequence)?;
            needed += (held.length + new).div_ceil(self.pages.size) - held.pages.len();
            if let Some(page) = self.open_page(held) {
                *open.entry(page).or_insert(0) += 1;
            }
        }
        // Of those that share an open page and go on, all but the last holder take a copy.
        let copies = open.into_iter().map(|(page, users): (u32, u32)| users.min(self.holders[page as usize] - 1));
        Ok(needed + copies.sum::<u32>() as usize)
    }

    /// Makes the last page of a sequence its own if something is to be written there.
    fn own_open_page(&mut self, sequence: Sequence) -> Result<()> {
        let Some(page) = self.open_page(self.of(sequence)?).filter(|&page| self.holders[page as usize] > 1) else {
            return Ok(());
        };
        let own = self.take()?;
        if let Err(error) = self.pages.copy(page as usize, own as usize) {
            self.release(own);
            return Err(error);
        }
        self.release(page);
        if let Some(last) = self.sequences.get_mut(&sequence).and_then(|held| held.pages.last_mut()) {
            *last = own;
        }
        Ok(())
    }

    /// Gives a sequence pages for `new` more tokens.
    fn extend(&mut self, sequence: Sequence, new: usize) -> Result<()> {
        let mut held = self.of(sequence)?.clone();
        held.length += new;
        while held.pages.len() * self.pages.size < held.length {
            held.pages.push(self.take()?);
        }
        self.sequences.insert(sequence, held);
        Ok(())
    }

    fn take(&mut self) -> Result<u32> {
        let page = self.free.pop().ok_or_else(|| Error::argument(OP, "no page is free"))?;
        self.holders[page as usize] = 1;
        Ok(page)
    }
}

fn unknown(sequence: Sequence) -> Error {
    Error::argument(OP, format!("there is no {sequence:?}"))
}
