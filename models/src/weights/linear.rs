//! Linear layers. Checkpoints store their matrices in more than one way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use wgrad::nn::{Build, Init, Module, Param, Visitor, parts};
use wgrad::{Epilogue, Tensor};

use crate::Result;
use crate::activation::Activation;

/// How a matrix is stored. In any form it may be [packed](Param::set_packed) or [listed by rows](Param::set_sparse_rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `[outputs, inputs]`.
    #[default]
    Rows,
    /// `[inputs, outputs]`, as GPT-2's.
    Columns,
    /// `[inputs, heads, outputs / heads]`, under the layer's own name, as XLNet's.
    ColumnsByHead(usize),
    /// `[outputs, heads, inputs / heads]`, under the layer's own name.
    RowsByHead(usize),
    /// `[outputs, channels, size, size]`, the kernel of patches of an image.
    Patches(usize),
    /// The product of `[outputs, rank]` and `[rank, inputs]`.
    LowRank(usize),
}

/// What is told of each input of a layer.
type Listener = Box<dyn FnMut(&Tensor) -> Result<()> + Send>;

/// The matrix of a layer: the parameter, how it is stored, and who wants to know what it is applied to. Clones are handles on one matrix.
#[derive(Clone)]
pub struct Matrix {
    /// The parameter, in whatever form.
    pub param: Param,
    form: Form,
    listener: Arc<Mutex<Option<Listener>>>,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Matrix({:?}, {:?})", self.form, self.param.shape())
    }
}

impl Matrix {
    fn new(param: Param, form: Form) -> Self {
        if matches!(form, Form::Columns | Form::ColumnsByHead(_)) {
            param.set_columns();
        }
        Matrix { param, form, listener: Arc::default() }
    }

    /// The matrices of all linear layers of a model, under the names of their parameters; a product of two is two matrices. One that
    /// several layers share is there once.
    pub fn all(model: &(impl Module + ?Sized)) -> Vec<(String, Matrix)> {
        let mut all: Vec<(String, Matrix)> = Vec::new();
        for (name, matrix) in parts::<Matrix>(model) {
            if !all.iter().any(|(_, old)| old.param.is(&matrix.param)) {
                all.push((name, matrix));
            }
        }
        all
    }

    /// Those of the model's blocks, which are told by a number in their names: not those of embeddings and of heads.
    pub fn of_blocks(model: &(impl Module + ?Sized)) -> Vec<(String, Matrix)> {
        let numbered = |name: &str| name.split('.').any(|part| part.parse::<usize>().is_ok());
        let mut all = Self::all(model);
        all.retain(|(name, _)| numbered(name));
        all
    }

    /// The parameter's own value as `[outputs, inputs]`.
    ///
    /// # Errors
    /// Never for a matrix that was made.
    pub fn rows(&self) -> Result<Tensor> {
        Ok(self.param.as_matrix(&self.param.leaf())?)
    }

    /// What the layer sees, as `[outputs, inputs]`.
    ///
    /// # Errors
    /// Never for a matrix that was made.
    pub fn shown(&self) -> Result<Tensor> {
        Ok(self.param.as_matrix(&self.param.tensor())?)
    }

    /// Number of rows.
    pub fn outputs(&self) -> usize {
        self.param.matrix_shape()[0]
    }

    /// Number of columns.
    pub fn inputs(&self) -> usize {
        self.param.matrix_shape()[1]
    }

    /// A matrix `[outputs, inputs]` in the form of the parameter.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn stored(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(self.param.of_matrix(rows)?)
    }

    /// Tells `listener` of each input `[.., inputs]` that the matrix is applied to from now on, until another listens, or nobody. An
    /// error of the listener is one of the layer. To listen to any input within itself, it would wait for itself.
    pub fn listen(&self, listener: Option<Listener>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    /// `x` times the transposed matrix, and what follows. The listener is told of `x`.
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
        if let Some(listener) = &mut *self.listener.lock().unwrap_or_else(PoisonError::into_inner) {
            listener(x)?;
        }
        Ok(self.param.apply(x, bias, then)?)
    }
}

/// `y = x W^T + bias`: `x [.., inputs]` to `[.., outputs]`.
pub struct Linear {
    weight: Matrix,
    /// The second factor of a product.
    inner: Option<Matrix>,
    bias: Option<Param>,
}

impl Linear {
    /// A layer with new parameters.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(inputs: usize, outputs: usize, bias: bool, form: Form, build: &Build) -> Result<Self> {
        let by_head = |width: usize, heads: usize| [heads, width / heads.max(1)];
        let weight = match form {
            Form::Rows => build.weight(&[outputs, inputs])?,
            Form::Columns => build.weight(&[inputs, outputs])?,
            Form::ColumnsByHead(heads) => build.weight(&[&[inputs][..], &by_head(outputs, heads)].concat())?,
            Form::RowsByHead(heads) => build.weight(&[&[outputs][..], &by_head(inputs, heads)].concat())?,
            Form::Patches(size) => build.weight(&[outputs, inputs / (size * size).max(1), size, size])?,
            Form::LowRank(rank) => build.weight(&[outputs, rank])?,
        };
        let inner = match form {
            Form::LowRank(rank) => Some(Matrix::new(build.weight(&[rank, inputs])?, Form::Rows)),
            _ => None,
        };
        let bias = bias.then(|| build.param(&[outputs], Init::Zeros)).transpose()?;
        Ok(Linear { weight: Matrix::new(weight, form), inner, bias })
    }

    /// A layer whose matrix is that of another, an embedding for instance.
    pub fn tied(weight: &Param, bias: Option<Param>) -> Self {
        Linear { weight: Matrix::new(weight.clone(), Form::Rows), inner: None, bias }
    }

    /// The matrix as `[outputs, inputs]`.
    ///
    /// # Errors
    /// Never for a layer that was made.
    pub fn matrix(&self) -> Result<Tensor> {
        let weight = self.weight.shown()?;
        match &self.inner {
            Some(inner) => Ok(weight.matmul(&inner.shown()?)?),
            None => Ok(weight),
        }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, None, None)
    }

    /// Applies the layer, an activation, and adds a residual, in one pass.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_then(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        let then = Epilogue { activation, residual: residual.cloned(), ..Epilogue::default() };
        match &self.inner {
            // Two thin products cost less than one with their product.
            Some(inner) => {
                let x = inner.apply(x, None, &Epilogue::default())?;
                self.weight.apply(&x, bias.as_ref(), &then)
            }
            None => self.weight.apply(x, bias.as_ref(), &then),
        }
    }

    /// Shows the parameters to a visitor, under the names that go with the form.
    pub fn visit_as(&self, name: &str, v: &mut Visitor<'_>) {
        match self.weight.form {
            Form::ColumnsByHead(_) | Form::RowsByHead(_) => show(name, &self.weight, v),
            _ => v.module(name, self),
        }
    }
}

impl Module for Linear {
    fn visit(&self, v: &mut Visitor<'_>) {
        show("weight", &self.weight, v);
        if let Some(inner) = &self.inner {
            show("inner", inner, v);
        }
        v.optional("bias", self.bias.as_ref());
    }
}

fn show(name: &str, matrix: &Matrix, v: &mut Visitor<'_>) {
    v.param(name, &matrix.param);
    v.part(name, matrix);
}
