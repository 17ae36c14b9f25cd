//! Pooling, interpolation, sampling.

use serde::de::DeserializeOwned;
use wgrad::{GridPadding, Interpolation, Pool};

use crate::args::{Args, Op, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "max_pool1d" => |a| out(a.t("x")?.max_pool1d(&pool(a)?)),
        "max_pool2d" => |a| out(a.t("x")?.max_pool2d(&pool(a)?)),
        "avg_pool1d" => |a| out(a.t("x")?.avg_pool1d(&pool(a)?)),
        "avg_pool2d" => |a| out(a.t("x")?.avg_pool2d(&pool(a)?)),
        "adaptive_avg_pool1d" => |a| out(a.t("x")?.adaptive_avg_pool1d(a.get::<[usize; 1]>("size")?[0])),
        "adaptive_avg_pool2d" => |a| out(a.t("x")?.adaptive_avg_pool2d(a.get("size")?)),
        "interpolate" => |a| {
            let align_corners = a.get::<Option<bool>>("align_corners")?.unwrap_or(false);
            let how = match a.get::<String>("mode")?.as_str() {
                "nearest" => Interpolation::Nearest,
                "bilinear" => Interpolation::Linear { align_corners },
                "bicubic" => Interpolation::Cubic { align_corners },
                other => return Err(format!("interpolation {other}").into()),
            };
            out(a.t("x")?.interpolate(&a.get::<Vec<usize>>("size")?, how))
        },
        "grid_sample" => |a| {
            let padding = match a.get::<String>("padding_mode")?.as_str() {
                "zeros" => GridPadding::Zeros,
                "border" => GridPadding::Border,
                other => return Err(format!("padding {other}").into()),
            };
            out(a.t("x")?.grid_sample(a.t("grid")?, padding, a.get("align_corners")?))
        },
        _ => return None,
    };
    Some(op)
}

fn pool<const D: usize>(a: &Args) -> Fallible<Pool<D>>
where
    [usize; D]: DeserializeOwned,
{
    Ok(Pool {
        stride: a.get("stride")?,
        padding: a.get("padding")?,
        dilation: a.get::<Option<[usize; D]>>("dilation")?.unwrap_or([1; D]),
        ceil_mode: a.get("ceil_mode")?,
        count_include_pad: a.get::<Option<bool>>("count_include_pad")?.unwrap_or(true),
        ..Pool::new(a.get("kernel")?)
    })
}
