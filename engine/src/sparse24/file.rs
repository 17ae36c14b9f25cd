//! Packed matrices in files: two tensors, `NAME.values` and `NAME.meta`, in the layout of [`Sparse24`].

use super::{BLOCK, Sparse24};
use crate::io::Weights;
use crate::{DType, Device, Error, Result, Tensor};

impl Sparse24 {
    /// The tensors of a file that stand for the matrix `name`: for [`io::save`](crate::io::save).
    pub fn to_tensors(&self, name: &str) -> [(String, Tensor); 2] {
        let [values, meta] = Self::names(name);
        [(values, self.values.detach()), (meta, self.meta.clone())]
    }

    /// The names of these tensors.
    pub fn names(name: &str) -> [String; 2] {
        [format!("{name}.values"), format!("{name}.meta")]
    }

    /// Whether a file has `name` as a packed matrix.
    pub fn is_in(weights: &Weights, name: &str) -> bool {
        Self::names(name).iter().all(|name| weights.contains(name))
    }

    /// Reads the packed matrix `name`, of a known shape, with values of `dtype`.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or positions are none: names file and matrix.
    pub fn load(weights: &Weights, name: &str, shape: [usize; 2], dtype: DType, device: &Device) -> Result<Self> {
        let [rows, columns] = shape;
        let blocks = columns.div_ceil(BLOCK);
        let [of_values, of_meta] = Self::names(name);
        let found = weights.shape(&of_meta)?;
        if found != [rows, blocks] {
            let message = format!("tensor `{of_meta}` has shape {found:?}, expected {:?}", [rows, blocks]);
            return Err(Error::file(weights.path(), message));
        }
        let meta = weights.tensor(&of_meta, device)?;
        let values = weights.tensor_like(&of_values, &[rows, blocks * BLOCK / 2], dtype, device)?;
        Self::from_parts(&values, &meta, columns)
            .map_err(|why| Error::file(weights.path(), format!("packed matrix `{name}`: {why}")))
    }
}
