//! Matrices of which few weights are kept, at any places.

use crate::io::Weights;
use crate::ops::sparse_rows as ops;
use crate::{DType, Device, Error, Result, Tensor};

/// A matrix `[rows, columns]` that keeps weights at any places, listed by rows (CSR), for inference where at least four of five
/// weights are 0. It takes six or eight bytes a kept weight, in halves or f32.
///
/// ```
/// use wgrad::{Device, SparseRows, Tensor};
/// # fn main() -> wgrad::Result<()> {
/// let weight = Tensor::from_slice(&[0.0f32, 0.0, 5.0, 0.0, 0.0, 0.0, 2.0, 0.0, 3.0], &[3, 3], &Device::cpu())?;
/// let sparse = SparseRows::from_dense(&weight)?;
/// let x = Tensor::from_slice(&[1.0f32, 10.0, 100.0], &[1, 3], &Device::cpu())?;
/// assert_eq!(x.linear_sparse_rows(&sparse, None)?.to_vec::<f32>()?, [500.0, 0.0, 302.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SparseRows {
    columns: usize,
    starts: Tensor,
    places: Tensor,
    values: Tensor,
}

impl SparseRows {
    /// The largest part of kept weights with which products on the CPU device are faster than those with the dense matrix.
    pub const FAST: f64 = 0.2;

    /// The weights of a matrix that are not 0. Waits for the device.
    ///
    /// # Errors
    /// If it is not a matrix of floats, or has more columns or weights than 32 bits count.
    pub fn from_dense(dense: &Tensor) -> Result<Self> {
        let op = "SparseRows::from_dense";
        dense.expect_float(op)?;
        let &[rows, columns] = dense.shape() else {
            return Err(Error::shape(op, format!("a matrix of shape {:?}, expected [rows, columns]", dense.shape())));
        };
        let device = dense.device();
        let kept = dense.detach().ne(&Tensor::scalar(0.0, dense.dtype(), device)?)?.to_vec::<bool>()?;
        let all =
            u32::try_from(kept.len()).map_err(|_| Error::shape(op, format!("{} elements are too many", kept.len())))?;
        let flat: Vec<u32> = (0..all).filter(|&i| kept[i as usize]).collect();
        let starts = (0..=rows).map(|row| flat.partition_point(|&i| (i as usize) < row * columns) as u32).collect();
        let places: Vec<u32> = flat.iter().map(|&i| i % columns.max(1) as u32).collect();
        let count = flat.len();
        let values = match count {
            0 => Tensor::zeros(&[0], dense.dtype(), device)?,
            _ => dense.detach().reshape(&[-1])?.index_select(0, &Tensor::from_vec(flat, &[count], device)?)?,
        };
        let (starts, places) =
            (Tensor::from_vec(starts, &[rows + 1], device)?, Tensor::from_vec(places, &[count], device)?);
        Ok(SparseRows { columns, starts, places, values })
    }

    /// From its parts: `starts`, u32 `[rows + 1]`, says where the weights of each row begin among `values` `[count]`, and where the
    /// last row ends; `places`, u32 `[count]`, are their columns, ascending within each row. Waits for the device, to check them.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or the lists are not so.
    pub fn from_parts(starts: &Tensor, places: &Tensor, values: &Tensor, columns: usize) -> Result<Self> {
        let op = "SparseRows::from_parts";
        values.expect_float(op)?;
        for (name, lists) in [("starts", starts), ("places", places)] {
            lists.expect_dtype(op, DType::U32, "u32 lists")?;
            lists.expect_same_device(op, values)?;
            if lists.rank() != 1 || lists.elements() == 0 && name == "starts" {
                return Err(Error::shape(op, format!("{name} of shape {:?}, expected one dimension", lists.shape())));
            }
        }
        if values.shape() != places.shape() {
            let (values, places) = (values.shape(), places.shape());
            return Err(Error::shape(op, format!("values of shape {values:?} at places of shape {places:?}")));
        }
        let dense = |x: &Tensor| x.detach().contiguous();
        let made = SparseRows { columns, starts: dense(starts)?, places: dense(places)?, values: dense(values)? };
        made.check(op)?;
        Ok(made)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.elements() - 1
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.columns
    }

