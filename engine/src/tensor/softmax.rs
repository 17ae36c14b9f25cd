//! Softmax and the losses that follow it. The work is in [`crate::ops::softmax`], [`crate::ops::cross_entropy`] and [`crate::ops::ctc`].

use crate::ops::{cross_entropy, ctc, softmax};
use crate::{CrossEntropy, CtcLoss, Result, Tensor};

impl Tensor {
    /// `exp(x) / sum(exp(x))` along a dimension, without overflow. Elements of -inf get 0; where a row has no others, all of it
    /// is 0. The gradient is fused.
    ///
    /// # Errors
    /// If it is not a float tensor, or the dimension is out of range.
    pub fn softmax(&self, dim: isize) -> Result<Tensor> {
        softmax::softmax("softmax", false, self, dim)
    }

    /// The logarithm of [`Tensor::softmax`], computed without it. A row of -inf alone stays as it is.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    pub fn log_softmax(&self, dim: isize) -> Result<Tensor> {
        softmax::softmax("log_softmax", true, self, dim)
    }

    /// Softmax of `scale * x` along the last dimension among the elements where the bool `mask`, which broadcasts to x, is true; the
    /// others get 0, and where a row has no true element, all of it is 0. One pass over the scores, forward and backward.
    ///
    /// # Errors
    /// If x is not a float tensor, the mask is not of bools or does not broadcast to x, or the scale is not finite.
    pub fn masked_softmax(&self, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
        softmax::masked_softmax(self, mask, scale)
    }

    /// Softmax cross-entropy of logits `[rows.., classes]` (this tensor, classes last) against class indices `[rows..]`
    /// (u32 or i32), in nats; reduced as `options` say. Logits never turn into probabilities in memory, forward or backward.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or an option is outside its domain. If a target is neither a class nor the
    /// ignored one: on the CPU device at once, on a GPU from the next call that waits for it (such a row counts as ignored).
    pub fn cross_entropy(&self, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
        cross_entropy::cross_entropy(self, targets, options)
    }

    /// Connectionist temporal classification of log-probabilities `[time, samples, classes]` (this tensor, from [`Tensor::log_softmax`]): the
    /// loss, in nats, of all paths that give a sample's labels, where a path has a label or the blank at each time, and equal neighbours are
    /// one. `targets [samples, labels]` (u32 or i32), of which each sample has the first `target_lengths` and takes the first
    /// `input_lengths` times. Reduced as `options` say. Labels that do not fit the time have an infinite loss, or none, and a gradient of 0
    /// either way. Source: Graves et al. 2006, "Connectionist temporal classification".
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, a length is more than there is, or the blank is no class. If a target is no class: on the CPU
    /// device at once, on a GPU from the next call that waits for it.
    pub fn ctc_loss(
        &self,
        targets: &Tensor,
        input_lengths: &[usize],
        target_lengths: &[usize],
        options: &CtcLoss,
    ) -> Result<Tensor> {
        ctc::ctc_loss(self, targets, input_lengths, target_lengths, options)
    }
}
