//! Making tensors.

use crate::layout::Layout;
use crate::ops::elementwise;
use crate::storage::{Element, Storage};
use crate::{DType, Device, Error, Result, Tensor};

impl Tensor {
    /// A tensor of host values in row-major order.
    ///
    /// # Errors
    /// If the number of values is not the product of the shape, or the device cannot hold the dtype or the size.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize], device: &Device) -> Result<Tensor> {
        Self::from_vec(values.to_vec(), shape, device)
    }

    /// As [`Tensor::from_slice`], without a copy on the CPU device.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_vec<T: Element>(values: Vec<T>, shape: &[usize], device: &Device) -> Result<Tensor> {
        let op = "from_vec";
        let layout = Layout::contiguous(op, shape)?;
        if values.len() != layout.elements() {
            let (have, want) = (values.len(), layout.elements());
            return Err(Error::shape(op, format!("{have} values for shape {shape:?}, which holds {want}")));
        }
        device.expect_dtype(op, T::DTYPE)?;
        match device.gpu_ref() {
            None => Tensor::from_cpu(op, values, layout.shape, device),
            Some(gpu) => {
                let buffer = gpu.upload(op, &T::to_gpu(&values))?;
                Ok(Tensor::from_parts(Storage::Gpu(buffer), layout, T::DTYPE, device))
            }
        }
    }

    /// A tensor with one element and no dimensions.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn scalar(value: f64, dtype: DType, device: &Device) -> Result<Tensor> {
        Self::full(value, &[], dtype, device)
    }

    /// A tensor filled with one value, converted to the dtype.
    ///
    /// # Errors
    /// If the device cannot hold the dtype or the size.
    pub fn full(value: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        elementwise::full("full", value, Layout::contiguous("full", shape)?.shape, dtype, device)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        Self::full(0.0, shape, dtype, device)
    }

    /// A tensor of ones.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn ones(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        Self::full(1.0, shape, dtype, device)
    }

    /// Zeros of the shape, dtype and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros_like(&self) -> Result<Tensor> {
        Self::full(0.0, self.shape(), self.dtype(), self.device())
    }

    /// Ones of the shape, dtype and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn ones_like(&self) -> Result<Tensor> {
        Self::full(1.0, self.shape(), self.dtype(), self.device())
    }

    /// `start, start + 1, ...` up to but without `end`, one dimension.
    ///
    /// # Errors
    /// If `end < start`, or the device cannot hold the dtype or the size.
    pub fn arange(start: i64, end: i64, dtype: DType, device: &Device) -> Result<Tensor> {
        if end < start {
            return Err(Error::argument("arange", format!("start {start} is beyond end {end}")));
        }
        elementwise::arange("arange", start, (end - start) as usize, dtype, device)
    }
}
