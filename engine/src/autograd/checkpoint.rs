//! Trading compute for memory: forget activations, and compute them again in the backward pass.

use super::backward::{Options, run};
use super::{Flow, record_many, tracks, with_recording};
use crate::device::unique_id;
use crate::{Result, Tensor};

/// Runs `f(inputs)` without keeping what it computes in between; the backward pass runs it again. `f` must do the same
/// each time: random numbers are replayed from the device's generator, other state is the caller's matter. Tensors that
/// `f` captures (parameters, say) get their gradients too.
///
/// # Errors
/// Those of `f`.
pub fn checkpoint<F>(f: F, inputs: &[&Tensor]) -> Result<Vec<Tensor>>
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let device = inputs.first().map(|t| t.device().clone());
    let rng = device.as_ref().map(|d| d.rng_state());
    let owned: Vec<Tensor> = inputs.iter().map(|&t| t.clone()).collect();
    let outputs = f(&owned)?;
    let outside: Vec<&Tensor> = inputs.iter().copied().chain(outputs.iter()).collect();
    if !tracks(&outside) {
        return Ok(outputs);
    }
    // The node must be recorded even if only captured tensors are tracked: an anchor of its own sees to that.
    let anchor = super::GradRef::leaf();
    let detached: Vec<Tensor> = outputs.iter().map(Tensor::detach).collect();
    drop(outputs);
    let marker = detached.first().map(|t| t.detach().with_grad(Some(anchor)));
    let mut node_inputs: Vec<&Tensor> = inputs.to_vec();
    node_inputs.extend(marker.as_ref());
    let saved: Vec<Tensor> = owned.iter().map(Tensor::detach).collect();

    let backward = move |grads: &[Option<Tensor>], needs: &[bool]| {
        let boundary = unique_id();
        let fresh: Vec<Tensor> =
            saved.iter().zip(needs).map(|(t, &need)| if need { t.requires_grad() } else { t.clone() }).collect();
        let now = device.as_ref().map(|d| d.rng_state());
        if let (Some(device), Some(rng)) = (&device, rng) {
            device.set_rng_state(rng);
        }
        let again = with_recording(true, || f(&fresh));
        if let (Some(device), Some(now)) = (&device, now) {
            device.set_rng_state(now);
        }
        let again = again?;
        let roots: Vec<(&Tensor, Tensor)> = again
            .iter()
            .zip(grads)
            .filter_map(|(out, grad)| Some((out, grad.clone()?)))
            .filter(|(out, _)| out.grad_ref().is_some())
            .collect();
        let (mut values, captured) = run(&roots, &Options { boundary, ..Options::default() })?;
        let mut inputs: Vec<Option<Tensor>> =
            fresh.iter().map(|t| t.grad_ref().and_then(|place| values.remove(&place.key()))).collect();
        inputs.resize(needs.len(), None);
        Ok(Flow { inputs, captured })
    };
    Ok(record_many("checkpoint", detached, &node_inputs, backward))
}
