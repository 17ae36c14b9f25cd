//! From terms to the words that kernels read.

use super::words::{BAND, BITS, BLOCK, CODE, INTERVALS, KEY_LENGTHS, KEYS, QUERY_LENGTHS, SEGMENTS, TERM, Words};
use super::{Mask, Pairs, Term};
use crate::cpu::parallel::fill_rows;
use crate::device::Kind;
use crate::kernels::attention::pack_bits;
use crate::ops::join::PadMode;
use crate::snippet::VisibleCode;
use crate::sparse::KeyIndex;
use crate::{DType, Device, Error, Result, Tensor};

/// A mask made ready for one attention.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    pairs: Pairs,
    device: Device,
    /// u32 on the device.
    pub words: Tensor,
}

impl Mask {
    /// The words of the mask on a device; None if every query sees every key. The terms must fit.
    pub(crate) fn lowered(&self, op: &'static str, pairs: Pairs, device: &Device) -> Result<Option<Tensor>> {
        if self.is_all() {
            return Ok(None);
        }
        let sizeless = self.terms.iter().all(Term::is_sizeless);
        let fits = |lowered: &&Lowered| (sizeless || lowered.pairs == pairs) && lowered.device.same(device);
        if let Some(lowered) = self.lowered.get().filter(fits) {
            return Ok(Some(lowered.words.clone()));
        }
        let words = lower(op, &self.terms, None, pairs, device)?;
        // A mask that meets other sizes, or another device, is prepared each time.
        let _ = self.lowered.set(Lowered { pairs, device: device.clone(), words: words.clone() });
        Ok(Some(words))
    }

    /// The words of the mask behind the lists of an index: its first term, with the places of the lists filled in at these words of it. The
    /// terms must fit.
    pub(crate) fn with_lists(
        &self,
        op: &'static str,
        header: [u32; TERM],
        lists: &[(usize, Tensor)],
        pairs: Pairs,
        device: &Device,
    ) -> Result<Tensor> {
        lower(op, &self.terms, Some((header, lists)), pairs, device)
    }
}

impl Term {
    /// The first of its words.
    pub(super) fn kind(&self) -> u32 {
        match self {
            Term::KeyLengths(_) => KEY_LENGTHS,
            Term::QueryLengths(_) => QUERY_LENGTHS,
            Term::Band { .. } => BAND,
            Term::Segments { .. } => SEGMENTS,
            Term::Intervals { .. } => INTERVALS,
            Term::Bits { .. } => BITS,
            Term::Code { .. } => CODE,
            Term::Keys(_) => KEYS,
        }
    }

    /// Whether its words do not depend on how many queries and keys there are: so one mask serves a growing cache.
    fn is_sizeless(&self) -> bool {
        matches!(self, Term::Band { .. } | Term::KeyLengths(_) | Term::QueryLengths(_))
    }
}

/// The words of a CPU tensor made by [`Mask::lowered`].
pub(crate) fn words<'a>(
    op: &'static str,
    words: Option<&'a Tensor>,
    code: Option<&'a VisibleCode>,
    pairs: Pairs,
) -> Result<Words<'a>> {
    let words = words.map_or(Ok(&[][..]), |words| words.cpu_slice::<u32>(op))?;
    Ok(Words { words, visible: code.map(|code| code.on_cpu(op)).transpose()?, pairs, shift: 0 })
}

/// The list under construction: what the host knows, and then tensors of the device, whose places are known before they are.
struct List {
    words: Vec<u32>,
    late: Vec<Tensor>,
    end: usize,
}

/// Whether the words of the term can be made on a GPU that has its numbers, so that nobody waits for them. There, time never is
/// negative.
fn on_device(term: &Term, device: &Device) -> bool {
    let Term::Intervals { low, high, times: None, shift } = term else { return false };
    device.is_gpu() && *shift >= 0 && (low.device().same(device) || high.device().same(device))
}

