//! A flat buffer that is changed in place when nobody else looks at it: under the parameters of a group, or the pages of a cache.

use std::sync::Arc;

use crate::cpu::by_dtype;
use crate::device::gpu::GpuBuffer;
use crate::layout::{Dims, Layout};
use crate::storage::{Element, Storage};
use crate::{DType, Device, Error, Result, Tensor};

const OP: &str = "Plane";

pub(crate) struct Plane {
    storage: Storage,
    length: usize,
    dtype: DType,
    device: Device,
}

impl Plane {
    pub fn zeros(length: usize, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self::of(&Tensor::zeros(&[length], dtype, device)?))
    }

    /// The buffer of a dense flat tensor.
    pub fn of(flat: &Tensor) -> Self {
        let storage = flat.storage().clone();
        Plane { storage, length: flat.elements(), dtype: flat.dtype(), device: flat.device().clone() }
    }

    /// The whole buffer as a tensor.
    pub fn whole(&self) -> Result<Tensor> {
        Ok(self.view(0, Dims::new(OP, &[self.length])?))
    }

    pub fn view(&self, offset: usize, shape: Dims) -> Tensor {
        let layout = Layout { offset, ..Layout::row_major(shape) };
        Tensor::from_parts(self.storage.clone(), layout, self.dtype, &self.device)
    }

    /// Whether a tensor is the view of this buffer at `offset`.
    pub fn holds(&self, tensor: &Tensor, offset: usize) -> bool {
        let same = match (&self.storage, tensor.storage()) {
            (Storage::Cpu(a), Storage::Cpu(b)) => Arc::ptr_eq(a, b),
            (Storage::Gpu(a), Storage::Gpu(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && *tensor.layout() == Layout { offset, ..Layout::row_major(tensor.dims()) }
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// A tensor's elements, dense and of the dtype of this buffer.
    pub fn like(&self, tensor: &Tensor) -> Result<Tensor> {
        let tensor = tensor.detach();
        let tensor = if tensor.dtype() == self.dtype { tensor } else { tensor.cast(self.dtype)? };
        tensor.contiguous()
    }

    /// Makes sure that no tensor outside sees what is written next: takes a copy if there is one.
    pub fn make_exclusive(&mut self) -> Result<()> {
        let exclusive = match &mut self.storage {
            Storage::Cpu(buffer) => Arc::get_mut(buffer).is_some(),
            Storage::Gpu(buffer) => Arc::get_mut(buffer).is_some(),
        };
        if !exclusive {
            *self = Self::of(&self.whole()?.copy()?);
        }
        Ok(())
    }

    /// Writes a tensor's elements at `offset`.
    pub fn write(&mut self, offset: usize, tensor: &Tensor) -> Result<()> {
        let tensor = self.like(tensor)?;
        self.make_exclusive()?;
        match self.dtype {
            DType::F64 => copy::<f64>(self.cpu_mut()?, offset, &tensor),
            _ if self.device.is_gpu() => {
                let gpu = self.device.gpu_ref().ok_or_else(elsewhere)?;
                let (from, n) = (tensor.layout().offset as u64, tensor.elements() as u64);
                let source = tensor.gpu_buffer(OP)?;
                gpu.copy(&source, 4 * from, self.gpu()?, 4 * offset as u64, 4 * n)
            }
            _ => copy::<f32>(self.cpu_mut()?, offset, &tensor),
        }
    }

    /// The elements, for a change in place; [`Plane::make_exclusive`] must have come before.
    pub fn cpu_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let Storage::Cpu(buffer) = &mut self.storage else { return Err(elsewhere()) };
        let shared = || Error::argument(OP, "a buffer to be changed in place is shared");
        let data = &mut Arc::get_mut(buffer).ok_or_else(shared)?.data;
        let wrong = Error::DType { op: OP, got: self.dtype, expected: "the dtype of the kernel" };
        T::slice_mut(data).ok_or(wrong)
    }

    /// The elements, for reading.
    pub fn cpu<T: Element>(&self) -> Result<&[T]> {
        let Storage::Cpu(buffer) = &self.storage else { return Err(elsewhere()) };
        T::slice(&buffer.data).ok_or(Error::DType { op: OP, got: self.dtype, expected: "the dtype of the kernel" })
    }

    /// Copies `count` elements within the buffer, from one place to another that does not overlap. The byte offsets are multiples of 4;
    /// [`Plane::make_exclusive`] must have come before.
    pub fn copy_within(&mut self, from: usize, to: usize, count: usize) -> Result<()> {
        let dtype = self.dtype;
        if let Storage::Gpu(buffer) = &self.storage {
            let gpu = self.device.gpu_ref().ok_or_else(elsewhere)?;
            let [from, to, bytes] = [from, to, count].map(|n| dtype.gpu_bytes(n));
            // Through a buffer between: a copy has two.
            let between = gpu.alloc(OP, bytes)?;
            gpu.copy(buffer, from, &between, 0, bytes)?;
            return gpu.copy(&between, 0, buffer, to, bytes);
        }
        by_dtype!(dtype, T => {
            let data = self.cpu_mut::<T>()?;
            let fits = from.max(to).checked_add(count).is_some_and(|end| end <= data.len());
            if !fits {
                return Err(Error::argument(OP, "elements beyond the end of a buffer"));
            }
            data.copy_within(from..from + count, to);
            Ok(())
        })
    }

    pub fn gpu(&self) -> Result<&Arc<GpuBuffer>> {
        match &self.storage {
            Storage::Gpu(buffer) => Ok(buffer),
            Storage::Cpu(_) => Err(elsewhere()),
        }
    }
}

fn elsewhere() -> Error {
    Error::argument(OP, "a buffer is on another device than the kernel")
}

fn copy<T: Element>(to: &mut [T], offset: usize, from: &Tensor) -> Result<()> {
    let from = from.cpu_slice::<T>(OP)?;
    let place = to.get_mut(offset..offset + from.len());
    place.ok_or_else(|| Error::argument(OP, "elements beyond the end of a buffer"))?.copy_from_slice(from);
    Ok(())
}
