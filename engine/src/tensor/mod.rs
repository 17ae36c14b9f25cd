//! The tensor: a cheap handle on a strided view of a buffer, with its place in the autograd graph.

mod attention;
mod binary;
mod conv;
mod create;
mod display;
mod fft;
mod host;
mod index;
mod join;
mod linear_attention;
mod matmul;
mod norm;
mod operators;
mod prune;
mod quantize;
mod random;
mod reduce;
mod resample;
mod scan;
mod softmax;
mod sort;
mod sparse24;
mod unary;
mod view;

use std::sync::Arc;

use crate::autograd::GradRef;
use crate::device::gpu::{GpuBuffer, Operand};
use crate::layout::{Dims, Layout};
use crate::storage::{CpuBuffer, Element, Storage};
use crate::{DType, Device, Error, Result, profile};

/// A tensor of runtime shape (up to 8 dimensions) and runtime dtype on a device. Cloning shares the data.
///
/// Operations never change a tensor; they return new ones, and views share the buffer of what they view.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    storage: Storage,
    layout: Layout,
    dtype: DType,
    device: Device,
    grad: Option<GradRef>,
}

impl Tensor {
    pub(crate) fn from_parts(storage: Storage, layout: Layout, dtype: DType, device: &Device) -> Self {
        Tensor(Arc::new(Inner { storage, layout, dtype, device: device.clone(), grad: None }))
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.0.layout.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.layout.rank()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.layout.elements()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Size of one dimension; negative counts from the end.
    ///
    /// # Errors
    /// If there is no such dimension.
    pub fn size(&self, dim: isize) -> Result<usize> {
        Ok(self.shape()[self.dim("size", dim)?])
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Whether gradients flow to or through this tensor.
    pub fn is_tracked(&self) -> bool {
        self.0.grad.is_some()
    }

    /// The same data as a new leaf of the autograd graph: gradients of a loss can be looked up by it.
    ///
    /// Only float tensors can be differentiated; others come back untracked.
    #[must_use]
    pub fn requires_grad(&self) -> Tensor {
        self.with_grad(self.dtype().is_float().then(GradRef::leaf))
    }

    /// The same data without gradient history.
    #[must_use]
    pub fn detach(&self) -> Tensor {
        match self.0.grad {
            None => self.clone(),
            Some(_) => self.with_grad(None),
        }
    }

    pub(crate) fn with_grad(&self, grad: Option<GradRef>) -> Tensor {
        Tensor(Arc::new(Inner { grad, ..(*self.0).clone() }))
    }

    pub(crate) fn with_layout(&self, layout: Layout) -> Tensor {
        Tensor(Arc::new(Inner { layout, grad: None, ..(*self.0).clone() }))
    }

    pub(crate) fn grad_ref(&self) -> Option<&GradRef> {
        self.0.grad.as_ref()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(crate) fn dims(&self) -> Dims {
        self.0.layout.shape
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Resolves a dimension that may count from the end.
    pub(crate) fn dim(&self, op: &'static str, dim: isize) -> Result<usize> {
        self.0.layout.dim(op, dim)
    }

    /// Resolves several dimensions; an empty list means all. Doubles are refused. Sorted ascending.
    pub(crate) fn dims_of(&self, op: &'static str, dims: &[isize]) -> Result<Vec<usize>> {
        if dims.is_empty() {
            return Ok((0..self.rank()).collect());
        }
        let mut out: Vec<usize> = dims.iter().map(|&d| self.dim(op, d)).collect::<Result<_>>()?;
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::argument(op, format!("dimensions {dims:?} name one twice")));
        }
        Ok(out)
    }

    pub(crate) fn expect_float(&self, op: &'static str) -> Result<()> {
        match self.dtype().is_float() {
            true => Ok(()),
            false => Err(Error::DType { op, got: self.dtype(), expected: "a float dtype" }),
        }
    }

    /// Errs unless it holds indices: u32 or i32.
    pub(crate) fn expect_int(&self, op: &'static str) -> Result<()> {
        match self.dtype().is_int() {
            true => Ok(()),
            false => Err(Error::DType { op, got: self.dtype(), expected: "u32 or i32" }),
        }
    }

    pub(crate) fn expect_dtype(&self, op: &'static str, dtype: DType, expected: &'static str) -> Result<()> {
        match self.dtype() == dtype {
            true => Ok(()),
            false => Err(Error::DType { op, got: self.dtype(), expected }),
        }
    }

    /// Errs unless both are on the same device and of the same dtype.
    pub(crate) fn expect_like(&self, op: &'static str, other: &Tensor) -> Result<()> {
        self.expect_same_device(op, other)?;
        match self.dtype() == other.dtype() {
            true => Ok(()),
            false => {
                Err(Error::DType { op, got: other.dtype(), expected: "the dtype of the other operand (use cast)" })
            }
        }
    }

    pub(crate) fn expect_same_device(&self, op: &'static str, other: &Tensor) -> Result<()> {
        if self.device().same(other.device()) {
            return Ok(());
        }
        Err(Error::DeviceMismatch { op, left: self.device().to_string(), right: other.device().to_string() })
    }

    /// The GPU buffer of a tensor on a GPU; kernels get the element offset from the layout.
    pub(crate) fn gpu_buffer(&self, op: &'static str) -> Result<Operand<'_>> {
        Ok(Operand::new(self.gpu_storage(op)?, self.dtype().gpu_bytes(self.layout().distinct())))
    }

    /// The buffer itself of a tensor on a GPU, whatever the tensor shows of it.
    pub(crate) fn gpu_storage(&self, op: &'static str) -> Result<&Arc<GpuBuffer>> {
        match &self.0.storage {
            Storage::Gpu(buffer) => Ok(buffer),
            Storage::Cpu(_) => Err(Error::argument(op, "a CPU tensor reached a GPU kernel")),
        }
    }

    pub(crate) fn cpu_buffer(&self, op: &'static str) -> Result<&CpuBuffer> {
        match &self.0.storage {
            Storage::Cpu(buffer) => Ok(buffer),
            Storage::Gpu(_) => Err(Error::argument(op, "a GPU tensor reached a CPU kernel")),
        }
    }

    /// The whole buffer of a CPU tensor, whatever its layout.
    pub(crate) fn cpu_all<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        profile::touched(op, (self.layout().distinct() * self.dtype().size()) as u64);
        T::slice(&self.cpu_buffer(op)?.data).ok_or(Error::DType {
            op,
            got: self.dtype(),
            expected: "the dtype of the kernel",
        })
    }

    /// The elements of a contiguous CPU tensor.
    pub(crate) fn cpu_slice<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        if !self.is_contiguous() {
            return Err(Error::shape(op, "a strided view reached a kernel for contiguous tensors"));
        }
        let start = self.layout().offset;
        let all = self.cpu_all::<T>(op)?;
        all.get(start..start + self.elements()).ok_or_else(|| Error::shape(op, "a view beyond the end of its buffer"))
    }

    /// A contiguous CPU tensor of `values`, which must be as many as the shape says.
    pub(crate) fn from_cpu<T: Element>(
        op: &'static str,
        values: Vec<T>,
        shape: Dims,
        device: &Device,
    ) -> Result<Tensor> {
        if values.len() != shape.elements() {
            return Err(Error::shape(op, format!("{} values for shape {shape:?}", values.len())));
        }
        let buffer = device.cpu_buffer(op, T::wrap(values))?;
        Ok(Tensor::from_parts(Storage::Cpu(buffer), Layout::row_major(shape), T::DTYPE, device))
    }

    /// An uninitialised contiguous GPU tensor for a kernel to fill.
    pub(crate) fn gpu_uninit(op: &'static str, shape: Dims, dtype: DType, device: &Device) -> Result<Tensor> {
        let gpu = device.gpu_ref().ok_or_else(|| Error::argument(op, "a GPU kernel asked for on a CPU device"))?;
        device.expect_dtype(op, dtype)?;
        let buffer = gpu.alloc(op, dtype.gpu_bytes(shape.elements()))?;
        Ok(Tensor::from_parts(Storage::Gpu(buffer), Layout::row_major(shape), dtype, device))
    }
}
