//! Convolutions and windows. The work is in [`crate::ops::conv`].

use crate::ops::conv::{self, Conv};
use crate::{Result, Tensor};

impl Tensor {
    /// Convolution (cross-correlation) of `[batch, channels, length]` with a weight `[outputs, channels / groups, kernel]`, plus a bias
    /// `[outputs]`: `[batch, outputs, places]`, with `places = (length + 2 padding - dilation (kernel - 1) - 1) / stride + 1`, rounded down.
    ///
    /// ```
    /// use wgrad::{Conv, Device, Tensor};
    /// # fn main() -> wgrad::Result<()> {
    /// let cpu = Device::cpu();
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 4.0, 8.0], &[1, 1, 4], &cpu)?;
    /// let difference = Tensor::from_slice(&[-1.0f32, 1.0], &[1, 1, 2], &cpu)?;
    /// assert_eq!(x.conv1d(&difference, None, &Conv::default())?.to_vec::<f32>()?, [1.0, 2.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, the groups do not divide channels and outputs, a stride, dilation or kernel size is 0, or the
    /// kernel is longer than the input with its padding.
    pub fn conv1d(&self, weight: &Tensor, bias: Option<&Tensor>, options: &Conv<1>) -> Result<Tensor> {
        conv::conv("conv1d", self, weight, bias, options)
    }

    /// As [`Tensor::conv1d`] over the last two dimensions: `[batch, channels, height, width]` with a weight `[outputs, channels / groups,
    /// kernel height, kernel width]`.
    ///
    /// # Errors
    /// As [`Tensor::conv1d`].
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: &Conv<2>) -> Result<Tensor> {
        conv::conv("conv2d", self, weight, bias, options)
    }

    /// Transposed convolution, the adjoint of [`Tensor::conv1d`] of the same options: `[batch, channels, length]` with a weight `[channels,
    /// outputs / groups, kernel]`, plus a bias `[outputs]`: `[batch, outputs, (length - 1) stride - 2 padding + dilation (kernel - 1) +
    /// output padding + 1]`.
    ///
    /// # Errors
    /// As [`Tensor::conv1d`], and if the output padding is not less than stride or dilation.
    pub fn conv_transpose1d(&self, weight: &Tensor, bias: Option<&Tensor>, options: &Conv<1>) -> Result<Tensor> {
        conv::conv_transpose("conv_transpose1d", self, weight, bias, options)
    }

    /// As [`Tensor::conv_transpose1d`] over the last two dimensions.
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose1d`].
    pub fn conv_transpose2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: &Conv<2>) -> Result<Tensor> {
        conv::conv_transpose("conv_transpose2d", self, weight, bias, options)
    }

    /// Windows of `size` elements along `dim`, one every `step`, as a new last dimension: a view, in which elements stand several times
    /// where windows overlap.
    ///
    /// # Errors
    /// If the dimension is out of range, `size` or `step` is 0, or a window is longer than the dimension.
    pub fn unfold(&self, dim: isize, size: usize, step: usize) -> Result<Tensor> {
        conv::unfold_view(self, dim, size, step)
    }
}
