//! The walk back through the graph.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use super::{Backward, Flow, GradRef, Node, NodeKind, in_backward};
use crate::{Error, Result, Tensor};

/// Gradients of a loss, looked up by tensor.
#[derive(Default)]
pub struct Gradients {
    values: HashMap<(u64, usize), Tensor>,
}

impl Gradients {
    /// The gradient of `tensor`, of its shape, dtype and device; None if the loss does not depend on it.
    pub fn get(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.values.get(&tensor.grad_ref()?.key())
    }

    /// The gradient of a place in the graph.
    pub(crate) fn at(&self, place: &GradRef) -> Option<&Tensor> {
        self.values.get(&place.key())
    }

    /// Takes the gradient of `tensor` out.
    pub fn take(&mut self, tensor: &Tensor) -> Option<Tensor> {
        self.values.remove(&tensor.grad_ref()?.key())
    }

    /// Sets the gradient of `tensor`, for instance after changing it.
    ///
    /// # Errors
    /// If `tensor` is not tracked, or the gradient's shape or dtype is not the tensor's.
    pub fn set(&mut self, tensor: &Tensor, gradient: Tensor) -> Result<()> {
        let place = tensor.grad_ref().ok_or_else(|| untracked("Gradients::set"))?;
        check_like("Gradients::set", tensor, &gradient)?;
        self.values.insert(place.key(), gradient.detach());
        Ok(())
    }

    /// Adds the gradients of another pass (gradient accumulation).
    ///
    /// # Errors
    /// If gradients of the same tensor do not fit each other.
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        for (key, gradient) in other.values {
            add_to(&mut self.values, key, gradient)?;
        }
        Ok(())
    }

    /// How many tensors have a gradient.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no tensor has a gradient.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

fn untracked(what: &str) -> Error {
    let hint = "call requires_grad() on a leaf, and do not compute under no_grad";
    Error::Autograd {
        message: format!("{what}: the tensor does not depend on anything that requires a gradient; {hint}"),
    }
}

fn check_like(op: &'static str, tensor: &Tensor, gradient: &Tensor) -> Result<()> {
    if gradient.shape() != tensor.shape() {
        let (got, want) = (gradient.shape(), tensor.shape());
        return Err(Error::shape(op, format!("a gradient of shape {got:?} for a tensor of shape {want:?}")));
    }
    if gradient.dtype() != tensor.dtype() {
        return Err(Error::DType { op, got: gradient.dtype(), expected: "the dtype of the tensor it belongs to" });
    }
    Ok(())
}

/// The first gradient of a place is kept as it is, later ones are added: no buffer is ever filled with zeros.
fn add_to(values: &mut HashMap<(u64, usize), Tensor>, key: (u64, usize), gradient: Tensor) -> Result<()> {
    let sum = match values.remove(&key) {
        Some(sum) => sum.add(&gradient)?,
        None => gradient,
    };
    values.insert(key, sum);
    Ok(())
}

/// What a backward pass is asked for beside its roots.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// Tensors inside the graph whose gradients are wanted beside those of the leaves.
    pub keep: &'a [&'a Tensor],
    /// Keeps the graph for another pass.
    pub retain: bool,
    /// Nodes older than this are not entered; their gradients are handed out.
    pub boundary: u64,
}

/// Gradients of `sum_i <roots_i, seeds_i>` with respect to all leaves and to the tensors in `keep`. `retain` keeps the
/// graph for another pass; without it saved tensors are released as the pass goes.
///
/// # Errors
/// If a root is not tracked, a seed does not fit its root, an operation on the way has no backward, or the graph was
/// released by an earlier pass.
pub fn backward(roots: &[(&Tensor, Tensor)], keep: &[&Tensor], retain: bool) -> Result<Gradients> {
    let (values, _) = run(roots, &Options { keep, retain, boundary: 0 })?;
    Ok(Gradients { values })
}

type Walk = (HashMap<(u64, usize), Tensor>, Vec<(GradRef, Tensor)>);

