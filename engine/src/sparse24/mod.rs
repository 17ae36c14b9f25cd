//! Matrices of which two of every four weights are kept, packed.

mod file;
mod pack;
mod torch;
mod transpose;

use crate::layout::Dims;
use crate::ops::sparse24 as ops;
use crate::{DType, Device, Error, Result, Tensor};

/// Columns that a word of positions covers: eight groups of four.
pub(crate) const BLOCK: usize = 32;

/// A matrix `[rows, columns]`, such as a weight `[outputs, inputs]`, that keeps two of every four weights of a row (2:4
/// sparsity; Mishra et al., "Accelerating sparse deep neural networks", 2021): 9/16 of the memory of the dense matrix in
/// halves, 17/32 in f32.
///
/// # Layout
///
/// `values` is `[rows, 16 blocks]`, f32, f16 or bf16, and `meta` `[rows, blocks]`, u32, where `blocks` is `columns / 32`,
/// rounded up. Each word of `meta` covers 32 columns: group `g` of a block, of four columns, has bits `4 g` to `4 g + 3`, the
/// lower two of which are the column of its first value within the group, and the upper two that of its second, which is the
/// larger. So a nibble is one of `0x4, 0x8, 0xC, 0x9, 0xD, 0xE`. The two values of group `g` are numbers `2 g` and `2 g + 1` of
/// the block's sixteen.
///
/// A group of which fewer than two weights are kept has its lowest free columns beside them, with values of 0. Columns past the
/// end of a row have the nibble `0x4`; whatever their values are, they count for nothing.
///
/// ```
/// use wgrad::{Device, Sparse24, Tensor};
/// # fn main() -> wgrad::Result<()> {
/// let weight = Tensor::from_slice(&[0.5f32, -2.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0], &[1, 8], &Device::cpu())?;
/// let packed = Sparse24::magnitude(&weight)?;
/// assert_eq!(packed.to_dense()?.to_vec::<f32>()?, [0.0, -2.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0]);
/// let x = Tensor::ones(&[1, 8], wgrad::DType::F32, &Device::cpu())?;
/// assert_eq!(x.linear_sparse24(&packed, None)?.to_vec::<f32>()?, [2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sparse24 {
    columns: usize,
    /// `[rows, 16 blocks]`, dense.
    values: Tensor,
    /// `[rows, blocks]`, dense.
    meta: Tensor,
    transposed: Option<Box<Sparse24>>,
}

impl Sparse24 {
    /// A packed matrix from its parts, in the layout above. Reads the positions to check them.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or a word of positions is none: names its row and group.
    pub fn from_parts(values: &Tensor, meta: &Tensor, columns: usize) -> Result<Self> {
        let op = "Sparse24::from_parts";
        let meta = meta.detach();
        let shape = shape_of_values(op, &meta, columns)?;
        let (values, meta) = (checked_values(op, values, &meta, shape)?, meta.contiguous()?);
        let packed = Sparse24 { columns, values, meta, transposed: None };
        packed.check(op)?;
        Ok(packed)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.meta.shape()[0]
    }

    /// Number of columns of the dense matrix.
    pub fn cols(&self) -> usize {
        self.columns
    }

    /// Element type of the values.
    pub fn dtype(&self) -> DType {
        self.values.dtype()
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        self.values.device()
    }

    /// Bytes of values and positions.
    pub fn bytes(&self) -> usize {
        self.values.elements() * self.dtype().size() + self.meta.elements() * DType::U32.size()
    }

    /// The values, `[rows, 16 blocks]`: gradients flow to what they were computed from.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The positions, u32 `[rows, blocks]`.
    pub fn meta(&self) -> &Tensor {
        &self.meta
    }

    /// Other values at the same positions, such as a leaf that is to be trained.
    ///
    /// # Errors
    /// If the shape is not that of [`values`](Self::values), the dtype is not a float, or the device is another.
    pub fn with_values(&self, values: &Tensor) -> Result<Self> {
        let op = "Sparse24::with_values";
        let values = checked_values(op, values, &self.meta, self.values.dims())?;
        Ok(Sparse24 { columns: self.columns, values, meta: self.meta.clone(), transposed: None })
    }

    /// The positions alone, with one number in place of all values.
    pub(crate) fn with_hollow_values(&self) -> Result<Self> {
        let nothing = Tensor::full(f64::NAN, &[], self.dtype(), self.device())?;
        let values = nothing.expand(self.values.shape())?;
        Ok(Sparse24 { columns: self.columns, values, meta: self.meta.clone(), transposed: None })
    }

    /// The same without gradient history.
    pub(crate) fn detach(&self) -> Self {
        Sparse24 { values: self.values.detach(), ..self.clone() }
    }

    /// The dense matrix `[rows, columns]`. Its gradient flows to the values.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn to_dense(&self) -> Result<Tensor> {
        ops::to_dense(self)
    }

    /// The values in another dtype.
    ///
    /// # Errors
    /// If the dtype is not a float of the device.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        self.with_values(&self.values.cast(dtype)?)
    }

    /// A copy on another device, without gradient history.
    ///
    /// # Errors
    /// As [`Tensor::to_device`].
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let (values, meta) = (self.values.to_device(device)?, self.meta.to_device(device)?);
        let transposed = self.transposed.as_ref().map(|other| Ok(Box::new(other.to_device(device)?))).transpose()?;
        Ok(Sparse24 { columns: self.columns, values, meta, transposed })
    }

    /// Checks that each group's positions are two different columns in ascending order. Waits for the device.
    ///
    /// # Errors
    /// If not: names the row, the group and the nibble.
    pub fn validate(&self) -> Result<()> {
        self.check("Sparse24::validate")
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let blocks = self.meta.shape()[1];
        for (place, word) in self.meta.to_vec::<u32>()?.into_iter().enumerate() {
            for group in 0..8 {
                let nibble = word >> (4 * group) & 15;
                if nibble & 3 >= nibble >> 2 {
                    let (row, group) = (place / blocks, 8 * (place % blocks) + group);
                    let message = format!(
                        "the positions of row {row}, group {group} are {nibble:#x}, expected 0x4, 0x8, 0xc, 0x9, 0xd or 0xe"
                    );
                    return Err(Error::argument(op, message));
                }
            }
        }
        Ok(())
    }
}

/// The shape of the values that go with positions, for a matrix of so many columns.
fn shape_of_values(op: &'static str, meta: &Tensor, columns: usize) -> Result<Dims> {
    meta.expect_dtype(op, DType::U32, "u32 words of positions")?;
    match *meta.shape() {
        [rows, blocks] if blocks == columns.div_ceil(BLOCK) => Dims::new(op, &[rows, blocks * BLOCK / 2]),
        _ => {
            let (got, blocks) = (meta.shape(), columns.div_ceil(BLOCK));
            let message = format!("positions of shape {got:?} for {columns} columns, expected [rows, {blocks}]");
            Err(Error::shape(op, message))
        }
    }
}

/// The values, dense and beginning with a whole four, as kernels read them.
fn checked_values(op: &'static str, values: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
    values.expect_float(op)?;
    values.expect_same_device(op, meta)?;
    if values.dims() != shape {
        return Err(Error::shape(op, format!("values of shape {:?}, expected {shape:?}", values.shape())));
    }
    if values.is_contiguous() && values.layout().offset.is_multiple_of(4) { Ok(values.clone()) } else { values.copy() }
}
