//! Linear attention. The work is in [`crate::ops::linear_attention`].

use crate::ops::linear_attention::{self, LinearAttention};
use crate::{Result, Tensor};

impl Tensor {
    /// Linear attention `o_i = sum_j (self_i . key_j) value_j` of features that were mapped before, with the causal order,
    /// decay and divisor of `options`. Time and memory are linear in the length.
    ///
    /// `self` is the query `[batch, heads, queries, features]`, `key` `[batch, heads, keys, features]`, `value` `[batch, heads,
    /// keys, value_dim]`. Returns the result `[batch, heads, queries, value_dim]`, and the state `[batch, heads, features,
    /// value_dim]` after the last key, with which a later call (`options.state`) or [`Tensor::linear_attention_step`] goes
    /// on. Padding keys are hidden by zeros in `key`.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, or an option is outside its domain.
    pub fn linear_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        options: &LinearAttention,
    ) -> Result<(Tensor, Tensor)> {
        linear_attention::linear_attention(self, key, value, options)
    }

    /// The next position of causal linear attention, for decoding: its cost does not grow with what came before.
    ///
    /// `self` and `key` are `[batch, heads, features]`, `value` `[batch, heads, value_dim]`, `state` is what
    /// [`Tensor::linear_attention`] or the step before returned (that of `options` is not looked at). Returns the result
    /// `[batch, heads, value_dim]` and the next state.
    ///
    /// # Errors
    /// As [`Tensor::linear_attention`].
    pub fn linear_attention_step(
        &self,
        key: &Tensor,
        value: &Tensor,
        state: &Tensor,
        options: &LinearAttention,
    ) -> Result<(Tensor, Tensor)> {
        linear_attention::step(self, key, value, state, options)
    }
}
