//! Reductions, scans, softmax and norms over dimensions.

use crate::args::{Op, out, ranked};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "sum" => |a| out(a.t("x")?.sum(&a.dims()?, a.keepdim()?)),
        "mean" => |a| out(a.t("x")?.mean(&a.dims()?, a.keepdim()?)),
        "amax" => |a| out(a.t("x")?.max(&a.dims()?, a.keepdim()?)),
        "amin" => |a| out(a.t("x")?.min(&a.dims()?, a.keepdim()?)),
        "prod" => |a| out(a.t("x")?.prod(&[a.dim()?], a.keepdim()?)),
        "var" => |a| out(a.t("x")?.var(&a.dims()?, a.get("correction")?, a.keepdim()?)),
        "std" => |a| out(a.t("x")?.std(&a.dims()?, a.get("correction")?, a.keepdim()?)),
        "logsumexp" => |a| out(a.t("x")?.logsumexp(&a.dims()?, a.keepdim()?)),
        "norm" => |a| out(a.t("x")?.norm(a.get("p")?, &a.dims()?, a.keepdim()?)),
        "any" => |a| out(a.t("x")?.any(&a.dims()?, a.keepdim()?)),
        "all" => |a| out(a.t("x")?.all(&a.dims()?, a.keepdim()?)),
        "max_dim" => |a| ranked(a.t("x")?.max_dim(a.dim()?, a.keepdim()?)?),
        "min_dim" => |a| ranked(a.t("x")?.min_dim(a.dim()?, a.keepdim()?)?),
        "argmax" => |a| out(a.t("x")?.argmax(a.dim()?, a.keepdim()?)),
        "argmin" => |a| out(a.t("x")?.argmin(a.dim()?, a.keepdim()?)),
        "cumsum" => |a| out(a.t("x")?.cumsum(a.dim()?)),
        "cumprod" => |a| out(a.t("x")?.cumprod(a.dim()?)),
        "softmax" => |a| out(a.t("x")?.softmax(a.dim()?)),
        "log_softmax" => |a| out(a.t("x")?.log_softmax(a.dim()?)),
        _ => return None,
    };
    Some(op)
}
