//! Reading tensors back, and moving them between devices.

use crate::layout::Layout;
use crate::storage::{CpuData, Element, Storage};
use crate::{DType, Device, Error, Result, Tensor};

impl Tensor {
    /// The elements in row-major order. Waits for the device. In a browser use [`Tensor::to_vec_async`].
    ///
    /// # Errors
    /// If `T` is not the tensor's dtype, or the device failed since the last wait.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let dense = self.readable::<T>()?;
        match dense.storage() {
            Storage::Cpu(_) => Ok(dense.cpu_slice::<T>("to_vec")?.to_vec()),
            Storage::Gpu(buffer) => {
                let (start, bytes, skip) = dense.byte_range();
                match dense.device().gpu_ref() {
                    Some(gpu) => Ok(dense.unpack(&gpu.read("to_vec", buffer, start, bytes)?, skip)),
                    None => Err(Error::argument("to_vec", "a GPU buffer on a CPU device")),
                }
            }
        }
    }

    /// As [`Tensor::to_vec`], without blocking the thread: the only way in a browser.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub async fn to_vec_async<T: Element>(&self) -> Result<Vec<T>> {
        let dense = self.readable::<T>()?;
        match dense.storage() {
            Storage::Cpu(_) => Ok(dense.cpu_slice::<T>("to_vec")?.to_vec()),
            Storage::Gpu(buffer) => {
                let (start, bytes, skip) = dense.byte_range();
                match dense.device().gpu_ref() {
                    Some(gpu) => Ok(dense.unpack(&gpu.read_async("to_vec", buffer, start, bytes).await?, skip)),
                    None => Err(Error::argument("to_vec", "a GPU buffer on a CPU device")),
                }
            }
        }
    }

    /// The only element of a tensor with one element, as f64 whatever the dtype.
    ///
    /// # Errors
    /// If it does not have exactly one element, or as [`Tensor::to_vec`].
    pub fn item(&self) -> Result<f64> {
        if self.elements() != 1 {
            return Err(Error::shape("item", format!("needs exactly one element, got shape {:?}", self.shape())));
        }
        Ok(self.to_f64_vec()?[0])
    }

    /// The elements in row-major order, converted to f64 whatever the dtype.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        Ok(match self.dtype() {
            DType::F32 => self.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
            DType::F16 => self.to_vec::<half::f16>()?.into_iter().map(f64::from).collect(),
            DType::BF16 => self.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect(),
            DType::F64 => self.to_vec::<f64>()?,
            DType::I32 => self.to_vec::<i32>()?.into_iter().map(f64::from).collect(),
            DType::U32 => self.to_vec::<u32>()?.into_iter().map(f64::from).collect(),
            DType::Bool => self.to_vec::<bool>()?.into_iter().map(f64::from).collect(),
        })
    }

    /// A copy on another device, without gradient history; this very tensor if it is there already.
    ///
    /// # Errors
    /// If the device cannot hold it, or as [`Tensor::to_vec`].
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if self.device().same(device) {
            return Ok(self.detach());
        }
        let shape = self.shape();
        match self.dtype() {
            DType::F32 => Tensor::from_vec(self.to_vec::<f32>()?, shape, device),
            DType::F16 => Tensor::from_vec(self.to_vec::<half::f16>()?, shape, device),
            DType::BF16 => Tensor::from_vec(self.to_vec::<half::bf16>()?, shape, device),
            DType::F64 => Tensor::from_vec(self.to_vec::<f64>()?, shape, device),
            DType::I32 => Tensor::from_vec(self.to_vec::<i32>()?, shape, device),
            DType::U32 => Tensor::from_vec(self.to_vec::<u32>()?, shape, device),
            DType::Bool => Tensor::from_vec(self.to_vec::<bool>()?, shape, device),
        }
    }

    fn readable<T: Element>(&self) -> Result<Tensor> {
        if T::DTYPE != self.dtype() {
            return Err(Error::DType { op: "to_vec", got: self.dtype(), expected: "the dtype of the host type" });
        }
        self.detach().contiguous()
    }

    /// Start and length in bytes of the words that hold a contiguous GPU tensor, and the elements to skip in them.
    fn byte_range(&self) -> (u64, u64, usize) {
        let Layout { offset, .. } = *self.layout();
        let lane = if self.dtype().is_half() { offset % 2 } else { 0 };
        let start = self.dtype().gpu_bytes(offset - lane);
        (start, self.dtype().gpu_bytes(self.elements() + lane), lane)
    }

    fn unpack<T: Element>(&self, bytes: &[u8], skip: usize) -> Vec<T> {
        let mut values = T::from_gpu(bytes, skip + self.elements());
        values.drain(..skip);
        values
    }

    /// Adds nothing and copies everything: a tensor with a buffer of its own.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn copy(&self) -> Result<Tensor> {
        crate::ops::elementwise::copy("copy", self)
    }

    /// The host data of a CPU tensor's buffer.
    pub(crate) fn cpu_data(&self, op: &'static str) -> Result<&CpuData> {
        Ok(&self.cpu_buffer(op)?.data)
    }
}