fn lower(
    op: &'static str,
    terms: &[Term],
    index: Option<([u32; TERM], &[(usize, Tensor)])>,
    pairs: Pairs,
    device: &Device,
) -> Result<Tensor> {
    let count = terms.len() + usize::from(index.is_some());
    let mut list = List { words: vec![0; 1 + TERM * count], late: Vec::new(), end: 0 };
    list.words[0] = count as u32;
    // What may come from the device is late. A function of the user last: it may cost most.
    let late = |term: &Term| matches!(term, Term::Bits { .. } | Term::Keys(_)) || on_device(term, device);
    let mut order: Vec<&Term> = terms.iter().collect();
    order.sort_by_key(|term| (matches!(term, Term::Code { .. }), late(term)));
    let first = usize::from(index.is_some());
    for (place, term) in order.into_iter().enumerate() {
        if late(term) && list.late.is_empty() {
            list.end = list.words.len();
        }
        let numbers = list.add(op, term, pairs, device)?;
        if list.words.len().max(list.end) > 1 << 30 {
            return Err(Error::shape(op, format!("a mask of {} words is too large", list.end)));
        }
        list.words[1 + TERM * (first + place)..][..TERM].copy_from_slice(&numbers);
    }
    if let Some((mut header, lists)) = index {
        list.end = list.end.max(list.words.len());
        for (word, tensor) in lists {
            header[*word] = list.end as u32;
            list.end += tensor.elements();
            list.late.push(tensor.clone());
        }
        if list.end > 1 << 30 {
            return Err(Error::shape(op, format!("a mask and lists of {} words are too large", list.end)));
        }
        list.words[1..][..TERM].copy_from_slice(&header);
    }
    let length = list.words.len();
    let known = Tensor::from_vec(list.words, &[length], device)?;
    let parts: Vec<&Tensor> = std::iter::once(&known).chain(&list.late).collect();
    if parts.len() == 1 { Ok(known) } else { Tensor::concat(&parts, 0) }
}

impl List {
    /// Appends rows of numbers, each with its summary behind it; returns their place and the stride by row, 0 for one row.
    fn rows(&mut self, values: &[u32], length: usize, summary: impl Fn(&[u32]) -> Vec<u32>) -> [u32; 2] {
        let place = self.words.len();
        let mut stride = 0;
        for row in values.chunks_exact(length.max(1)) {
            let start = self.words.len();
            self.words.extend_from_slice(row);
            self.words.extend(summary(row));
            stride = self.words.len() - start;
        }
        [place as u32, if values.len() > length { stride as u32 } else { 0 }]
    }

    fn lengths(&mut self, lengths: &[usize]) -> [u32; 2] {
        let values: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
        self.rows(&values, 1, |_| Vec::new())
    }

    fn add(&mut self, op: &'static str, term: &Term, pairs: Pairs, device: &Device) -> Result<[u32; TERM]> {
        let Pairs { queries, keys, .. } = pairs;
        let word = |n: i64| n as i32 as u32;
        Ok(match term {
            Term::KeyLengths(lengths) => {
                let [place, stride] = self.lengths(lengths);
                [KEY_LENGTHS, place, stride, 0, 0, 0, 0, 0]
            }
            Term::QueryLengths(lengths) => {
                let [place, stride] = self.lengths(lengths);
                [QUERY_LENGTHS, place, stride, 0, 0, 0, 0, 0]
            }
            Term::Band { low, high, first, rows } => {
                let [place, stride] = if first.is_empty() { [0, 0] } else { self.lengths(first) };
                [BAND, word(*low), word(*high), place, stride, word(*rows), 0, 0]
            }
            Term::Segments { queries: of_queries, keys: of_keys } => {
                let extremes = |row: &[u32]| summarise(row, |block| extremes(block.iter().copied()).to_vec());
                let [q, q_stride] = self.rows(&of_queries.to_vec::<u32>()?, queries, extremes);
                let [k, k_stride] = self.rows(&of_keys.to_vec::<u32>()?, keys, extremes);
                [SEGMENTS, q, q_stride, k, k_stride, 0, 0, 0]
            }
            Term::Intervals { low, high, shift, .. } if on_device(term, device) => {
                self.device_intervals(low, high, *shift, pairs, device)?
            }
            Term::Intervals { low, high, times, shift } => self.intervals(low, high, times.as_ref(), *shift, pairs)?,
            Term::Keys(index) => self.keys(index, device)?,
            Term::Code { shift, .. } => [CODE, word(*shift), 0, 0, 0, 0, 0, 0],
            Term::Bits { seen, rows, columns } => self.bits(op, seen, pairs, [*rows, *columns], device)?,
        })
    }

