//! Reductions. The work is in [`crate::ops::reduce`].
//!
//! `dims` may count from the end; an empty list means all dimensions. Reduced dimensions disappear, or stay with size 1
//! under `keepdim`. Sums accumulate in f32 or wider in a fixed order. What extremes and their indices are when a NaN
//! takes part is unspecified.

use crate::kernels::reduce::Fold;
use crate::ops::reduce;
use crate::{Result, Tensor};

impl Tensor {
    /// Sum over dimensions; 0 over none. Integers wrap around.
    ///
    /// # Errors
    /// For bool tensors, or if a dimension is out of range or given twice.
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::sum("sum", self, dims, keepdim)
    }

    /// Sum of all elements, of rank 0.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn sum_all(&self) -> Result<Tensor> {
        reduce::sum("sum_all", self, &[], false)
    }

    /// Mean over dimensions.
    ///
    /// # Errors
    /// If it is not a float tensor, a dimension is out of range or given twice, or there is nothing to average.
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::mean("mean", self, dims, keepdim)
    }

    /// Mean of all elements, of rank 0.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn mean_all(&self) -> Result<Tensor> {
        reduce::mean("mean_all", self, &[], false)
    }

    /// Sums over the dimensions that broadcasting from `shape` to this tensor's shape would repeat: the gradient of
    /// broadcasting.
    ///
    /// # Errors
    /// If `shape` does not broadcast to this tensor's shape.
    pub fn sum_to(&self, shape: &[usize]) -> Result<Tensor> {
        reduce::sum_to(self, shape)
    }

    /// Whether any element of a bool tensor is true, over dimensions; false over none.
    ///
    /// # Errors
    /// If it is not a bool tensor, or a dimension is out of range or given twice.
    pub fn any(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::truth("any", Fold::Max, self, dims, keepdim)
    }

    /// Whether all elements of a bool tensor are true, over dimensions; true over none.
    ///
    /// # Errors
    /// As [`Tensor::any`].
    pub fn all(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::truth("all", Fold::Min, self, dims, keepdim)
    }
}
