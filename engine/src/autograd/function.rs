//! Differentiable functions of the user.

use std::sync::Arc;

use super::backward::{Options, run};
use super::{Flow, no_grad, record_many, with_recording};
use crate::device::unique_id;
use crate::{Error, Result, Tensor};

/// Tensors that a forward pass keeps for its backward pass.
pub type Saved = Vec<Tensor>;

/// A differentiable function with as much of its own as it wants: a composition of tensor operations is enough
/// ([`Function::reference`]); a fused forward and a fused backward may replace it, and it stays the oracle in tests.
/// State lives in the implementing type.
pub trait Function: Send + Sync + 'static {
    /// Name in errors.
    fn name(&self) -> &'static str;

    /// The function as a composition of differentiable operations.
    ///
    /// # Errors
    /// Those of the operations. By default [`Error::NoBackward`]: a function without it needs its own
    /// [`Function::forward`], and its own [`Function::backward`] if it is to be differentiated.
    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let _ = inputs;
        Err(Error::NoBackward { op: self.name() })
    }

    /// Computes the outputs, and what the backward pass needs beside inputs and outputs. Nothing is recorded inside.
    ///
    /// # Errors
    /// Those of the operations.
    fn forward(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Saved)> {
        Ok((self.reference(inputs)?, Saved::new()))
    }

    /// Turns gradients of the outputs (None where none arrived) into one gradient for each input; None for an input
    /// that has none or is not wanted (`needs`). By default the reference is differentiated.
    ///
    /// # Errors
    /// Those of the operations.
    fn backward(
        &self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let _ = (outputs, saved);
        differentiate(|inputs| self.reference(inputs), inputs, grads, needs)
    }
}

/// Applies a function of the user.
///
/// # Errors
/// Those of the function.
pub fn apply<F: Function>(function: &Arc<F>, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let detached: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let (outputs, saved) = no_grad(|| function.forward(&detached))?;
    let outputs: Vec<Tensor> = outputs.iter().map(Tensor::detach).collect();
    let (function, results) = (function.clone(), outputs.clone());
    Ok(record_many(function.name(), outputs, inputs, move |grads, needs| {
        let inputs = function.backward(&detached, &results, &saved, grads, needs)?;
        Ok(Flow { inputs, captured: Vec::new() })
    }))
}

/// Gradients of a composition, by running it again with recording.
pub(crate) fn differentiate(
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    inputs: &[Tensor],
    grads: &[Option<Tensor>],
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let boundary = unique_id();
    let fresh: Vec<Tensor> =
        inputs.iter().zip(needs).map(|(t, &need)| if need { t.requires_grad() } else { t.detach() }).collect();
    let outputs = with_recording(true, || f(&fresh))?;
    let roots: Vec<(&Tensor, Tensor)> = outputs
        .iter()
        .zip(grads)
        .filter_map(|(out, grad)| Some((out, grad.clone()?)))
        .filter(|(out, _)| out.grad_ref().is_some())
        .collect();
    let (mut values, captured) = run(&roots, &Options { boundary, ..Options::default() })?;
    if !captured.is_empty() {
        let message = "a function's reference captured a tracked tensor: pass it as an input, or detach it".into();
        return Err(Error::Autograd { message });
    }
    Ok(fresh.iter().map(|t| t.grad_ref().and_then(|place| values.remove(&place.key()))).collect())
}
