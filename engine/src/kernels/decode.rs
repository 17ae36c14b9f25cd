//! Kernels of caches: appending, and attention in splits.

use super::attention::{Aux, by_heads, fours};
use super::{flag, gpu_of, groups, size};
use crate::cache::{Pages, Places};
use crate::device::gpu::{Bind, Launch, Operand};
use crate::mask::Pairs;
use crate::ops::attention::Plan;
use crate::ops::decode::Operands;
use crate::plane::Plane;
use crate::snippet::Filled;
use crate::{DType, Dims, Error, Result, Tensor};

/// Keys of a workgroup, as in `shaders/attention/decode.wgsl`.
const SPLIT: usize = 256;
/// Rows of a workgroup, at most.
const ROWS: usize = 8;
/// Columns of the values of a workgroup.
const COLUMNS: usize = 256;

fn words<'a>(op: &'static str, places: &'a Places) -> Result<&'a Tensor> {
    places.words.as_ref().ok_or_else(|| Error::argument(op, "places of a CPU cache reached a GPU kernel"))
}

/// Writes the new rows of keys and values into pages.
pub(crate) fn append(op: &'static str, pages: &Pages, rows: [&Tensor; 2], places: &Places) -> Result<()> {
    for (x, plane) in rows.into_iter().zip([&pages.key, &pages.value]) {
        append_rows(op, x, plane, pages.size, places)?;
    }
    Ok(())
}

fn append_rows(op: &'static str, x: &Tensor, plane: &Plane, page: usize, places: &Places) -> Result<()> {
    let &[batch, heads, rows, width] = x.shape() else {
        return Err(Error::shape(op, format!("rows of shape {:?}", x.shape())));
    };
    let layout = x.layout();
    let mut params = Vec::with_capacity(11);
    for n in [batch, heads, rows, width, page, places.table_width(), layout.offset] {
        params.push(size(op, n)?);
    }
    for dim in 0..4 {
        params.push(size(op, layout.strides[dim])?);
    }
    let written = plane.dtype().gpu_bytes(batch * heads * rows * width.next_multiple_of(4));
    gpu_of(op, x)?.run(Launch {
        kernel: "attention/append",
        elems: &[("x", x.dtype()), ("pages", plane.dtype())],
        constants: &[],
        bind: &[
            Bind::Read(x.gpu_buffer(op)?),
            Bind::Read(words(op, places)?.gpu_buffer(op)?),
            Bind::Write(Operand::new(plane.gpu()?, written)),
        ],
        params: bytemuck::cast_slice(&params),
        groups: groups(batch * heads * rows * width.div_ceil(4)),
    })
}

/// The result [batch, heads, queries, value_dim], in the dtype of the query.
pub(crate) fn decode(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    pages: &Pages,
    places: &Places,
) -> Result<Tensor> {
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    let query = fours(&operands.query)?;
    let Aux { tensor, bias, starts } = Aux::new(&operands.bias, &[&operands.relative, &operands.sinks])?;
    let [relative, sinks] = [0, 1].map(|at: usize| starts.get(at).copied().unwrap_or_default());
    // Something must be bound for what is absent; it is not read.
    let aux = tensor.unwrap_or_else(|| query.clone());
    let places_words = words(op, places)?;
    let mask = operands.mask.as_ref().unwrap_or(places_words);
    let (d4, dv4) = (query.shape()[3] / 4, plan.value_dim.div_ceil(4));
    let splits = keys.div_ceil(SPLIT);

    let mut params = Vec::with_capacity(21);
    let layout = query.layout();
    for n in [batch, heads, plan.group(), queries, keys, splits, pages.size, places.table_width(), layout.offset / 4] {
        params.push(size(op, n)?);
    }
    for dim in 0..3 {
        params.push(size(op, layout.strides[dim] / 4)?);
    }
    let entries = operands.relative.as_ref().map_or(0, |x| x.shape()[1]);
    for n in bias.into_iter().chain([relative, entries]) {
        params.push(size(op, n)?);
    }
    params.push((plan.scale as f32).to_bits());
    params.push((plan.softcap.unwrap_or(1.0) as f32).to_bits());

    // Room for as many splits as the capacity has, so that it is the same memory while the cache is not grown.
    let most = (pages.size * places.table_width().max(1)).div_ceil(SPLIT);
    let (rows, device) = (batch * heads * queries, query.device());
    let floats = |n: usize| Tensor::gpu_uninit(op, Dims::new(op, &[n])?, DType::F32, device);
    let partial = floats(rows * most * 4 * dv4)?;
    let stats = floats(rows * most * 2)?;
    let together = (plan.group() * queries).next_power_of_two().min(ROWS);
    let blocks = (plan.group() * queries).div_ceil(together);
    let (dtype, kept) = (query.dtype(), pages.dtype());
    // What a step reads of the cache at most.
    let read = |plane: &Plane, width: usize| plane.dtype().gpu_bytes(batch * plan.key_heads * keys * width);
    let gpu = gpu_of(op, &query)?;
    let launch = Launch {
        kernel: Filled {
            kernel: "attention/decode",
            visible: operands.visible.as_ref().map(|code| code.text),
            score: None,
        }
        .name(),
        elems: &[("q", dtype), ("k", kept), ("v", kept), ("aux", aux.dtype())],
        constants: &[
            ("D4", d4 as f64),
            ("DV4", dv4 as f64),
            ("ROWS", together as f64),
            ("KINDS", f64::from(plan.kinds)),
            ("HAS_SOFTCAP", flag(plan.softcap.is_some())),
            ("HAS_BIAS", flag(operands.bias.is_some())),
            ("HAS_RELATIVE", flag(operands.relative.is_some())),
        ],
        bind: &[
            Bind::Read(query.gpu_buffer(op)?),
            Bind::Read(Operand::new(pages.key.gpu()?, read(&pages.key, 4 * d4))),
            Bind::Read(Operand::new(pages.value.gpu()?, read(&pages.value, 4 * dv4))),
            Bind::Read(aux.gpu_buffer(op)?),
            Bind::Read(mask.gpu_buffer(op)?),
            Bind::Read(places_words.gpu_buffer(op)?),
            Bind::Write(partial.gpu_buffer(op)?),
            Bind::Write(stats.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: (batch * plan.key_heads * blocks * splits * (4 * dv4).div_ceil(COLUMNS)) as u64,
    };
    gpu.run_counted(launch, plan.operations(1, 1))?;
    let out = Tensor::gpu_uninit(op, Dims::new(op, &[batch, queries, heads, 4 * dv4])?, dtype, device)?;
    let mut params = Vec::with_capacity(6);
    for n in [rows, heads, queries, splits, dv4, sinks] {
        params.push(size(op, n)?);
    }
    gpu.run(Launch {
        kernel: "attention/merge",
        elems: &[("aux", aux.dtype()), ("o", dtype)],
        constants: &[("HAS_SINKS", flag(operands.sinks.is_some()))],
        bind: &[
            Bind::Read(partial.gpu_buffer(op)?),
            Bind::Read(stats.gpu_buffer(op)?),
            Bind::Read(aux.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::cast_slice(&params),
        groups: groups(rows * dv4),
    })?;
    by_heads(&out, plan.value_dim)
}
