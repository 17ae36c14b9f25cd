//! Normalization with gain and bias.

use wgrad::Tensor;

use crate::args::{Args, Op, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "layer_norm" => |a| {
            let shape: Vec<usize> = a.get("normalized_shape")?;
            out(a.t("x")?.layer_norm(gain(a, &shape)?.as_ref(), a.opt("bias"), a.get("eps")?))
        },
        "rms_norm" => |a| out(a.t("x")?.rms_norm(a.opt("weight"), a.get("eps")?)),
        _ => return None,
    };
    Some(op)
}

/// The gain says how many dimensions are normalized, so that ones stand in for an absent one over several.
fn gain(a: &Args, shape: &[usize]) -> Fallible<Option<Tensor>> {
    let x = a.t("x")?;
    Ok(match a.opt("weight") {
        Some(weight) => Some(weight.clone()),
        None if shape.len() > 1 => Some(Tensor::ones(shape, x.dtype(), x.device())?),
        None => None,
    })
}
