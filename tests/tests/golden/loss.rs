//! Losses.

use wgrad::nn::loss;
use wgrad::{CrossEntropy, CtcLoss, Reduction, Tensor};

use crate::args::{Args, Op, Outputs, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "cross_entropy" => cross_entropy,
        "ctc_loss" => ctc_loss,
        "nll_loss" => |a| out(loss::nll(a.t("x")?, a.t("target")?, reduction(a)?)),
        "bce_with_logits" => |a| {
            let (weight, pos_weight) = (a.opt("weight"), a.opt("pos_weight"));
            out(loss::bce_with_logits(a.t("x")?, a.t("target")?, weight, pos_weight, reduction(a)?))
        },
        "kl_div" => |a| {
            let x = a.t("x")?;
            let value = loss::kl_div(x, a.t("target")?, a.get("log_target")?, reduction(a)?)?;
            match a.get::<String>("reduction")?.as_str() {
                "batchmean" => out(value.mul_scalar(1.0 / x.shape()[0] as f64)),
                _ => out(Ok(value)),
            }
        },
        "mse_loss" => |a| out(loss::mse(a.t("x")?, a.t("target")?, reduction(a)?)),
        "l1_loss" => |a| out(loss::l1(a.t("x")?, a.t("target")?, reduction(a)?)),
        "smooth_l1" => |a| out(loss::smooth_l1(a.t("x")?, a.t("target")?, a.get("beta")?, reduction(a)?)),
        "huber" => |a| out(loss::huber(a.t("x")?, a.t("target")?, a.get("delta")?, reduction(a)?)),
        "cosine_similarity" => |a| out(loss::cosine_similarity(a.t("x")?, a.t("y")?, a.dim()?, a.get("eps")?)),
        _ => return None,
    };
    Some(op)
}

fn reduction(a: &Args) -> Fallible<Reduction> {
    match a.get::<String>("reduction")?.as_str() {
        "mean" => Ok(Reduction::Mean),
        "sum" | "batchmean" => Ok(Reduction::Sum),
        "none" => Ok(Reduction::None),
        other => Err(format!("reduction {other}").into()),
    }
}

/// The fixtures have the classes in dimension 1, the engine has them last.
fn cross_entropy(a: &Args) -> Fallible<Outputs> {
    let (x, targets) = (a.t("x")?, a.t("target")?);
    if targets.dtype().is_float() {
        return out(loss::soft_cross_entropy(x, targets, reduction(a)?));
    }
    let axes: Vec<isize> = [0].into_iter().chain(2..x.rank() as isize).chain([1]).collect();
    let logits: Tensor = if x.rank() > 2 { x.permute(&axes)? } else { x.clone() };
    let options = CrossEntropy {
        ignore_index: a.get("ignore_index")?,
        label_smoothing: a.get("label_smoothing")?,
        class_weight: a.opt("weight").cloned(),
        row_weight: None,
        reduction: reduction(a)?,
    };
    out(logits.cross_entropy(targets, &options))
}

fn ctc_loss(a: &Args) -> Fallible<Outputs> {
    let lengths =
        |name: &str| -> Fallible<Vec<usize>> { Ok(a.t(name)?.to_f64_vec()?.into_iter().map(|n| n as usize).collect()) };
    let options = CtcLoss { blank: a.get("blank")?, reduction: reduction(a)?, zero_infinity: a.get("zero_infinity")? };
    let (times, labels) = (lengths("input_lengths")?, lengths("target_lengths")?);
    out(a.t("logits")?.log_softmax(-1)?.ctc_loss(a.t("targets")?, &times, &labels, &options))
}
