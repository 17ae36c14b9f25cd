//! Linear layers that read their matrix through a view: checkpoints store it in more than one way.

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{Epilogue, Tensor};

use crate::Result;
use crate::activation::Activation;

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `[outputs, inputs]`; it may be [packed](Param::set_packed).
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

/// `y = x W^T + bias`: `x [.., inputs]` to `[.., outputs]`.
pub struct Linear {
    form: Form,
    weight: Param,
    /// The second factor of a product.
    inner: Option<Param>,
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
            Form::LowRank(rank) => Some(build.weight(&[rank, inputs])?),
            _ => None,
        };
        let bias = bias.then(|| build.param(&[outputs], Init::Zeros)).transpose()?;
        Ok(Linear { form, weight, inner, bias })
    }

    /// A layer whose matrix is that of another, an embedding for instance.
    pub fn tied(weight: &Param, bias: Option<Param>) -> Self {
        Linear { form: Form::Rows, weight: weight.clone(), inner: None, bias }
    }

    /// The matrix as `[outputs, inputs]`.
    ///
    /// # Errors
    /// Never for a layer that was made.
    pub fn matrix(&self) -> Result<Tensor> {
        let weight = self.weight.tensor();
        let first = weight.shape().first().map_or(0, |&n| n as isize);
        Ok(match self.form {
            Form::Rows => weight,
            Form::LowRank(_) => match &self.inner {
                Some(inner) => weight.matmul(&inner.tensor())?,
                None => weight,
            },
            Form::Columns => weight.transpose(0, 1)?,
            Form::ColumnsByHead(_) => weight.reshape(&[first, -1])?.transpose(0, 1)?,
            Form::RowsByHead(_) | Form::Patches(_) => weight.reshape(&[first, -1])?,
        })
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
                let x = x.linear(&inner.tensor(), None)?;
                Ok(x.linear_then(&self.weight.tensor(), bias.as_ref(), &then)?)
            }
            None => match self.weight.packed().filter(|_| self.form == Form::Rows) {
                Some(weight) => Ok(x.linear_sparse24_then(&weight, bias.as_ref(), &then)?),
                None => Ok(x.linear_then(&self.matrix()?, bias.as_ref(), &then)?),
            },
        }
    }

    /// Shows the parameters to a visitor, under the names that go with the form.
    pub fn visit_as(&self, name: &str, v: &mut Visitor<'_>) {
        match self.form {
            Form::ColumnsByHead(_) | Form::RowsByHead(_) => v.param(name, &self.weight),
            _ => v.module(name, self),
        }
    }
}

impl Module for Linear {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.optional("inner", self.inner.as_ref());
        v.optional("bias", self.bias.as_ref());
    }
}
