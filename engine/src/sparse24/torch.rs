//! PyTorch's layout of 2:4 matrices: `torch.sparse.SparseSemiStructuredTensor` of its CUTLASS backend.
//!
//! There a 16-bit word holds the nibbles of four groups, and the words of 32 rows are permuted as the hardware wants them: a row
//! `r` of 32 goes to `4 (r mod 8) + r / 8`; of each 2 x 2 words then the upper right and the lower left change places; and columns are
//! stored in pairs, one pair of all rows after the other.

use super::{BLOCK, Sparse24};
use crate::{Error, Result, Tensor};

/// Columns that a word covers.
const WORD: usize = 16;
/// Rows that are permuted among each other.
const ROWS: usize = 32;

/// Where the word of a row and a column of words is among `rows` rows of them.
fn place(rows: usize, row: usize, column: usize) -> usize {
    let turned = row / ROWS * ROWS + row % 8 * 4 + row % ROWS / 8;
    let (turned, column) = match (turned % 2, column % 2) {
        (0, 1) => (turned + 1, column - 1),
        (1, 0) => (turned - 1, column + 1),
        _ => (turned, column),
    };
    column / 2 * 2 * rows + 2 * turned + column % 2
}

fn check(op: &'static str, dtype: crate::DType, rows: usize, columns: usize) -> Result<()> {
    if !dtype.is_half() {
        return Err(Error::DType { op, got: dtype, expected: "f16 or bf16, of which PyTorch keeps two of four" });
    }
    if !rows.is_multiple_of(ROWS) || !columns.is_multiple_of(BLOCK) {
        let message =
            format!("a matrix of {rows} rows and {columns} columns, expected multiples of 32, as PyTorch has them");
        return Err(Error::shape(op, message));
    }
    Ok(())
}

impl Sparse24 {
    /// From the parts of PyTorch's tensor: `values` is its `packed` `[rows, columns / 2]`, f16 or bf16, and `meta` the int16 words
    /// of its `meta` `[rows, columns / 16]` in row-major order.
    ///
    /// # Errors
    /// If rows or columns are no multiples of 32, there are more or fewer words than these need, the dtype is another, or positions
    /// are none.
    pub fn from_pytorch(values: &Tensor, meta: &[i16]) -> Result<Self> {
        let op = "Sparse24::from_pytorch";
        let &[rows, half] = values.shape() else {
            let message = format!("values of shape {:?}, expected [rows, columns / 2]", values.shape());
            return Err(Error::shape(op, message));
        };
        let columns = 2 * half;
        check(op, values.dtype(), rows, columns)?;
        if meta.len() != rows * columns / WORD {
            let message = format!("{} words of positions, expected {}", meta.len(), rows * columns / WORD);
            return Err(Error::shape(op, message));
        }
        let blocks = columns / BLOCK;
        let half = |row: usize, column: usize| u32::from(meta[place(rows, row, column)].cast_unsigned());
        let word = |at: usize| {
            let (row, block) = (at / blocks, at % blocks);
            half(row, 2 * block) | half(row, 2 * block + 1) << 16
        };
        let words: Vec<u32> = (0..rows * blocks).map(word).collect();
        Self::from_parts(values, &Tensor::from_vec(words, &[rows, blocks], values.device())?, columns)
    }

    /// The parts of PyTorch's tensor, as [`from_pytorch`](Self::from_pytorch) takes them. Waits for the device.
    ///
    /// # Errors
    /// If rows or columns are no multiples of 32, or the values are not f16 or bf16.
    pub fn to_pytorch(&self) -> Result<(Tensor, Vec<i16>)> {
        let op = "Sparse24::to_pytorch";
        let (rows, blocks) = (self.rows(), self.meta.shape()[1]);
        check(op, self.dtype(), rows, self.columns)?;
        let mut meta = vec![0; rows * 2 * blocks];
        for (at, word) in self.meta.to_vec::<u32>()?.into_iter().enumerate() {
            let (row, column) = (at / blocks, 2 * (at % blocks));
            meta[place(rows, row, column)] = (word as u16).cast_signed();
            meta[place(rows, row, column + 1)] = ((word >> 16) as u16).cast_signed();
        }
        Ok((self.values.detach(), meta))
    }
}
