//! Parameters whose value is a packed matrix in place of a dense tensor.

use std::sync::PoisonError;

use super::Param;
use crate::autograd::tracks;
use crate::{Epilogue, Error, Result, Sparse24, SparseRows, Tensor};

/// A value that is no dense tensor.
#[derive(Clone)]
pub(super) enum Packed {
    /// 2:4: the positions, with values that are nothing, and the parameter that holds the values.
    Fours(Sparse24, Param),
    /// 2:4 with the transpose beside it, which would not move with the values.
    Both(Sparse24),
    /// Listed by rows.
    Rows(SparseRows),
}

impl Param {
    /// Replaces the value by a packed matrix of [this shape](Self::matrix_shape), and gives the memory of the dense one back. Linear layers
    /// then multiply by the packed matrix; whoever else asks for the value gets it expanded, without gradient. What is trained of it are
    /// the [packed values](Self::packed_values), while the positions stay; of a matrix that has
    /// [its transpose](Sparse24::with_transpose) beside it, nothing.
    ///
    /// # Errors
    /// If shape, dtype or device differ from the parameter's, or memory is exhausted.
    pub fn set_packed(&self, packed: &Sparse24) -> Result<()> {
        let op = "Param::set_packed";
        self.expect_matrix(op, [packed.rows(), packed.cols()])?;
        self.expect_kind(op, packed.dtype(), packed.device())?;
        if packed.transposed().is_some() {
            return self.replace(Packed::Both(packed.detach()));
        }
        let hollow = packed.with_hollow_values()?;
        // An optimizer that knows the parameter of the values goes on with it.
        if let Some(old) = self.packed_values().filter(|old| old.shape() == packed.values().shape()) {
            old.set(packed.values())?;
            return self.replace(Packed::Fours(hollow, old));
        }
        self.replace(Packed::Fours(hollow, Param::new(packed.values())?))
    }

    /// Replaces the value by a matrix of [this shape](Self::matrix_shape) that is listed by rows, likewise. Nothing of it is trained.
    ///
    /// # Errors
    /// As [`set_packed`](Self::set_packed).
    pub fn set_sparse_rows(&self, rows: &SparseRows) -> Result<()> {
        let op = "Param::set_sparse_rows";
        self.expect_matrix(op, [rows.rows(), rows.cols()])?;
        self.expect_kind(op, rows.dtype(), rows.device())?;
        self.replace(Packed::Rows(rows.clone()))
    }

    /// The packed value, if there is one and nothing is [shown](Self::show) in its place. Gradients flow to its values if the parameter is
    /// trainable.
    pub fn packed(&self) -> Option<Sparse24> {
        if self.shows() { None } else { self.stored_packed() }
    }

    /// The value listed by rows, if it is so and nothing is [shown](Self::show) in its place.
    pub fn sparse_rows(&self) -> Option<SparseRows> {
        match self.form() {
            Some(Packed::Rows(rows)) if !self.shows() => Some(rows),
            _ => None,
        }
    }

    /// The parameter that holds the values of a packed value, which an optimizer trains in place of this one.
    pub fn packed_values(&self) -> Option<Param> {
        match self.form() {
            Some(Packed::Fours(_, values)) => Some(values),
            _ => None,
        }
    }

    /// Whether the value is packed or listed, whatever is shown in its place.
    pub fn is_packed(&self) -> bool {
        self.form().is_some()
    }

    /// `x` times the transposed matrix of [this shape](Self::matrix_shape), and what follows, in whatever form the value is: see
    /// [`Tensor::linear_then`]. A matrix that is listed by rows is expanded where gradients are wanted.
    ///
    /// # Errors
    /// If the shapes do not fit, or dtypes or devices differ.
    pub fn apply(&self, x: &Tensor, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
        if let Some(packed) = self.packed() {
            return x.linear_sparse24_then(&packed, bias, then);
        }
        let inputs: Vec<&Tensor> = [Some(x), bias, then.residual.as_ref()].into_iter().flatten().collect();
        match self.sparse_rows() {
            Some(rows) if !tracks(&inputs) => x.linear_sparse_rows_then(&rows, bias, then),
            _ => x.linear_then(&self.as_matrix(&self.tensor())?, bias, then),
        }
    }

    /// What a file holds of the value, under these names: a dense tensor, or the parts of a packed one.
    pub(crate) fn to_tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        if let Some(packed) = self.stored_packed() {
            return packed.to_tensors(name).to_vec();
        }
        match self.form() {
            Some(Packed::Rows(rows)) => rows.to_tensors(name).to_vec(),
            _ => vec![(name.to_string(), self.leaf().detach())],
        }
    }

    /// The packed value as a dense one.
    pub(super) fn expanded(&self) -> Option<Result<Tensor>> {
        let dense = match self.form()? {
            Packed::Rows(rows) => rows.to_dense(),
            _ => self.stored_packed()?.to_dense(),
        };
        Some(dense.and_then(|dense| Ok(self.of_matrix(&dense)?.detach())))
    }

    /// The packed value, whatever is shown in its place.
    fn stored_packed(&self) -> Option<Sparse24> {
        match self.form()? {
            Packed::Both(packed) => Some(packed),
            Packed::Fours(hollow, values) => {
                let leaf = values.leaf();
                // Without memory for a copy of values that are not dense, what remains is NaN, which nobody takes for a weight.
                hollow.with_values(&if self.is_trainable() { leaf } else { leaf.detach() }).ok()
            }
            Packed::Rows(_) => None,
        }
    }

    fn form(&self) -> Option<Packed> {
        self.0.packed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, packed: Packed) -> Result<()> {
        let nothing = Tensor::full(f64::NAN, &[], self.dtype(), self.device())?.expand(self.shape())?;
        // In this order nobody sees nothing.
        *self.0.packed.write().unwrap_or_else(PoisonError::into_inner) = Some(packed);
        *self.lock() = nothing;
        Ok(())
    }

    fn expect_matrix(&self, op: &'static str, given: [usize; 2]) -> Result<()> {
        let own = self.matrix_shape();
        if given == own && self.shape().len() >= 2 {
            return Ok(());
        }
        let shape = self.shape();
        let message = format!("a packed matrix {given:?} for a parameter of shape {shape:?}, as a matrix {own:?}");
        Err(Error::shape(op, message))
    }
}
