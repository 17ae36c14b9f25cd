//! Selecting, scattering, joining, padding, sorting.

use wgrad::{PadMode, Tensor};

use crate::args::{Op, out, ranked};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "embedding" => |a| out(a.t("weight")?.embedding(a.t("ids")?, a.get("padding_idx")?)),
        "gather" => |a| out(a.t("x")?.gather(a.dim()?, a.t("index")?)),
        "scatter" => |a| out(a.t("x")?.scatter(a.dim()?, a.t("index")?, a.t("src")?)),
        "scatter_add" => |a| out(a.t("x")?.scatter_add(a.dim()?, a.t("index")?, a.t("src")?)),
        "index_select" => |a| out(a.t("x")?.index_select(a.dim()?, a.t("index")?)),
        "index_add" => |a| out(a.t("x")?.index_add(a.dim()?, a.t("index")?, a.t("src")?)),
        "concat" => |a| out(Tensor::concat(&a.numbered("x"), a.dim()?)),
        "stack" => |a| out(Tensor::stack(&a.numbered("x"), a.dim()?)),
        "pad" => |a| {
            let mode = match a.get::<String>("mode")?.as_str() {
                "constant" => PadMode::Constant(a.get("value")?),
                "reflect" => PadMode::Reflect,
                "replicate" => PadMode::Replicate,
                other => return Err(format!("padding mode {other}").into()),
            };
            out(a.t("x")?.pad(&a.get::<Vec<(isize, isize)>>("pads")?, mode))
        },
        "flip" => |a| out(a.t("x")?.flip(&a.dims()?)),
        "roll" => |a| out(a.t("x")?.roll(a.get("shift")?, a.dim()?)),
        "repeat" => |a| out(a.t("x")?.repeat(&a.get::<Vec<usize>>("repeats")?)),
        "repeat_interleave" => |a| out(a.t("x")?.repeat_interleave(a.get("repeats")?, a.dim()?)),
        "one_hot" => |a| out(a.t("ids")?.one_hot(a.get("num_classes")?)),
        "sort" => |a| ranked(a.t("x")?.sort(a.dim()?, a.get("descending")?)?),
        "argsort" => |a| out(a.t("x")?.argsort(a.dim()?, a.get("descending")?)),
        "topk" => |a| ranked(a.t("x")?.topk(a.get("k")?, a.dim()?, a.get("largest")?)?),
        _ => return None,
    };
    Some(op)
}
