//! Discrete Fourier transforms. The work is in [`crate::ops::fft`]. Complex numbers are pairs of tensors, real and imaginary parts.

use crate::ops::fft::{self, FftNorm};
use crate::{Result, Tensor};

impl Tensor {
    /// The Fourier transform of `self + i im` along the last dimension, of any length n: `X_k = sum over j of x_j exp(-2 pi i j k / n)`, scaled
    /// as `norm` says. Returns real and imaginary part. Source: Cooley, Tukey 1965; Bluestein 1970 for large prime lengths.
    ///
    /// # Errors
    /// If the parts are not float tensors of one shape, dtype and device, or have no dimension.
    pub fn fft(&self, im: &Tensor, norm: FftNorm) -> Result<(Tensor, Tensor)> {
        fft::fft(self, im, false, norm)
    }

    /// The inverse of [`Tensor::fft`] with the same `norm`.
    ///
    /// # Errors
    /// As [`Tensor::fft`].
    pub fn ifft(&self, im: &Tensor, norm: FftNorm) -> Result<(Tensor, Tensor)> {
        fft::fft(self, im, true, norm)
    }

    /// The first `n / 2 + 1` numbers of [`Tensor::fft`] of a real tensor, which determine the others. Its last dimension is cut, or filled
    /// with zeros, to `n`.
    ///
    /// ```
    /// use wgrad::{Device, FftNorm, Tensor};
    /// # fn main() -> wgrad::Result<()> {
    /// let x = Tensor::from_slice(&[1.0f32, 0.0, -1.0, 0.0], &[4], &Device::cpu())?;
    /// let (re, im) = x.rfft(4, FftNorm::Backward)?;
    /// assert!((re.to_vec::<f32>()?[1] - 2.0).abs() < 1e-6); // all of it is one turn in four steps
    /// let back = re.irfft(&im, 4, FftNorm::Backward)?;
    /// assert!(back.sub(&x)?.abs()?.max(&[], false)?.item()? < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it is not a float tensor, has no dimension, or `n` is 0.
    pub fn rfft(&self, n: usize, norm: FftNorm) -> Result<(Tensor, Tensor)> {
        fft::rfft(self, n, norm)
    }

    /// The inverse of [`Tensor::rfft`]: `n` real numbers from the first `n / 2 + 1` complex ones (more are cut, fewer filled with zeros). The
    /// imaginary part of the first, and with an even `n` of the last, is not read.
    ///
    /// # Errors
    /// As [`Tensor::fft`], and if `n` is 0.
    pub fn irfft(&self, im: &Tensor, n: usize, norm: FftNorm) -> Result<Tensor> {
        fft::irfft(self, im, n, norm)
    }
}
