//! Unary, binary and ternary operations, element by element.

use wgrad::Tensor;

use crate::args::{Op, out};

pub fn find(op: &str) -> Option<Op> {
    binary(op).or_else(|| unary(op)).or_else(|| with_attributes(op))
}

fn binary(op: &str) -> Option<Op> {
    let op: Op = match op {
        "add" => |a| out(a.t("a")?.add(a.t("b")?)),
        "sub" => |a| out(a.t("a")?.sub(a.t("b")?)),
        "mul" => |a| out(a.t("a")?.mul(a.t("b")?)),
        "div" => |a| out(a.t("a")?.div(a.t("b")?)),
        "pow" => |a| out(a.t("a")?.pow(a.t("b")?)),
        "minimum" => |a| out(a.t("a")?.minimum(a.t("b")?)),
        "maximum" => |a| out(a.t("a")?.maximum(a.t("b")?)),
        "eq" => |a| out(a.t("a")?.eq(a.t("b")?)),
        "ne" => |a| out(a.t("a")?.ne(a.t("b")?)),
        "lt" => |a| out(a.t("a")?.lt(a.t("b")?)),
        "le" => |a| out(a.t("a")?.le(a.t("b")?)),
        "gt" => |a| out(a.t("a")?.gt(a.t("b")?)),
        "ge" => |a| out(a.t("a")?.ge(a.t("b")?)),
        "where" => |a| out(Tensor::where_cond(a.t("cond")?, a.t("a")?, a.t("b")?)),
        _ => return None,
    };
    Some(op)
}

fn unary(op: &str) -> Option<Op> {
    let op: Op = match op {
        "neg" => |a| out(a.t("x")?.neg()),
        "abs" => |a| out(a.t("x")?.abs()),
        "sign" => |a| out(a.t("x")?.sign()),
        "exp" => |a| out(a.t("x")?.exp()),
        "expm1" => |a| out(a.t("x")?.expm1()),
        "log" => |a| out(a.t("x")?.log()),
        "log1p" => |a| out(a.t("x")?.log1p()),
        "sqrt" => |a| out(a.t("x")?.sqrt()),
        "rsqrt" => |a| out(a.t("x")?.rsqrt()),
        "reciprocal" => |a| out(a.t("x")?.reciprocal()),
        "square" => |a| out(a.t("x")?.square()),
        "sin" => |a| out(a.t("x")?.sin()),
        "cos" => |a| out(a.t("x")?.cos()),
        "tanh" => |a| out(a.t("x")?.tanh()),
        "sigmoid" => |a| out(a.t("x")?.sigmoid()),
        "erf" => |a| out(a.t("x")?.erf()),
        "gelu" => |a| out(a.t("x")?.gelu()),
        "gelu_tanh" => |a| out(a.t("x")?.gelu_tanh()),
        "quick_gelu" => |a| out(a.t("x")?.quick_gelu()),
        "silu" => |a| out(a.t("x")?.silu()),
        "relu" => |a| out(a.t("x")?.relu()),
        "relu_squared" => |a| out(a.t("x")?.relu_squared()),
        "softplus" => |a| out(a.t("x")?.softplus()),
        "logsigmoid" => |a| out(a.t("x")?.log_sigmoid()),
        "hardswish" => |a| out(a.t("x")?.hard_swish()),
        "mish" => |a| out(a.t("x")?.mish()),
        "floor" => |a| out(a.t("x")?.floor()),
        "ceil" => |a| out(a.t("x")?.ceil()),
        "round" => |a| out(a.t("x")?.round()),
        _ => return None,
    };
    Some(op)
}

fn with_attributes(op: &str) -> Option<Op> {
    let op: Op = match op {
        "pow_scalar" => |a| out(a.t("x")?.pow_scalar(a.get("exponent")?)),
        "leaky_relu" => |a| out(a.t("x")?.leaky_relu(a.get("negative_slope")?)),
        "elu" => |a| out(a.t("x")?.elu(a.get("alpha")?)),
        "clamp" => |a| out(a.t("x")?.clamp(a.get("min")?, a.get("max")?)),
        "masked_fill" => |a| {
            let value = match a.get::<String>("value").as_deref() {
                Ok("-inf") => f64::NEG_INFINITY,
                _ => a.get("value")?,
            };
            let filled = a.t("x")?.masked_fill(a.t("mask")?, value)?;
            match a.get::<Option<String>>("then")?.as_deref() {
                None => out(Ok(filled)),
                Some("exp") => out(filled.exp()),
                Some(other) => Err(format!("attribute then: {other} is not known").into()),
            }
        },
        "tril" => |a| out(a.t("x")?.tril(a.get("diagonal")?)),
        "triu" => |a| out(a.t("x")?.triu(a.get("diagonal")?)),
        "glu" => |a| out(a.t("x")?.glu(a.dim()?)),
        _ => return None,
    };
    Some(op)
}
