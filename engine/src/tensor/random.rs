//! Random tensors. The work is in [`crate::ops::random`].
//!
//! Numbers come from the generator of the device ([`Device::set_seed`], [`Device::rng_state`]); the same state gives the same
//! tensors. They carry no gradient.

use crate::ops::random::{self, Law};
use crate::{DType, Device, Result, Tensor};

impl Tensor {
    /// Uniform in `[low, high)`, in steps of 2^-24 of the range; then rounded to the dtype. Bit for bit the same on every
    /// device for `[0, 1)`.
    ///
    /// # Errors
    /// If the range is empty or beyond f32, the dtype is no float, or the device cannot hold the result.
    pub fn uniform(low: f64, high: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        random::uniform(low, high, shape, dtype, device)
    }

    /// Normal, by the method of Box and Muller, with tails beyond 7 standard deviations.
    ///
    /// # Errors
    /// If a parameter is not finite, `std` is negative, the dtype is no float, or the device cannot hold the result.
    pub fn normal(mean: f64, std: f64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        random::normal(mean, std, shape, dtype, device)
    }

    /// True with probability `p`, in steps of 2^-32.
    ///
    /// # Errors
    /// If `p` is not between 0 and 1, or the device cannot hold the result.
    pub fn bernoulli(p: f64, shape: &[usize], device: &Device) -> Result<Tensor> {
        random::bernoulli(p, shape, device)
    }

    /// Standard Gumbel noise `-ln(-ln u)`. Here `u` has a full range of exponents near 0 and near 1, unlike a 24-bit float,
    /// whose noise ends at 16.6: the largest of logits plus noise is then a draw from the softmax also for rare classes.
    ///
    /// # Errors
    /// If the dtype is no float, or the device cannot hold the result.
    pub fn gumbel(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        random::draw_float("gumbel", Law::Gumbel, shape, dtype, device)
    }

    /// Integers in `low..high`, u32 or i32, uniform up to 2^-32 of their probability.
    ///
    /// # Errors
    /// If the range is empty, has more than 2^32 - 1 numbers, or leaves the dtype's, or the device cannot hold the result.
    pub fn randint(low: i64, high: i64, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        random::randint(low, high, shape, dtype, device)
    }

    /// Draws one class, u32, from the softmax of the logits in the last dimension, which disappears.
    ///
    /// # Errors
    /// If there are no classes, or the dtype is no float.
    pub fn categorical(&self) -> Result<Tensor> {
        random::categorical(self)
    }

    /// Sets each element to 0 with probability `p` and scales the others by `1 / (1 - p)`. For training; nothing is stored for
    /// the backward, which draws the same mask again.
    ///
    /// # Errors
    /// If `p` is not between 0 and 1, or the dtype is no float.
    pub fn dropout(&self, p: f64) -> Result<Tensor> {
        random::dropout(self, p)
    }
}
