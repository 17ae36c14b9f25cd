//! Matrix products. The work is in [`crate::ops::matmul`] and [`crate::ops::einsum`].

use crate::ops::{einsum, matmul};
use crate::{Epilogue, Result, Tensor};

impl Tensor {
    /// The matrix product by numpy's rules: [.., m, k] times [.., k, n] gives [.., m, n], leading dimensions broadcast;
    /// a 1-D operand is a row on the left, a column on the right, and that dimension is dropped from the result.
    /// Transposed views are read in place. Halves are summed in f32.
    ///
    /// # Errors
    /// If an operand is not of a float dtype, dtypes or devices differ, or shapes do not fit.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        matmul::matmul(self, other)
    }

    /// `self weight^T + bias` over the last dimension: `[.., in]` with `weight` `[out, in]` and `bias` `[out]` gives `[.., out]`.
    ///
    /// # Errors
    /// If an operand is not of a float dtype, dtypes or devices differ, or shapes do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        matmul::linear(self, weight, bias, &Epilogue::default())
    }

    /// [`linear`](Self::linear) and what follows it, in one pass over the result: `activation(scale self weight^T + bias) + residual`,
    /// with `residual` of the shape of the result. The composition of operations is [`reference::linear`](crate::reference::linear).
    ///
    /// # Errors
    /// If an operand is not of a float dtype, dtypes or devices differ, or shapes do not fit.
    pub fn linear_then(&self, weight: &Tensor, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
        matmul::linear(self, weight, bias, then)
    }

    /// Einstein's summation over one or two operands, such as `"bqd,bkd->bqk"`: letters name dimensions, those that are
    /// missing from the output are summed over. Without `->` the output has the letters that occur once, in
    /// alphabetical order. A letter may stand only once in a term (no diagonals), and there is no `...`.
    ///
    /// # Errors
    /// If the equation is malformed or does not fit the operands, an operand is not of a float dtype, or dtypes or
    /// devices differ.
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
        einsum::einsum(equation, operands)
    }
}
