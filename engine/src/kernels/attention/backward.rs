//! Backward: the kernels that compute scores again, one over the keys of queries, one over the queries of keys, one for what is added to
//! scores.

use super::operands::by_rows;
use super::units::{self, UNITS};
use super::{Call, TILE, by_heads, choose, parts, work};
use crate::device::gpu::{Bind, Launch};
use crate::kernels::{groups, size};
use crate::layout::Dims;
use crate::mask::Pairs;
use crate::mask::steps::Side;
use crate::ops::attention::{Grads, Operands, Plan, Wants};
use crate::{DType, Result, Tensor};

/// The gradients, and `delta` [batch, heads, queries].
pub(crate) fn backward(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    out: &Tensor,
    log_sums: &Tensor,
    d_out: &Tensor,
    wants: Wants,
) -> Result<(Grads, Tensor)> {
    let call = Call::new(op, operands, plan)?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let (gpu, device) = (call.gpu()?, out.device());
    let floats = |shape: &[usize]| Tensor::gpu_uninit(op, Dims::new(op, shape)?, DType::F32, device);
    let (out, d_out) = (by_rows(out)?, by_rows(d_out)?);
    let elems = [("o", out.dtype()), ("d_o", d_out.dtype())];
    let stats = floats(&[batch, heads, queries, 2])?;
    let rows = batch * heads * queries;
    gpu.run(Launch {
        kernel: "attention/delta",
        elems: &elems,
        constants: &[],
        bind: &[
            Bind::Read(out.gpu_buffer(op)?),
            Bind::Read(d_out.gpu_buffer(op)?),
            Bind::Read(log_sums.gpu_buffer(op)?),
            Bind::Write(stats.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&[size(op, rows)?, size(op, heads)?, size(op, queries)?, size(op, call.dv4)?]),
        groups: groups(rows),
    })?;
    let elems = &elems[1..];
    let run = |kernel, constants: &[(&'static str, f64)], to: &Tensor, groups: u64, operations: u64| {
        let bind =
            [Bind::Read(d_out.gpu_buffer(op)?), Bind::Read(stats.gpu_buffer(op)?), Bind::Write(to.gpu_buffer(op)?)];
        call.run(kernel, constants, elems, &bind, groups, operations)
    };
    let halves = d_out.dtype() == DType::F16 && call.query.dtype() == DType::F16;
    let variant_of = |side| match units::fit(gpu, &call, plan, side, call.d4.max(call.dv4), halves) {
        true => &UNITS,
        false => choose(gpu.caps(), plan, side),
    };
    let mut grads = Grads::default();
    let products = [call.d4, call.dv4];
    if wants.query {
        let variant = variant_of(Side::Query);
        let parts = call.parts(gpu.caps(), plan, Side::Query, variant, &products);
        let dq = floats(&parts::shape(op, parts, &[batch, queries, heads, 4 * call.d4])?)?;
        let work = work(plan, Side::Query, variant, call.d4, parts);
        run(variant.query, &call.constants(plan, Side::Query, variant, parts), &dq, work, plan.operations(2, 1))?;
        grads.query = Some(by_heads(&parts::summed(parts, dq)?, plan.head_dim)?);
    }
    if wants.key_value {
        let heads = plan.key_heads;
        let rows = batch * keys * heads;
        let variant = variant_of(Side::Key);
        let parts = call.parts(gpu.caps(), plan, Side::Key, variant, &products);
        let both = floats(&[4 * parts * rows * (call.d4 + call.dv4)])?;
        let work = work(plan, Side::Key, variant, call.d4.max(call.dv4), parts);
        run(variant.key_value, &call.constants(plan, Side::Key, variant, parts), &both, work, plan.operations(2, 2))?;
        let part = |start: usize, width: usize| {
            let shape = parts::shape(op, parts, &[batch, keys, heads, width])?;
            let shape: Vec<isize> = shape.iter().map(|&n| n as isize).collect();
            parts::summed(parts, both.narrow(0, parts * start, parts * rows * width)?.reshape(&shape)?)
        };
        grads.key = Some(by_heads(&part(0, 4 * call.d4)?, plan.head_dim)?);
        grads.value = Some(by_heads(&part(4 * rows * call.d4, 4 * call.dv4)?, plan.value_dim)?);
    }
    let [rows, columns] = [queries, keys].map(|n| n.div_ceil(TILE));
    let heads = batch * heads;
    let parts = call.parts_of_sums(gpu.caps(), plan);
    let sums = |over: f64, shape: &[usize], owners: usize| {
        // What is stored once has no parts.
        let of = if over == 0.0 { 1 } else { parts };
        let to = floats(&parts::shape(op, of, shape)?)?;
        if over >= 3.0 {
            gpu.fill(to.gpu_storage(op)?, 0)?;
        }
        let constants = [("OVER", over), ("PARTS", parts as f64)];
        run("attention/score_sums", &constants, &to, (parts * heads * owners) as u64, plan.operations(1, 1))?;
        parts::summed(of, to)
    };
    let of_heads = |length: usize, width: usize| [batch, plan.pairs.heads, length, width];
    if let Some(one_row) = wants.bias {
        let (over, length, owners) = if one_row { (1.0, 1, columns) } else { (0.0, queries, rows) };
        grads.bias = Some(sums(over, &of_heads(length, keys), owners)?);
    }
    if wants.relative {
        let diagonals = rows + columns - 1;
        let halves = sums(2.0, &[batch, plan.pairs.heads, diagonals, 2, TILE], diagonals)?;
        // Diagonals of tiles overlap by half: the second half of each belongs to the first of the next.
        let none = Tensor::zeros(&of_heads(1, TILE), DType::F32, device)?;
        let first = Tensor::concat(&[&halves.select(3, 0)?, &none], 2)?;
        let all = first.add(&Tensor::concat(&[&none, &halves.select(3, 1)?], 2)?)?.flatten(2, 3)?;
        let of_pairs = all.narrow(2, TILE * rows - queries, queries + keys - 1)?;
        grads.relative = Some(of_pairs.sum(&[0], false)?);
    }
    for (wanted, over, length, owners, grad) in
        [(wants.c2p, 3.0, queries, rows, &mut grads.c2p), (wants.p2c, 4.0, keys, columns, &mut grads.p2c)]
    {
        if wanted {
            *grad = Some(sums(over, &of_heads(length, plan.buckets), owners)?);
        }
    }
    Ok((grads, stats.narrow(3, 1, 1)?.squeeze(3)?))
}
