//! Attention and rotary positions.

use wgrad::AttentionOptions;

use crate::args::{Op, out};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "sdpa" => |a| {
            let options = AttentionOptions {
                scale: a.get("scale")?,
                causal_offset: a.get("causal_offset")?,
                window: a.get("window")?,
                mask: a.opt("mask").cloned(),
                bias: a.opt("bias").cloned(),
                softcap: a.get("softcap")?,
                dropout: 0.0,
            };
            out(a.t("q")?.attention(a.t("k")?, a.t("v")?, &options))
        },
        "rotary" => |a| {
            let (theta, dim, interleaved) = (a.get("theta")?, a.get("rotary_dim")?, a.get("interleaved")?);
            out(a.t("x")?.rotary(a.t("positions")?, theta, dim, interleaved))
        },
        _ => return None,
    };
    Some(op)
}