    /// Where each row begins among the values, and where the last ends.
    pub fn starts(&self) -> &Tensor {
        &self.starts
    }

    /// The columns of the values.
    pub fn places(&self) -> &Tensor {
        &self.places
    }

    /// The kept weights.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Element type of the values.
    pub fn dtype(&self) -> DType {
        self.values.dtype()
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        self.values.device()
    }

    /// The part of the weights that is kept; 0 of a matrix without elements.
    pub fn density(&self) -> f64 {
        let all = self.rows() * self.columns;
        if all == 0 { 0.0 } else { self.values.elements() as f64 / all as f64 }
    }

    /// Bytes of values and lists.
    pub fn bytes(&self) -> usize {
        let bytes = |x: &Tensor| x.elements() * x.dtype().size();
        bytes(&self.values) + bytes(&self.places) + bytes(&self.starts)
    }

    /// Whether products with it are faster than those with the dense matrix, by what was measured (`wgrad-bench run sparse_rows`): on the
    /// CPU device where a fifth of the weights or less are kept; not on GPUs, where what it saves is memory.
    pub fn is_fast(&self) -> bool {
        ops::is_fast(self.device(), self.density())
    }

    /// The tensors of a file that stand for the matrix `name`: for [`io::save`](crate::io::save).
    pub fn to_tensors(&self, name: &str) -> [(String, Tensor); 3] {
        let [starts, places, values] = Self::names(name);
        [(starts, self.starts.clone()), (places, self.places.clone()), (values, self.values.detach())]
    }

    /// The names of these tensors.
    pub fn names(name: &str) -> [String; 3] {
        ["starts", "places", "values"].map(|part| format!("{name}.{part}"))
    }

    /// Whether a file lists the matrix `name` so.
    pub fn is_in(weights: &Weights, name: &str) -> bool {
        Self::names(name).iter().all(|name| weights.contains(name))
    }

    /// Reads the matrix `name`, of a known shape, with values of `dtype`.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or the lists are not those of such a matrix: names file and matrix.
    pub fn load(weights: &Weights, name: &str, shape: [usize; 2], dtype: DType, device: &Device) -> Result<Self> {
        let [rows, columns] = shape;
        let [of_starts, of_places, of_values] = Self::names(name);
        let found = weights.shape(&of_starts)?;
        if found != [rows + 1] {
            let message = format!("tensor `{of_starts}` has shape {found:?}, expected {:?}", [rows + 1]);
            return Err(Error::file(weights.path(), message));
        }
        let (starts, places) = (weights.tensor(&of_starts, device)?, weights.tensor(&of_places, device)?);
        let values = weights.tensor_like(&of_values, places.shape(), dtype, device)?;
        Self::from_parts(&starts, &places, &values, columns)
            .map_err(|why| Error::file(weights.path(), format!("listed matrix `{name}`: {why}")))
    }

    /// The dense matrix. Waits for the device.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn to_dense(&self) -> Result<Tensor> {
        ops::to_dense(self)
    }

    /// Checks that the rows' lists follow each other and that their columns ascend and are within the matrix. Waits for the device.
    ///
    /// # Errors
    /// If not: names the row.
    pub fn validate(&self) -> Result<()> {
        self.check("SparseRows::validate")
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let (starts, places) = (self.starts.to_vec::<u32>()?, self.places.to_vec::<u32>()?);
        let count = places.len();
        if starts.first() != Some(&0) || starts.last().map(|&end| end as usize) != Some(count) {
            return Err(Error::argument(
                op,
                format!("starts go from {:?} to {:?}, expected 0 to {count}", starts.first(), starts.last()),
            ));
        }
        for (row, ends) in starts.windows(2).enumerate() {
            let list = places.get(ends[0] as usize..ends[1] as usize);
            let list =
                list.ok_or_else(|| Error::argument(op, format!("row {row} goes from {} to {}", ends[0], ends[1])))?;
            let ascends = list.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || list.last().is_some_and(|&last| last as usize >= self.columns) {
                let message = format!("the columns of row {row} do not ascend below {}", self.columns);
                return Err(Error::argument(op, message));
            }
        }
        Ok(())
    }
}
