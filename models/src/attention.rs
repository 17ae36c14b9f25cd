//! Multi-head attention as the blocks of the zoo use it: projections under the names of a checkpoint around the
//! engine's attention.

use wgrad::nn::{Init, Linear, Module, Visitor};
use wgrad::{AttentionOptions, Device, Tensor};

use crate::Result;

/// Where the parts of an attention layer stand in a checkpoint, below the layer's own name.
#[derive(Debug, Clone, Copy)]
pub struct AttentionNames {
    /// Query projection.
    pub query: &'static str,
    /// Key projection.
    pub key: &'static str,
    /// Value projection.
    pub value: &'static str,
    /// Output projection.
    pub output: &'static str,
}

/// Multi-head self-attention with biases in its four projections.
pub struct SelfAttention {
    names: AttentionNames,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    dropout: f64,
}

impl SelfAttention {
    /// New projections of `hidden` features for `heads` heads, drawn from `init`, on `device`; `dropout` is that of the
    /// attention probabilities while training.
    ///
    /// # Errors
    /// If `hidden` is not a multiple of `heads`, or memory is exhausted.
    pub fn new(
        names: AttentionNames,
        hidden: usize,
        heads: usize,
        dropout: f64,
        init: Init,
        device: &Device,
    ) -> Result<Self> {
        if heads == 0 || hidden % heads != 0 {
            return Err(crate::Error::config(format!("hidden size {hidden} is not a multiple of {heads} heads")));
        }
        let linear = || Linear::new(hidden, hidden, true, init, device);
        let (query, key, value, output) = (linear()?, linear()?, linear()?, linear()?);
        Ok(SelfAttention { names, query, key, value, output, heads, dropout })
    }

    /// `x` is `[batch, length, hidden]`; `mask`, true where a key may be seen, broadcasts to `[batch, heads, length, length]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, training: bool) -> Result<Tensor> {
        let split = |x: Tensor| -> Result<Tensor> {
            let (batch, length) = (x.shape()[0] as isize, x.shape()[1] as isize);
            Ok(x.reshape(&[batch, length, self.heads as isize, -1])?.transpose(1, 2)?)
        };
        let query = split(self.query.forward(x)?)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let options = AttentionOptions {
            mask: mask.cloned(),
            dropout: if training { self.dropout } else { 0.0 },
            ..AttentionOptions::default()
        };
        let context = query.attention(&key, &value, &options)?.transpose(1, 2)?.flatten(2, 3)?;
        Ok(self.output.forward(&context)?)
    }
}

impl Module for SelfAttention {
    fn visit(&self, v: &mut Visitor) {
        v.module(self.names.query, &self.query);
        v.module(self.names.key, &self.key);
        v.module(self.names.value, &self.value);
        v.module(self.names.output, &self.output);
    }
}
