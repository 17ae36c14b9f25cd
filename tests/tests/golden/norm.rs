//! Normalization with gain and bias.

use wgrad::Tensor;
use wgrad::nn::{BatchNorm, Build};

use crate::args::{Args, Op, Outputs, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "layer_norm" => |a| {
            let shape: Vec<usize> = a.get("normalized_shape")?;
            out(a.t("x")?.layer_norm(gain(a, &shape)?.as_ref(), a.opt("bias"), a.get("eps")?))
        },
        "rms_norm" => |a| out(a.t("x")?.rms_norm(a.opt("weight"), a.get("eps")?)),
        "group_norm" => {
            |a| out(a.t("x")?.group_norm(a.get("num_groups")?, a.opt("weight"), a.opt("bias"), a.get("eps")?))
        }
        "instance_norm" => |a| out(a.t("x")?.instance_norm(a.opt("weight"), a.opt("bias"), a.get("eps")?)),
        "batch_norm" => batch_norm,
        "normalize" => |a| out(a.t("x")?.normalize(a.get("p")?, a.dim()?, a.get("eps")?)),
        "weight_norm" => |a| out(a.t("v")?.weight_norm(a.t("g")?, a.dim()?)),
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

/// The averages are those of a layer that has seen the batch once.
fn batch_norm(a: &Args) -> Fallible<Outputs> {
    let (x, weight, bias) = (a.t("x")?, a.opt("weight"), a.opt("bias"));
    let (mean, var) = (a.t("running_mean")?, a.t("running_var")?);
    if !a.get::<bool>("training")? {
        return out(x.batch_norm_by(mean, var, weight, bias, a.get("eps")?));
    }
    let layer = BatchNorm::new(mean.elements(), a.get("momentum")?, a.get("eps")?, &Build::new(x.device()))?;
    layer.running_mean.set(mean)?;
    layer.running_var.set(var)?;
    layer.forward(&x.detach())?;
    let mut outputs = out(x.batch_norm(weight, bias, a.get("eps")?))?;
    let averages = [("new_mean", &layer.running_mean), ("new_var", &layer.running_var)];
    outputs.extend(averages.map(|(name, average)| (name.to_string(), average.tensor())));
    Ok(outputs)
}
