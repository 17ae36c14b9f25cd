//! Reductions. The work is in [`crate::ops::reduce`].
//!
//! `dims` may count from the end; an empty list means all dimensions. Reduced dimensions disappear, or stay with size 1
//! under `keepdim`. Sums accumulate in f32 or wider in a fixed order. What extremes and their indices are when a NaN
//! takes part is unspecified.

use crate::kernels::reduce::Fold;
use crate::ops::reduce::{self, arg, moments};
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

    /// Largest elements over dimensions. Equal ones share the gradient equally.
    ///
    /// # Errors
    /// For bool tensors, if a dimension is out of range or given twice, or there is nothing to choose from.
    pub fn max(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::extreme("max", Fold::Max, self, dims, keepdim)
    }

    /// Smallest elements over dimensions. Equal ones share the gradient equally.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn min(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::extreme("min", Fold::Min, self, dims, keepdim)
    }

    /// Product over dimensions; 1 over none. The gradient is exact where factors are 0. Integers wrap around.
    ///
    /// # Errors
    /// For bool tensors, or if a dimension is out of range or given twice.
    pub fn prod(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        reduce::prod("prod", self, dims, keepdim)
    }

    /// Variance over dimensions: squared deviations from the mean, summed and divided by their number minus
    /// `correction` (0: of a population; 1: unbiased estimate from a sample).
    ///
    /// # Errors
    /// If it is not a float tensor, a dimension is out of range or given twice, or the divisor is not positive.
    pub fn var(&self, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
        moments::var("var", self, dims, correction, keepdim)
    }

    /// Standard deviation over dimensions, the root of [`Tensor::var`]. Its gradient is 0 where it is 0.
    ///
    /// # Errors
    /// As [`Tensor::var`].
    pub fn std(&self, dims: &[isize], correction: f64, keepdim: bool) -> Result<Tensor> {
        moments::std("std", self, dims, correction, keepdim)
    }

    /// `ln(sum(exp(x)))` over dimensions, without overflow. Of elements that are all -inf it is -3e38 or below.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn logsumexp(&self, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        moments::logsumexp("logsumexp", self, dims, keepdim)
    }

    /// `sum(|x|^p)^(1/p)` over dimensions; the largest `|x|` if `p` is infinite. Its gradient is 0 where it is 0.
    ///
    /// # Errors
    /// If it is not a float tensor, a dimension is out of range or given twice, or `p` is below 1.
    pub fn norm(&self, p: f64, dims: &[isize], keepdim: bool) -> Result<Tensor> {
        moments::norm("norm", self, p, dims, keepdim)
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

    /// Index (u32) of the largest element along a dimension, the first of equal ones.
    ///
    /// # Errors
    /// For bool tensors, if the dimension is out of range, or there is nothing to choose from.
    pub fn argmax(&self, dim: isize, keepdim: bool) -> Result<Tensor> {
        arg::arg("argmax", true, self, dim, keepdim)
    }

    /// Index (u32) of the smallest element along a dimension, the first of equal ones.
    ///
    /// # Errors
    /// As [`Tensor::argmax`].
    pub fn argmin(&self, dim: isize, keepdim: bool) -> Result<Tensor> {
        arg::arg("argmin", false, self, dim, keepdim)
    }

    /// Largest elements along a dimension and their indices (u32), the first of equal ones, which gets the gradient.
    ///
    /// # Errors
    /// As [`Tensor::argmax`].
    pub fn max_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        arg::extreme_dim("max_dim", true, self, dim, keepdim)
    }

    /// Smallest elements along a dimension and their indices (u32), the first of equal ones, which gets the gradient.
    ///
    /// # Errors
    /// As [`Tensor::argmax`].
    pub fn min_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor, Tensor)> {
        arg::extreme_dim("min_dim", false, self, dim, keepdim)
    }
}
