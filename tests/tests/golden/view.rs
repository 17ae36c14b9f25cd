//! Views.

use crate::args::{Op, out};

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "reshape" => |a| out(a.t("x")?.reshape(&a.get::<Vec<isize>>("shape")?)),
        "permute" => |a| out(a.t("x")?.permute(&a.dims()?)),
        "expand" => |a| out(a.t("x")?.expand(&a.get::<Vec<usize>>("shape")?)),
        "unfold" => |a| out(a.t("x")?.unfold(a.dim()?, a.get("size")?, a.get("step")?)),
        "slice" => |a| {
            let ranges: Vec<[usize; 3]> = a.get("ranges")?;
            let cut = |(x, dim), [start, stop, step]: [usize; 3]| {
                let x: wgrad::Tensor = x;
                Ok((x.slice(dim, start, stop, step)?, dim + 1))
            };
            out(ranges.into_iter().try_fold((a.t("x")?.clone(), 0), cut).map(|(x, _)| x))
        },
        _ => return None,
    };
    Some(op)
}
