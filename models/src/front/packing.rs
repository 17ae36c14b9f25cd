//! Sequences of unequal lengths side by side in rows, so that no time goes into padding.

use wgrad::{Device, Tensor};

use super::embeddings::TextInput;
use crate::{Error, Result};

/// The segment of padding.
pub const PADDING: u32 = u32::MAX;

/// Where sequences lie in rows of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// Tokens of a row.
    pub length: usize,
    /// For each row its sequences, by number, one behind the other.
    pub rows: Vec<Vec<usize>>,
    lengths: Vec<usize>,
}

impl Packing {
    /// Packs sequences of these lengths into few rows: the longest first, each into the first row with room for it, which needs at most
    /// 11/9 of the fewest rows and one more (Johnson, 1973).
    ///
    /// # Errors
    /// If a sequence is longer than a row.
    pub fn first_fit(lengths: &[usize], length: usize) -> Result<Self> {
        if let Some(long) = lengths.iter().find(|&&n| n > length) {
            return Err(Error::argument("packing", format!("a sequence of {long} tokens in rows of {length}")));
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&sequence| std::cmp::Reverse(lengths[sequence]));
        let mut rows: Vec<(Vec<usize>, usize)> = Vec::new();
        for sequence in order {
            let needed = lengths[sequence];
            match rows.iter_mut().find(|(_, used)| used + needed <= length) {
                Some((row, used)) => {
                    row.push(sequence);
                    *used += needed;
                }
                None => rows.push((vec![sequence], needed)),
            }
        }
        let rows = rows.into_iter().map(|(row, _)| row).collect();
        Ok(Packing { length, rows, lengths: lengths.to_vec() })
    }

    /// For each sequence its row, and the place of its first token.
    pub fn places(&self) -> Vec<[usize; 2]> {
        let mut places = vec![[0; 2]; self.lengths.len()];
        for (row, sequences) in self.rows.iter().enumerate() {
            let mut start = 0;
            for &sequence in sequences {
                places[sequence] = [row, start];
                start += self.lengths[sequence];
            }
        }
        places
    }

    /// One value for each token of the sequences, laid out in rows; `padding` fills what is left.
    fn lay<T: Copy>(&self, padding: T, value: impl Fn(usize, usize) -> T) -> Vec<T> {
        let mut out = vec![padding; self.rows.len() * self.length];
        for (sequence, [row, start]) in self.places().into_iter().enumerate() {
            for at in 0..self.lengths[sequence] {
                out[row * self.length + start + at] = value(sequence, at);
            }
        }
        out
    }

    /// Tokens in rows, `[rows, length]`; `padding` fills what is left.
    ///
    /// # Errors
    /// If the sequences are not as long as was said, or memory is exhausted.
    pub fn ids(&self, sequences: &[Vec<u32>], padding: u32, device: &Device) -> Result<Tensor> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        if lengths != self.lengths {
            return Err(Error::argument("packing", "other sequences than those that were packed"));
        }
        let ids = self.lay(padding, |sequence, at| sequences[sequence][at]);
        Ok(Tensor::from_vec(ids, &[self.rows.len(), self.length], device)?)
    }

    /// The number of each token's sequence, for [`wgrad::Mask::segments`]: `[rows, length]` on the CPU device.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn segments(&self) -> Result<Tensor> {
        let segments = self.lay(PADDING, |sequence, _| sequence as u32);
        Ok(Tensor::from_vec(segments, &[self.rows.len(), self.length], &Device::cpu())?)
    }

    /// The position of each token in its own sequence, where the first one's is `first`: `[rows, length]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn positions(&self, first: usize, device: &Device) -> Result<Tensor> {
        let positions = self.lay(0, |_, at| (first + at) as i32);
        Ok(Tensor::from_vec(positions, &[self.rows.len(), self.length], device)?)
    }

    /// What belongs to each sequence of `x [rows, length, ..]`: `[its length, ..]`.
    ///
    /// # Errors
    /// If `x` has other rows.
    pub fn unpack(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let part = |(sequence, [row, start]): (usize, [usize; 2])| {
            Ok(x.select(0, row)?.narrow(0, start, self.lengths[sequence])?)
        };
        self.places().into_iter().enumerate().map(part).collect()
    }
}

/// Texts in packed rows, as a model reads them.
pub struct Packed {
    /// Where each text lies.
    pub packing: Packing,
    ids: Tensor,
    segments: Tensor,
    positions: Tensor,
}

impl Packed {
    /// Texts in rows as long as the longest of them, where a text's first token has the position `first`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(texts: &[Vec<u32>], first: usize, device: &Device) -> Result<Self> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let packing = Packing::first_fit(&lengths, lengths.iter().copied().max().unwrap_or(0))?;
        Ok(Packed {
            ids: packing.ids(texts, 0, device)?,
            segments: packing.segments()?,
            positions: packing.positions(first, device)?,
            packing,
        })
    }

    /// The rows.
    pub fn input(&self) -> TextInput<'_> {
        TextInput { segments: Some(&self.segments), positions: Some(&self.positions), ..TextInput::new(&self.ids) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_its_place() {
        let lengths = [3, 9, 1, 5, 5, 2, 10, 0];
        let packing = Packing::first_fit(&lengths, 10).unwrap();
        assert_eq!(packing.rows.len(), 4);
        let sequences: Vec<Vec<u32>> = lengths
            .iter()
            .enumerate()
            .map(|(n, &length)| (0..length).map(|at| (100 * n + at) as u32).collect())
            .collect();
        let cpu = Device::cpu();
        let ids = packing.ids(&sequences, 7, &cpu).unwrap();
        for (sequence, part) in packing.unpack(&ids).unwrap().iter().enumerate() {
            assert_eq!(part.to_vec::<u32>().unwrap(), sequences[sequence]);
        }
        let segments = packing.segments().unwrap().to_vec::<u32>().unwrap();
        let positions = packing.positions(0, &cpu).unwrap().to_vec::<i32>().unwrap();
        for ((id, segment), position) in ids.to_vec::<u32>().unwrap().into_iter().zip(segments).zip(positions) {
            assert!(if segment == PADDING { id == 7 } else { id == 100 * segment + position as u32 });
        }
        assert!(Packing::first_fit(&[11], 10).is_err());
        assert!(packing.ids(&sequences[1..], 7, &cpu).is_err());
    }
}
