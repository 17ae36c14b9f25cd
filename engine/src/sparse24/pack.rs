//! Packing dense matrices.

use super::{BLOCK, Sparse24};
use crate::cpu::parallel::collect;
use crate::ops::elementwise::where_cond;
use crate::ops::sparse24 as ops;
use crate::{DType, Error, Result, Tensor};

/// The nibble of each set of kept columns of a group, a bit each; 0 where they are more than two.
const NIBBLES: [u8; 16] = nibbles();

const fn nibbles() -> [u8; 16] {
    let mut all = [0; 16];
    let mut kept: usize = 0;
    while kept < 16 {
        if kept.count_ones() <= 2 {
            // The lowest free columns fill up.
            let mut filled = kept;
            while filled.count_ones() < 2 {
                filled |= filled + 1;
            }
            let (low, high) = (filled.trailing_zeros(), filled.ilog2());
            all[kept] = (low | high << 2) as u8;
        }
        kept += 1;
    }
    all
}

impl Sparse24 {
    /// Packs a matrix `[rows, columns]` of which no group of four has more than two weights that are not 0. Waits for the device.
    /// The gradient of the values flows to the matrix.
    ///
    /// # Errors
    /// If a group has more: names its row and columns. If it is not a matrix of floats.
    pub fn from_dense(dense: &Tensor) -> Result<Self> {
        let op = "Sparse24::from_dense";
        dense.expect_float(op)?;
        let zero = Tensor::scalar(0.0, dense.dtype(), dense.device())?;
        pack(op, dense, &dense.detach().ne(&zero)?)
    }

    /// Packs the weights of a matrix `[rows, columns]` where a mask is true, as [`Tensor::n_of_m_mask`] makes them. Where a group keeps
    /// fewer than two, zeros are added. Waits for the device. The gradient of the values flows to the matrix.
    ///
    /// # Errors
    /// If a group keeps more than two: names its row and columns. If shapes or devices differ, the mask is not of truth values, or
    /// the matrix not one of floats.
    pub fn from_mask(weight: &Tensor, mask: &Tensor) -> Result<Self> {
        pack("Sparse24::from_mask", weight, mask)
    }

    /// Packs the two weights of the largest magnitude of each four; of equal ones that of the smaller column.
    ///
    /// # Errors
    /// If it is not a matrix of floats.
    pub fn magnitude(weight: &Tensor) -> Result<Self> {
        let op = "Sparse24::magnitude";
        weight.expect_float(op)?;
        by_scores(op, weight, &weight.detach().abs()?)
    }

    /// Packs the two weights of the largest score of each four, of equal ones that of the smaller column. Scores are of the matrix's shape:
    /// Wanda's, or those that were learned.
    ///
    /// # Errors
    /// If they are not two matrices of floats of one shape and device.
    pub fn from_scores(weight: &Tensor, scores: &Tensor) -> Result<Self> {
        let op = "Sparse24::from_scores";
        weight.expect_float(op)?;
        scores.expect_float(op)?;
        by_scores(op, weight, &scores.detach())
    }
}

fn by_scores(op: &'static str, weight: &Tensor, scores: &Tensor) -> Result<Sparse24> {
    if weight.rank() != 2 {
        return Err(Error::shape(op, format!("a weight of shape {:?}, expected [rows, columns]", weight.shape())));
    }
    if scores.shape() != weight.shape() {
        let message = format!("scores of shape {:?} for a weight of {:?}", scores.shape(), weight.shape());
        return Err(Error::shape(op, message));
    }
    pack(op, weight, &scores.n_of_m_mask(2, 4)?)
}

pub(super) fn pack(op: &'static str, weight: &Tensor, mask: &Tensor) -> Result<Sparse24> {
    weight.expect_float(op)?;
    mask.expect_dtype(op, DType::Bool, "a bool mask, true where a weight is kept")?;
    weight.expect_same_device(op, mask)?;
    let &[rows, columns] = weight.shape() else {
        return Err(Error::shape(op, format!("a weight of shape {:?}, expected [rows, columns]", weight.shape())));
    };
    if mask.shape() != weight.shape() {
        let message = format!("a mask of shape {:?} for a weight of {:?}", mask.shape(), weight.shape());
        return Err(Error::shape(op, message));
    }
    let meta = Tensor::from_vec(
        words(op, &mask.to_vec()?, rows, columns)?,
        &[rows, columns.div_ceil(BLOCK)],
        weight.device(),
    )?;
    // What fills up groups is 0, whatever the weight is there.
    let kept = where_cond(op, mask, weight, &Tensor::scalar(0.0, weight.dtype(), weight.device())?)?;
    let values = ops::gather(op, &kept, &meta)?;
    Ok(Sparse24 { columns, values, meta, transposed: None })
}

/// The words of positions of a mask.
fn words(op: &'static str, mask: &[bool], rows: usize, columns: usize) -> Result<Vec<u32>> {
    let blocks = columns.div_ceil(BLOCK);
    let word = |place: usize| {
        let (row, first) = (place / blocks, place % blocks * BLOCK);
        let kept = &mask[row * columns..][..columns][first..columns.min(first + BLOCK)];
        (0..BLOCK / 4).try_fold(0, |word, group| {
            let of_group = kept.iter().skip(4 * group).take(4).enumerate();
            let set = of_group.fold(0, |set, (column, &kept)| set | usize::from(kept) << column);
            match NIBBLES[set] {
                0 => Err((row, first + 4 * group, set.count_ones())),
                nibble => Ok(word | u32::from(nibble) << (4 * group)),
            }
        })
    };
    let words = collect(rows * blocks, BLOCK, &word).into_iter().collect::<std::result::Result<_, _>>();
    words.map_err(|(row, column, count)| {
        let last = columns.min(column + 4) - 1;
        let message = format!("row {row} keeps {count} of columns {column} to {last}, expected at most 2 of 4");
        Error::argument(op, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_of_all_sets() {
        let full = [(0b0011, 0x4), (0b0101, 0x8), (0b1001, 0xc), (0b0110, 0x9), (0b1010, 0xd), (0b1100, 0xe)];
        assert!(full.iter().all(|&(set, nibble)| NIBBLES[set] == nibble));
        assert_eq!([0b0000, 0b0001, 0b0010, 0b0100, 0b1000].map(|set: usize| NIBBLES[set]), [0x4, 0x4, 0x4, 0x8, 0xc]);
        assert_eq!([0b0111, 0b1011, 0b1101, 0b1110, 0b1111].map(|set: usize| NIBBLES[set]), [0; 5]);
    }
}
