//! Convolutions.

use serde::de::DeserializeOwned;
use wgrad::Conv;

use crate::args::{Args, Op, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "conv1d" => |a| out(a.t("x")?.conv1d(a.t("weight")?, a.opt("bias"), &options(a)?)),
        "conv2d" => |a| out(a.t("x")?.conv2d(a.t("weight")?, a.opt("bias"), &options(a)?)),
        "conv_transpose1d" => |a| out(a.t("x")?.conv_transpose1d(a.t("weight")?, a.opt("bias"), &options(a)?)),
        "conv_transpose2d" => |a| out(a.t("x")?.conv_transpose2d(a.t("weight")?, a.opt("bias"), &options(a)?)),
        _ => return None,
    };
    Some(op)
}

fn options<const D: usize>(a: &Args) -> Fallible<Conv<D>>
where
    [usize; D]: DeserializeOwned,
{
    Ok(Conv {
        stride: a.get("stride")?,
        padding: a.get("padding")?,
        dilation: a.get("dilation")?,
        groups: a.get("groups")?,
        output_padding: a.get::<Option<[usize; D]>>("output_padding")?.unwrap_or([0; D]),
    })
}
