//! Products with packed matrices. The work is in [`crate::ops::sparse24`] and [`crate::ops::sparse_rows`].

use crate::ops::{sparse_rows, sparse24};
use crate::{Epilogue, Result, Sparse24, SparseRows, Tensor};

impl Tensor {
    /// `self W^T + bias` over the last dimension with a packed 2:4 matrix: `[.., columns]` with `W` `[rows, columns]` and `bias`
    /// `[rows]` gives `[.., rows]`. Gradients flow to the input, to the values of `W`, and to the bias; those of the values are
    /// what the gradient of the dense matrix has at their positions.
    ///
    /// Few rows of input are multiplied by the packed matrix itself, which is less to read. With more of them the matrix is expanded for the
    /// length of one product; so it is in the backward to the input, unless the matrix [has its transpose](Sparse24::with_transpose) beside
    /// it.
    ///
    /// # Errors
    /// If the shapes do not fit, the dtypes differ or are no floats, or the devices differ.
    pub fn linear_sparse24(&self, weight: &Sparse24, bias: Option<&Tensor>) -> Result<Tensor> {
        sparse24::linear(self, weight, bias)
    }

    /// [`linear_sparse24`](Self::linear_sparse24) and what follows it: `activation(scale self W^T + bias) + residual`, with
    /// `residual` of the shape of the result, as [`linear_then`](Self::linear_then).
    ///
    /// # Errors
    /// As [`linear_sparse24`](Self::linear_sparse24), and if the residual does not have the shape of the result.
    pub fn linear_sparse24_then(&self, weight: &Sparse24, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
        sparse24::linear_then(self, weight, bias, then)
    }

    /// `self W^T + bias` over the last dimension with a matrix that lists few weights a row: `[.., columns]` with `W` `[rows,
    /// columns]` and `bias` `[rows]` gives `[.., rows]`. For inference: it has no backward.
    ///
    /// # Errors
    /// If the shapes do not fit, the dtypes differ or are no floats, the devices differ, or a tensor is larger than what a kernel
    /// of the device sees.
    pub fn linear_sparse_rows(&self, weight: &SparseRows, bias: Option<&Tensor>) -> Result<Tensor> {
        sparse_rows::linear(self, weight, bias)
    }

    /// [`linear_sparse_rows`](Self::linear_sparse_rows) and what follows it: `activation(scale self W^T + bias) + residual`, with
    /// `residual` of the shape of the result, as [`linear_then`](Self::linear_then).
    ///
    /// # Errors
    /// As [`linear_sparse_rows`](Self::linear_sparse_rows), and if the residual does not fit the result.
    pub fn linear_sparse_rows_then(
        &self,
        weight: &SparseRows,
        bias: Option<&Tensor>,
        then: &Epilogue,
    ) -> Result<Tensor> {
        sparse_rows::linear_then(self, weight, bias, then)
    }
}
