//! Attention and rotary positions.

use wgrad::nn::{log_bucket, relative_bucket};
use wgrad::{AttentionOptions, Mask, Tensor};

use crate::args::{Op, out};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "sdpa" => |a| {
            let mut mask = Mask::from(a.opt("mask").cloned());
            if let Some(offset) = a.get("causal_offset")? {
                mask = mask.and(Mask::causal(offset));
            }
            if let Some((left, right)) = a.get("window")? {
                mask = mask.and(Mask::window(left, right));
            }
            let (scale, softcap) = (a.get("scale")?, a.get("softcap")?);
            let bias = a.opt("bias").cloned();
            let options = AttentionOptions { scale, mask, bias, softcap, ..Default::default() };
            out(a.t("q")?.attention(a.t("k")?, a.t("v")?, &options))
        },
        "deberta_log_bucket" => |a| {
            let (buckets, most) = (a.get("bucket_size")?, a.get("max_position")?);
            let rel = a.t("rel")?;
            let bucket = |d: f64| log_bucket(d as i64, buckets, most) as i32;
            let values = rel.to_f64_vec()?.into_iter().map(bucket).collect();
            out(Tensor::from_vec(values, rel.shape(), rel.device()))
        },
        "t5_relative_bucket" | "mpnet_relative_bucket" => |a| {
            let (buckets, most) = (a.get("num_buckets")?, a.get("max_distance")?);
            let both = a.get::<Option<bool>>("bidirectional")?.unwrap_or(true);
            let rel = a.t("rel")?;
            let bucket = |d: f64| relative_bucket(d as i64, buckets, most, both) as i32;
            let values = rel.to_f64_vec()?.into_iter().map(bucket).collect();
            out(Tensor::from_vec(values, rel.shape(), rel.device()))
        },
        "rotary" => |a| {
            let (theta, dim, interleaved) = (a.get("theta")?, a.get("rotary_dim")?, a.get("interleaved")?);
            out(a.t("x")?.rotary(a.t("positions")?, theta, dim, interleaved))
        },
        _ => return None,
    };
    Some(op)
}
