//! Pooling, interpolation, sampling. The work is in [`crate::ops::resample`] and [`crate::ops::grid_sample`].

use crate::ops::grid_sample::{GridPadding, grid_sample};
use crate::ops::resample::{self, Interpolation, Pool};
use crate::{Result, Tensor};

impl Tensor {
    /// The highest element of each window of `[batch, channels, length]`. Of equal ones the first gets the gradient.
    ///
    /// # Errors
    /// If it is not a float tensor of rank 3, a kernel size, stride or dilation is 0, the padding is more than half the kernel, or a window is
    /// longer than the input with its padding, or in the padding alone.
    pub fn max_pool1d(&self, pool: &Pool<1>) -> Result<Tensor> {
        resample::max_pool("max_pool1d", self, pool)
    }

    /// As [`Tensor::max_pool1d`] over the last two dimensions of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Tensor::max_pool1d`], for rank 4.
    pub fn max_pool2d(&self, pool: &Pool<2>) -> Result<Tensor> {
        resample::max_pool("max_pool2d", self, pool)
    }

    /// The mean of each window of `[batch, channels, length]`.
    ///
    /// # Errors
    /// As [`Tensor::max_pool1d`], and if there is a dilation.
    pub fn avg_pool1d(&self, pool: &Pool<1>) -> Result<Tensor> {
        resample::avg_pool("avg_pool1d", self, pool)
    }

    /// As [`Tensor::avg_pool1d`] over the last two dimensions of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool1d`], for rank 4.
    pub fn avg_pool2d(&self, pool: &Pool<2>) -> Result<Tensor> {
        resample::avg_pool("avg_pool2d", self, pool)
    }

    /// The means of `size` windows that cover `[batch, channels, length]`: window i goes from `floor(i length / size)` up to
    /// `ceil((i + 1) length / size)`.
    ///
    /// # Errors
    /// If it is not a float tensor of rank 3, or has no elements along the length.
    pub fn adaptive_avg_pool1d(&self, size: usize) -> Result<Tensor> {
        resample::adaptive_avg_pool("adaptive_avg_pool1d", self, [size])
    }

    /// As [`Tensor::adaptive_avg_pool1d`] over the last two dimensions of `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Tensor::adaptive_avg_pool1d`], for rank 4.
    pub fn adaptive_avg_pool2d(&self, size: [usize; 2]) -> Result<Tensor> {
        resample::adaptive_avg_pool("adaptive_avg_pool2d", self, size)
    }

    /// The last dimensions in other sizes, as many as `sizes` names: their elements are samples of a function that is interpolated. Without
    /// smoothing where sizes shrink.
    ///
    /// # Errors
    /// If it is not a float tensor, has fewer dimensions, or one of them is empty.
    pub fn interpolate(&self, sizes: &[usize], how: Interpolation) -> Result<Tensor> {
        resample::interpolate(self, sizes, how)
    }

    /// Bilinear samples of images `[n, channels, h, w]` at places `grid [n, rows, columns, 2]`: `[n, channels, rows, columns]`. A place is
    /// (x, y), from -1 to 1 over the image: over the centres of its outermost pixels with `align_corners`, else over their edges. Gradients go
    /// to the images and to the grid.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or the images have no pixels.
    pub fn grid_sample(&self, grid: &Tensor, padding: GridPadding, align_corners: bool) -> Result<Tensor> {
        grid_sample(self, grid, padding, align_corners)
    }
}
