//! Matrix products.

use wgrad::Tensor;

use crate::args::{Op, out};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "matmul" => |a| out(a.t("a")?.matmul(a.t("b")?)),
        "linear" => |a| out(a.t("x")?.linear(a.t("weight")?, a.opt("bias"))),
        "einsum" => |a| out(Tensor::einsum(&a.get::<String>("equation")?, &[a.t("a")?, a.t("b")?])),
        _ => return None,
    };
    Some(op)
}
