//! The transposed matrix of one that is 2:4 both ways, packed too: what the gradient of a product's input is computed with.

use super::pack::words;
use super::{BLOCK, Sparse24};
use crate::{Device, Error, Result, Tensor};

/// Where the weights of a matrix stand in its transpose.
#[derive(Clone, Debug)]
pub(super) struct Turned {
    /// Positions of the transpose, `[columns, row blocks]`.
    meta: Tensor,
    /// Where each of its values is among those of the matrix, u32 `[columns * 16 row blocks]`.
    places: Tensor,
}

impl Sparse24 {
    /// The same matrix with its transpose beside it (the positions of that and where its values are found: 4.25 bytes for each kept weight), for
    /// products whose gradient to the input is to read a packed matrix too. Of each 4 x 4 weights every row and every column must keep two, as
    /// [`Tensor::transposable_mask`] chooses them (Hubara et al., "Accelerated sparse neural training", 2021, arXiv 2102.08124). Waits
    /// for the device.
    ///
    /// # Errors
    /// If rows or columns are not whole fours, or a column keeps another number of four rows: names it.
    pub fn with_transpose(self) -> Result<Self> {
        let op = "Sparse24::with_transpose";
        let (rows, columns) = (self.rows(), self.cols());
        if !rows.is_multiple_of(4) || !columns.is_multiple_of(4) {
            return Err(Error::shape(op, format!("[{rows}, {columns}], expected multiples of four")));
        }
        let blocks = self.meta.shape()[1];
        // Of each weight of the transpose whether it is kept, and the place of its value.
        let mut kept = vec![false; rows * columns];
        let mut found = vec![0u32; rows * columns];
        for (place, word) in self.meta.to_vec::<u32>()?.into_iter().enumerate() {
            let (row, first) = (place / blocks, place % blocks * BLOCK);
            for value in 0..BLOCK / 2 {
                let column = first + 4 * (value / 2) + (word >> (2 * value) & 3) as usize;
                if column < columns {
                    kept[column * rows + row] = true;
                    found[column * rows + row] = (place * BLOCK / 2 + value) as u32;
                }
            }
        }
        for (at, four) in kept.chunks(4).enumerate() {
            let count = four.iter().filter(|&&kept| kept).count();
            if count != 2 {
                let (column, row) = (at * 4 / rows, at * 4 % rows);
                let message = format!("column {column} keeps {count} of rows {row} to {}, expected 2 of 4", row + 3);
                return Err(Error::argument(op, message));
            }
        }
        let turned_blocks = rows.div_ceil(BLOCK);
        // What fills up the last block of a row counts for nothing, whatever value it has.
        let mut places = vec![0; columns * turned_blocks * BLOCK / 2];
        for (column, places) in places.chunks_mut((turned_blocks * BLOCK / 2).max(1)).enumerate() {
            let of_column = column * rows..(column + 1) * rows;
            let own = found[of_column.clone()].iter().zip(&kept[of_column]).filter(|(_, kept)| **kept);
            places.iter_mut().zip(own).for_each(|(place, (&found, _))| *place = found);
        }
        let count = places.len();
        let meta = Tensor::from_vec(words(op, &kept, columns, rows)?, &[columns, turned_blocks], self.device())?;
        let places = Tensor::from_vec(places, &[count], self.device())?;
        Ok(Sparse24 { turned: Some(Turned { meta, places }), ..self })
    }

    /// The transposed matrix, packed, if [it is there](Self::with_transpose).
    pub(crate) fn transposed(&self) -> Result<Option<Sparse24>> {
        let Some(Turned { meta, places }) = &self.turned else { return Ok(None) };
        let shape = [meta.shape()[0], meta.shape()[1] * BLOCK / 2].map(|n| n as isize);
        let values = self.values.detach().reshape(&[-1])?.index_select(0, places)?.reshape(&shape)?;
        Ok(Some(Sparse24 { columns: self.rows(), values, meta: meta.clone(), turned: None }))
    }
}

impl Turned {
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Turned { meta: self.meta.to_device(device)?, places: self.places.to_device(device)? })
    }
}