    fn intervals(
        &mut self,
        low: &Tensor,
        high: &Tensor,
        times: Option<&Tensor>,
        shift: i64,
        pairs: Pairs,
    ) -> Result<[u32; TERM]> {
        let Pairs { queries, keys, .. } = pairs;
        let (batch, heads) = (low.shape()[0].max(high.shape()[0]), low.shape()[1].max(high.shape()[1]));
        let (starts, ends) = (low.to_vec::<i32>()?, high.to_vec::<i32>()?);
        let mut values = Vec::with_capacity(2 * batch * heads * keys);
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let row = |x: &Tensor| (b % x.shape()[0] * x.shape()[1] + h % x.shape()[1]) * keys;
            let (start, end) = (&starts[row(low)..][..keys], &ends[row(high)..][..keys]);
            values.extend(start.iter().zip(end).flat_map(|(&start, &end)| [start as u32, end as u32]));
        }
        let signed = |values: &mut dyn Iterator<Item = u32>| extremes(values.map(|v| v as i32)).map(|v| v as u32);
        let [place, stride] = self.rows(&values, 2 * keys, |row| {
            let pairs = row.chunks(2 * BLOCK);
            pairs
                .flat_map(|block| {
                    let part = |lane: usize| signed(&mut block.iter().copied().skip(lane).step_by(2));
                    [part(0), part(1)].into_iter().flatten()
                })
                .collect()
        });
        let [batch_stride, head_stride] = strides(batch, heads, stride);
        let [times, last] = match times {
            None => [0, shift.clamp(-super::FAR, super::FAR) as i32 as u32],
            Some(times) => {
                let values: Vec<u32> = times.to_vec::<i32>()?.into_iter().map(|t| t as u32).collect();
                let summary = |row: &[u32]| summarise(row, |block| signed(&mut block.iter().copied()).to_vec());
                self.rows(&values, queries, summary)
            }
        };
        Ok([INTERVALS, place, batch_stride, head_stride, times, last, 0, 0])
    }

    /// The same rows of pairs and summaries, made on the device.
    fn device_intervals(
        &mut self,
        low: &Tensor,
        high: &Tensor,
        shift: i64,
        Pairs { keys, .. }: Pairs,
        device: &Device,
    ) -> Result<[u32; TERM]> {
        let (batch, heads) = (low.shape()[0].max(high.shape()[0]), low.shape()[1].max(high.shape()[1]));
        let of = |x: &Tensor| x.to_device(device)?.expand(&[batch, heads, keys]);
        let ends = [of(low)?, of(high)?];
        let blocks = keys.div_ceil(BLOCK);
        let missing = (blocks * BLOCK - keys) as isize;
        let mut extremes = Vec::with_capacity(4);
        for x in &ends {
            // The last block is filled up by its last key.
            let whole = x.pad(&[(0, 0), (0, 0), (0, missing)], PadMode::Replicate)?;
            let whole = whole.reshape(&[batch, heads, blocks, BLOCK].map(|n| n as isize))?;
            extremes.extend([whole.min(&[-1], false)?, whole.max(&[-1], false)?]);
        }
        let rows = |parts: &[&Tensor]| Tensor::stack(parts, -1)?.flatten(2, 3);
        let summaries: Vec<&Tensor> = extremes.iter().collect();
        let words = Tensor::concat(&[&rows(&[&ends[0], &ends[1]])?, &rows(&summaries)?], -1)?.cast(DType::U32)?;
        let place = self.end as u32;
        self.end += words.elements();
        let stride = (words.elements() / (batch * heads).max(1)) as u32;
        self.late.push(words.flatten(0, -1)?);
        let [batch_stride, head_stride] = strides(batch, heads, if batch * heads > 1 { stride } else { 0 });
        Ok([INTERVALS, place, batch_stride, head_stride, 0, shift.min(super::FAR) as u32, 0, 0])
    }

    /// Lists of keys, which may come from the device.
    fn keys(&mut self, index: &KeyIndex, device: &Device) -> Result<[u32; TERM]> {
        let &[batch, heads, _, k] = index.sizes();
        let lists = index.lists().to_device(device)?.reshape(&[-1])?;
        let place = self.end as u32;
        self.end += lists.elements();
        self.late.push(lists);
        Ok([KEYS, place, k as u32, batch as u32, heads as u32, 0, 0, 0])
    }

    /// Bits of a bool tensor, a matrix of blocks of `rows` queries and `columns` keys for each batch element and head that has its own.
    fn bits(
        &mut self,
        op: &'static str,
        seen: &Tensor,
        pairs: Pairs,
        [rows, columns]: [usize; 2],
        device: &Device,
    ) -> Result<[u32; TERM]> {
        let mut seen = seen.to_device(device)?;
        while seen.rank() < 4 {
            seen = seen.unsqueeze(0)?;
        }
        let &[batch, heads, height, _] = seen.shape() else {
            return Err(Error::shape(op, format!("mask of shape {:?}", seen.shape())));
        };
        let width = pairs.keys.div_ceil(columns);
        let seen = seen.expand(&[batch, heads, height, width])?.contiguous()?;
        let words = width.div_ceil(32);
        let matrix = (height + height.div_ceil(BLOCK)) * words;
        let packed = match device.kind() {
            Kind::Cpu(_) => {
                let values = seen.cpu_slice::<bool>(op)?;
                let packed = fill_rows(batch * heads, matrix, |m, out: &mut [u32]| {
                    pack(&values[m * height * width..][..height * width], width, out);
                });
                Tensor::from_vec(packed, &[batch * heads * matrix], device)?
            }
            Kind::Gpu(_) => pack_bits(op, &seen, batch * heads, height, width)?,
        };
        let stride = |size: usize, stride: usize| if size == 1 { 0 } else { stride as u32 };
        let place = self.end as u32;
        self.end += packed.elements();
        self.late.push(packed);
        let strides = [stride(batch, heads * matrix), stride(heads, matrix), stride(height, words)];
        let block = |n: usize| n.min(1 << 30) as u32;
        Ok([BITS, place, strides[0], strides[1], strides[2], block(rows), block(columns), 0])
    }
}

