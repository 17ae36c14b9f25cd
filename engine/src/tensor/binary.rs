//! Functions of two broadcast tensors, and choices between tensors by a condition.
//!
//! Operands have one dtype and one device; there is no silent promotion. Shapes broadcast by numpy's rules.

use crate::ops::elementwise::{self, Binary, Triangle};
use crate::{Activation, Result, Tensor};

impl Tensor {
    /// `self + other`. Integers wrap around.
    ///
    /// # Errors
    /// If the shapes do not broadcast, the dtypes differ or are bool, or the devices differ.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("add", self, other, Binary::Add)
    }

    /// `self - other`. Integers wrap around.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("sub", self, other, Binary::Sub)
    }

    /// `self * other`. Integers wrap around.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("mul", self, other, Binary::Mul)
    }

    /// `self / other`. Integers truncate towards zero, and give 0 where the divisor is 0.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("div", self, other, Binary::Div)
    }

    /// The smaller of two elements; at a tie each gets half of the gradient.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    pub fn minimum(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("minimum", self, other, Binary::Minimum)
    }

    /// The larger of two elements; at a tie each gets half of the gradient.
    ///
    /// # Errors
    /// As [`Tensor::add`].
    pub fn maximum(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("maximum", self, other, Binary::Maximum)
    }

    /// `self ^ exponent`, for floats; a negative base only with integer exponents.
    ///
    /// # Errors
    /// As [`Tensor::add`], and if the dtype is an integer.
    pub fn pow(&self, exponent: &Tensor) -> Result<Tensor> {
        elementwise::binary("pow", self, exponent, Binary::Pow)
    }

    /// `self == other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::add`], but `eq` and `ne` take bool too.
    pub fn eq(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("eq", self, other, Binary::Eq)
    }

    /// `self != other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::eq`].
    pub fn ne(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("ne", self, other, Binary::Ne)
    }

    /// `self < other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::eq`].
    pub fn lt(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("lt", self, other, Binary::Lt)
    }

    /// `self <= other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::eq`].
    pub fn le(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("le", self, other, Binary::Le)
    }

    /// `self > other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::eq`].
    pub fn gt(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("gt", self, other, Binary::Gt)
    }

    /// `self >= other` as bool.
    ///
    /// # Errors
    /// As [`Tensor::eq`].
    pub fn ge(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("ge", self, other, Binary::Ge)
    }

    /// `self && other` of two bool tensors.
    ///
    /// # Errors
    /// If one is not bool, the shapes do not broadcast, or the devices differ.
    pub fn logical_and(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("logical_and", self, other, Binary::And)
    }

    /// `self || other` of two bool tensors.
    ///
    /// # Errors
    /// As [`Tensor::logical_and`].
    pub fn logical_or(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("logical_or", self, other, Binary::Or)
    }

    /// `self != other` of two bool tensors.
    ///
    /// # Errors
    /// As [`Tensor::logical_and`].
    pub fn logical_xor(&self, other: &Tensor) -> Result<Tensor> {
        elementwise::binary("logical_xor", self, other, Binary::Xor)
    }

    /// `!self` of a bool tensor.
    ///
    /// # Errors
    /// If it is not bool.
    pub fn logical_not(&self) -> Result<Tensor> {
        elementwise::logical_not(self)
    }

    /// `condition ? a : b`, all three broadcast. The condition is bool; a and b have one dtype.
    ///
    /// # Errors
    /// If the shapes do not broadcast, or dtypes or devices do not fit.
    pub fn where_cond(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::where_cond("where_cond", condition, a, b)
    }

    /// `value` where the bool mask is true, this tensor elsewhere. The mask broadcasts to this tensor's shape.
    ///
    /// # Errors
    /// If the mask is not bool, does not broadcast, or is on another device.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Tensor> {
        elementwise::masked_fill(self, mask, value)
    }

    /// The lower triangle of the last two dimensions: zeros where `column > row + diagonal`.
    ///
    /// # Errors
    /// If there are fewer than two dimensions.
    pub fn tril(&self, diagonal: i64) -> Result<Tensor> {
        elementwise::triangle("tril", self, diagonal, Triangle::Lower)
    }

    /// The upper triangle of the last two dimensions: zeros where `column < row + diagonal`.
    ///
    /// # Errors
    /// If there are fewer than two dimensions.
    pub fn triu(&self, diagonal: i64) -> Result<Tensor> {
        elementwise::triangle("triu", self, diagonal, Triangle::Upper)
    }

    /// Gated linear unit: splits a dimension into halves p, q and gives `p sigmoid(q)` (Dauphin et al. 2017).
    ///
    /// # Errors
    /// If the dimension does not exist or is odd, or the dtype is not a float.
    pub fn glu(&self, dim: isize) -> Result<Tensor> {
        elementwise::glu("glu", self, dim, Activation::Sigmoid, 1)
    }

    /// The gated linear units of feed-forward layers: splits a dimension into halves gate and up, in this order, and gives
    /// `f(gate) * up`. With [`Activation::Silu`] SwiGLU, with [`Activation::Gelu`] GEGLU, with [`Activation::Relu`] ReGLU (Shazeer 2020,
    /// arXiv:2002.05202). One pass, forward and backward.
    ///
    /// # Errors
    /// As [`Tensor::glu`].
    pub fn gate_up(&self, dim: isize, gate: Activation) -> Result<Tensor> {
        elementwise::glu("gate_up", self, dim, gate, 0)
    }

    /// `f(self) * up`, for gates and values that come from layers of their own. One pass, forward and backward.
    ///
    /// # Errors
    /// If the shapes, dtypes or devices differ, or the dtype is not a float.
    pub fn gated(&self, up: &Tensor, gate: Activation) -> Result<Tensor> {
        elementwise::gated("gated", self, up, gate)
    }
}