/// The pass itself. Returns the gradients to keep and those of tensors beyond the boundary.
pub(crate) fn run(roots: &[(&Tensor, Tensor)], options: &Options) -> Result<Walk> {
    let mut pending = Pending::default();
    for (root, seed) in roots {
        let place = root.grad_ref().ok_or_else(|| untracked("backward"))?;
        check_like("backward", root, seed)?;
        pending.push(place, seed.detach())?;
    }
    let keep: Vec<_> =
        options.keep.iter().map(|t| t.grad_ref().ok_or_else(|| untracked("keep"))).collect::<Result<_>>()?;
    let mut kept = HashMap::new();
    let mut beyond = Vec::new();
    in_backward(|| {
        while let Some((node, grads)) = pending.pop() {
            for place in keep.iter().filter(|place| place.node.id == node.id) {
                if let Some(Some(gradient)) = grads.get(place.output) {
                    kept.insert(place.key(), gradient.clone());
                }
            }
            if node.id < options.boundary {
                let out = grads.into_iter().enumerate();
                beyond.extend(out.filter_map(|(output, g)| Some((GradRef { node: node.clone(), output }, g?))));
                continue;
            }
            match &node.kind {
                NodeKind::Leaf => kept.extend(grads.into_iter().flatten().map(|g| ((node.id, 0), g))),
                NodeKind::Op(_) => {
                    let inputs = node.inputs.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let needs: Vec<bool> = inputs.iter().map(Option::is_some).collect();
                    let flow = closure(&node, options.retain)?(&grads, &needs)?;
                    drop(grads);
                    pending.push_flow(&node, &inputs, flow)?;
                }
            }
        }
        Ok::<(), Error>(())
    })?;
    Ok((kept, beyond))
}

fn closure(node: &Node, retain: bool) -> Result<Arc<Backward>> {
    let NodeKind::Op(slot) = &node.kind else {
        return Err(Error::Autograd { message: "a leaf has no backward".into() });
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let closure = if retain { slot.clone() } else { slot.take() };
    closure.ok_or_else(|| Error::Autograd {
        message: format!("the graph was released by an earlier backward (at {}); run that one with retain", node.op),
    })
}

/// Nodes that have received gradients, the youngest last.
#[derive(Default)]
struct Pending {
    nodes: BTreeMap<u64, (Arc<Node>, Vec<Option<Tensor>>)>,
}

impl Pending {
    fn push(&mut self, place: &GradRef, gradient: Tensor) -> Result<()> {
        let (_, grads) = self.nodes.entry(place.node.id).or_insert_with(|| (place.node.clone(), Vec::new()));
        if grads.len() <= place.output {
            grads.resize(place.output + 1, None);
        }
        let slot = &mut grads[place.output];
        *slot = Some(match slot.take() {
            Some(sum) => sum.add(&gradient)?,
            None => gradient,
        });
        Ok(())
    }

    fn push_flow(&mut self, node: &Node, inputs: &[Option<GradRef>], flow: Flow) -> Result<()> {
        if flow.inputs.len() != inputs.len() {
            let message = format!("{} returned {} gradients for {} inputs", node.op, flow.inputs.len(), inputs.len());
            return Err(Error::Autograd { message });
        }
        for (place, gradient) in inputs.iter().zip(flow.inputs) {
            if let (Some(place), Some(gradient)) = (place, gradient) {
                self.push(place, gradient)?;
            }
        }
        for (place, gradient) in flow.captured {
            if place.node.id >= node.id {
                let message = format!("{} captured a tensor made after it ran", node.op);
                return Err(Error::Autograd { message });
            }
            self.push(&place, gradient)?;
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<(Arc<Node>, Vec<Option<Tensor>>)> {
        self.nodes.pop_last().map(|(_, entry)| entry)
    }
}

impl Tensor {
    /// Gradients of this scalar with respect to every leaf it depends on. Releases the graph.
    ///
    /// # Errors
    /// If the tensor has more than one element, is not tracked, or see [`backward`].
    pub fn backward(&self) -> Result<Gradients> {
        if self.elements() != 1 {
            let message = format!("needs a scalar, got shape {:?}; use autograd::backward with a seed", self.shape());
            return Err(Error::Autograd { message });
        }
        backward(&[(self, self.ones_like()?)], &[], false)
    }
}
