//! Reverse-mode automatic differentiation: the graph that operations record, and the walk back through it.
//!
//! Every operation calls `record` with its result, its inputs and a closure that turns the gradient of the result into
//! gradients of the inputs. Nodes are numbered in the order of their making, so the walk back is a walk by descending
//! number: no sort, no recursion.

mod backward;
mod checkpoint;
mod function;

pub use backward::{Gradients, backward};
pub use checkpoint::checkpoint;
pub use function::{Function, Saved, apply};

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::unique_id;
use crate::{Result, Tensor};

/// Turns gradients of an operation's outputs (None where none arrived) into gradients of its inputs. The second
/// argument says which inputs want one; the others may be None.
pub(crate) type Backward = dyn Fn(&[Option<Tensor>], &[bool]) -> Result<Flow> + Send + Sync;

/// What a backward closure hands back.
pub(crate) struct Flow {
    /// A gradient for each input, in order.
    pub inputs: Vec<Option<Tensor>>,
    /// Gradients of tensors that are not inputs: what a checkpointed closure captured.
    pub captured: Vec<(GradRef, Tensor)>,
}

/// One recorded operation, or a leaf.
pub(crate) struct Node {
    pub id: u64,
    pub op: &'static str,
    pub inputs: Mutex<Vec<Option<GradRef>>>,
    /// None for a leaf.
    pub kind: NodeKind,
}

pub(crate) enum NodeKind {
    Leaf,
    /// The closure is taken out when a backward pass releases the graph.
    Op(Mutex<Option<Arc<Backward>>>),
}

/// A tensor's place in the graph: which output of which node it is.
#[derive(Clone)]
pub(crate) struct GradRef {
    pub node: Arc<Node>,
    pub output: usize,
}

impl GradRef {
    /// A new leaf.
    pub fn leaf() -> Self {
        let node = Node { id: unique_id(), op: "leaf", inputs: Mutex::default(), kind: NodeKind::Leaf };
        GradRef { node: Arc::new(node), output: 0 }
    }

    pub fn key(&self) -> (u64, usize) {
        (self.node.id, self.output)
    }
}

impl Drop for Node {
    /// Long chains are taken apart in a loop: dropping them recursively would overflow the stack.
    fn drop(&mut self) {
        let take = |node: &mut Node, stack: &mut Vec<GradRef>| {
            let inputs = std::mem::take(node.inputs.get_mut().unwrap_or_else(PoisonError::into_inner));
            stack.extend(inputs.into_iter().flatten());
        };
        let mut stack = Vec::new();
        take(self, &mut stack);
        while let Some(next) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(next.node) {
                take(&mut node, &mut stack);
            }
        }
    }
}

thread_local! {
    static NO_GRAD: Cell<bool> = const { Cell::new(false) };
    static BACKWARD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is on its way back through a graph. What a checkpoint runs then has run before: a function with state
/// must not move it again.
pub fn is_backward() -> bool {
    BACKWARD.get()
}

/// Marks what `f` does as part of a backward pass; the former state comes back even if `f` panics.
fn in_backward<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BACKWARD.set(self.0);
        }
    }
    let _restore = Restore(BACKWARD.replace(true));
    no_grad(f)
}

/// Whether operations of this thread are being recorded.
pub fn is_recording() -> bool {
    !NO_GRAD.get()
}

/// Runs `f` without recording: its results carry no gradient history. For inference and for updates of parameters.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_recording(false, f)
}

/// Runs `f` with recording on or off; the former state comes back even if `f` panics.
pub(crate) fn with_recording<R>(on: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            NO_GRAD.set(self.0);
        }
    }
    let _restore = Restore(NO_GRAD.replace(!on));
    f()
}

/// Records an operation with one output. `backward` gets the gradient of the output and which inputs want one, and
/// returns one gradient for each input. Without recording, or if no input is tracked, `output` comes back as it is.
///
/// Closures capture detached tensors (`Tensor::detach`), or the graph would hold on to itself.
pub(crate) fn record<F>(op: &'static str, output: Tensor, inputs: &[&Tensor], backward: F) -> Tensor
where
    F: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    if !tracks(inputs) {
        return output;
    }
    let backward = move |grads: &[Option<Tensor>], needs: &[bool]| {
        let inputs = match grads.first() {
            Some(Some(grad)) => backward(grad, needs)?,
            _ => vec![None; needs.len()],
        };
        Ok(Flow { inputs, captured: Vec::new() })
    };
    let node = node(op, inputs, Arc::new(backward));
    output.with_grad(Some(GradRef { node, output: 0 }))
}

/// Records an operation with several outputs, of which the float ones are differentiable.
pub(crate) fn record_many<F>(op: &'static str, outputs: Vec<Tensor>, inputs: &[&Tensor], backward: F) -> Vec<Tensor>
where
    F: Fn(&[Option<Tensor>], &[bool]) -> Result<Flow> + Send + Sync + 'static,
{
    if !tracks(inputs) {
        return outputs;
    }
    let node = node(op, inputs, Arc::new(backward));
    let place = |(output, tensor): (usize, Tensor)| match tensor.dtype().is_float() {
        true => tensor.with_grad(Some(GradRef { node: node.clone(), output })),
        false => tensor,
    };
    outputs.into_iter().enumerate().map(place).collect()
}

/// Records an operation that cannot be differentiated: asking for a gradient through it is an error, never a silent cut.
pub(crate) fn record_without_backward(op: &'static str, output: Tensor, inputs: &[&Tensor]) -> Tensor {
    record(op, output, inputs, move |_, _| Err(crate::Error::NoBackward { op }))
}

/// As [`record_without_backward`], with several outputs.
pub(crate) fn record_many_without_backward(op: &'static str, outputs: Vec<Tensor>, inputs: &[&Tensor]) -> Vec<Tensor> {
    record_many(op, outputs, inputs, move |_, _| Err(crate::Error::NoBackward { op }))
}

/// Whether an operation on these inputs is to be recorded.
pub(crate) fn tracks(inputs: &[&Tensor]) -> bool {
    is_recording() && inputs.iter().any(|t| t.grad_ref().is_some())
}

fn node(op: &'static str, inputs: &[&Tensor], backward: Arc<Backward>) -> Arc<Node> {
    let inputs = inputs.iter().map(|t| t.grad_ref().cloned()).collect();
    Arc::new(Node { id: unique_id(), op, inputs: Mutex::new(inputs), kind: NodeKind::Op(Mutex::new(Some(backward))) })
}