/// Strides by batch element and by head of rows that lie end to end.
fn strides(batch: usize, heads: usize, stride: u32) -> [u32; 2] {
    match (batch, heads) {
        (1, 1) => [0, 0],
        (1, _) => [0, stride],
        (_, 1) => [stride, 0],
        _ => [stride * heads as u32, stride],
    }
}

/// One matrix of bits and its summary.
fn pack(seen: &[bool], width: usize, out: &mut [u32]) {
    let (words, height) = (width.div_ceil(32), seen.len() / width.max(1));
    let (bits, classes) = out.split_at_mut(height * words);
    for (row, bits) in seen.chunks_exact(width.max(1)).zip(bits.chunks_exact_mut(words)) {
        for (word, seen) in bits.iter_mut().zip(row.chunks(32)) {
            *word = seen.iter().enumerate().fold(0, |word, (bit, &seen)| word | u32::from(seen) << bit);
        }
    }
    for (block, classes) in bits.chunks(BLOCK * words).zip(classes.chunks_exact_mut(words)) {
        for (column, class) in classes.iter_mut().enumerate() {
            let whole = u32::MAX >> (32 - (width - 32 * column).min(32));
            let of_block = || block.iter().skip(column).step_by(words);
            let (none, all) = (of_block().all(|&w| w == 0), of_block().all(|&w| w == whole));
            *class = if none { 0 } else { 1 + u32::from(all) };
        }
    }
}

/// Summaries of the blocks of a row.
fn summarise(row: &[u32], f: impl Fn(&[u32]) -> Vec<u32>) -> Vec<u32> {
    row.chunks(BLOCK).flat_map(f).collect()
}

/// The least and the largest of some numbers.
fn extremes<T: Copy + Ord + Default>(values: impl Iterator<Item = T>) -> [T; 2] {
    let mut all = None;
    for v in values {
        all = Some(all.map_or([v, v], |[least, most]: [T; 2]| [least.min(v), most.max(v)]));
    }
    all.unwrap_or_default()
}
