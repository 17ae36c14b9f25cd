//! Attention kernels: where the tensors lie, and which variant.

mod backward;
mod operands;
mod parts;
mod units;

use std::sync::Arc;

use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Caps, Gpu, Launch};
use crate::mask::Pairs;
use crate::mask::steps::Side;
use crate::ops::attention::{Operands, Plan};
use crate::snippet::Filled;
use crate::{DType, Result, Tensor};

pub(crate) use backward::backward;
pub(crate) use operands::pack_bits;
pub(super) use operands::{Aux, by_heads, fours};
use units::UNITS;
pub use units::force_attention_units;

/// Kernels for one kind of device.
struct Variant {
    forward: &'static str,
    query: &'static str,
    key_value: &'static str,
    /// Queries, or keys, of a workgroup.
    rows: usize,
}

impl Variant {
    /// Whether it is one for software drivers, whose workgroups are subgroups.
    fn is_lanes(&self) -> bool {
        self.query == LANES.query
    }
}

/// Columns of a workgroup, of the result or the gradient of the queries. More are computed in turns, each with all scores.
const COLUMNS: usize = 128;
/// The same of the gradients of keys and values, and of lists of keys.
const FEWER_COLUMNS: usize = 64;
/// Columns of a step, and queries and keys of a tile of `attention/score_sums.wgsl`.
const TILE: usize = 32;
const LANES: Variant = Variant {
    forward: "attention/forward_lanes",
    query: "attention/dq_lanes",
    key_value: "attention/dkv_lanes",
    rows: 16,
};
/// Of the forward alone, for long sequences of narrow heads whose scores are but scaled: with more to do for each row it would take a minute to
/// compile.
const WIDE: Variant = Variant { forward: "attention/forward_lanes_wide", rows: 32, ..LANES };
/// Queries from which on it is worth that.
const MANY_QUERIES: usize = 256;
const TILES: Variant =
    Variant { forward: "attention/forward", query: "attention/dq", key_value: "attention/dkv", rows: 32 };

const LISTS: Variant = Variant {
    forward: "attention/gather_forward",
    query: "attention/gather_dq",
    key_value: "attention/gather_dkv",
    rows: 1,
};

/// Kernels without matrix units.
fn choose(caps: &Caps, plan: &Plan, side: Side) -> &'static Variant {
    // Neighbouring queries may go over their lists together; neighbouring keys, which lists name at random, do not.
    if plan.lists.is_some() && !(plan.united && side == Side::Query) {
        return &LISTS;
    }
    if caps.software_lanes() == Some(8) { &LANES } else { &TILES }
}

/// The variant for the forward.
fn choose_forward(gpu: &Arc<Gpu>, call: &Call, plan: &Plan) -> &'static Variant {
    // Values of any width go by chunks.
    if units::fit(gpu, call, plan, Side::Query, call.d4, call.query.dtype() == DType::F16) {
        return &UNITS;
    }
    let (caps, fours) = (gpu.caps(), call.d4.max(call.dv4));
    let chosen = choose(caps, plan, Side::Query);
    let whole_blocks = plan.blocks.is_none_or(|layout| layout.query_block.is_multiple_of(WIDE.rows));
    let fits = chosen.forward == LANES.forward && 4 * fours <= COLUMNS / 2 && whole_blocks;
    if call.is_plain && fits && plan.pairs.queries >= MANY_QUERIES { &WIDE } else { chosen }
}

/// Workgroups for all queries, or all keys, so many fours of columns, and so many parts.
fn work(plan: &Plan, side: Side, variant: &Variant, fours: usize, parts: usize) -> u64 {
    let (length, heads, block) = match side {
        Side::Query => (plan.pairs.queries, plan.pairs.heads, plan.blocks.map(|layout| layout.query_block)),
        Side::Key => (plan.pairs.keys, plan.key_heads, plan.blocks.map(|layout| layout.key_block)),
    };
    let by_lists = variant.rows == LISTS.rows;
    let columns = if side == Side::Query && !by_lists { COLUMNS } else { FEWER_COLUMNS };
    let pieces = parts * plan.pairs.batch * heads * (4 * fours).div_ceil(columns);
    // The tiles as `tile_count` of `common/steps.wgsl` has them.
    match block {
        _ if by_lists => groups(pieces * length),
        None => (pieces * length.div_ceil(variant.rows)) as u64,
        Some(block) => (pieces * length.div_ceil(block) * (block / variant.rows)) as u64,
    }
}

/// One attention as the kernels take it: tensors in fours of elements, and `Params` of `common/attention.wgsl`.
struct Call {
    op: &'static str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    aux: Tensor,
    mask: Tensor,
    params: [u32; 32],
    constants: Vec<(&'static str, f64)>,
    /// Texts of the user.
    visible: Option<&'static str>,
    score: Option<&'static str>,
    /// Whether scores are but scaled, and all weights kept.
    is_plain: bool,
    /// Widths in fours.
    d4: usize,
    dv4: usize,
}

impl Call {
    fn new(op: &'static str, operands: &Operands, plan: &Plan) -> Result<Self> {
        let Pairs { batch, heads, queries, keys } = plan.pairs;
        let (query, key, value) = (fours(&operands.query)?, fours(&operands.key)?, fours(&operands.value)?);
        let Operands { bias, relative, sinks, c2p, p2c, .. } = operands;
        let Aux { tensor, bias, .. } = Aux::new(bias, &[relative, sinks, c2p, p2c])?;
        // Something must be bound for what is absent; it is not read.
        let aux = tensor.unwrap_or_else(|| query.clone());
        let (mask, buckets_start) = match (&operands.mask, &operands.buckets) {
            (None, None) => (query.clone(), 0),
            (Some(mask), None) => (mask.clone(), 0),
            (None, Some(buckets)) => (buckets.clone(), 0),
            (Some(mask), Some(buckets)) => (Tensor::concat(&[mask, buckets], 0)?, mask.elements()),
        };
        let mut params = Vec::with_capacity(32);
        for n in [batch, heads, plan.group(), queries, keys] {
            params.push(size(op, n)?);
        }
        for x in [&query, &key, &value] {
            params.push(size(op, x.layout().offset / 4)?);
            for dim in 0..3 {
                params.push(size(op, x.layout().strides[dim] / 4)?);
            }
        }
        for n in bias.into_iter().chain([plan.buckets, buckets_start]) {
            params.push(size(op, n)?);
        }
        params.push((plan.scale as f32).to_bits());
        params.push((plan.softcap.unwrap_or(1.0) as f32).to_bits());
        params.extend(plan.dropout.map_or([0; 6], |dropout| dropout.words()));
        let mut words = [0; 32];
        words.iter_mut().zip(&params).for_each(|(word, &param)| *word = param);
        let (d4, dv4) = (query.shape()[3] / 4, value.shape()[3] / 4);
        let constants = vec![
            ("D4", d4 as f64),
            ("DV4", dv4 as f64),
            ("KINDS", f64::from(plan.kinds)),
            ("HAS_LISTS", flag(plan.blocks.is_some() || plan.lists.is_some())),
            ("HAS_SCORE", flag(operands.score.is_some())),
            ("HAS_SOFTCAP", flag(plan.softcap.is_some())),
            ("HAS_BIAS", flag(operands.bias.is_some())),
            ("HAS_RELATIVE", flag(operands.relative.is_some())),
            ("HAS_SINKS", flag(operands.sinks.is_some())),
            ("HAS_C2P", flag(operands.c2p.is_some())),
            ("HAS_P2C", flag(operands.p2c.is_some())),
            ("HAS_DROPOUT", flag(plan.dropout.is_some())),
        ];
        let visible = operands.visible.as_ref().map(|code| code.text);
        let score = operands.score.as_ref().map(|score| score.text);
        let is_plain = [&operands.bias, relative, c2p, p2c].iter().all(|x| x.is_none())
            && score.is_none()
            && plan.softcap.is_none()
            && plan.dropout.is_none();
        Ok(Call { op, query, key, value, aux, mask, params: words, constants, visible, score, is_plain, d4, dv4 })
    }

    fn gpu(&self) -> Result<&Arc<Gpu>> {
        gpu_of(self.op, &self.query)
    }

    /// What kernels that go over the keys of queries, or the queries of keys, are told of parts, of lists that neighbours share, and on matrix units
    /// of widths.
    fn constants(&self, plan: &Plan, side: Side, variant: &Variant, parts: usize) -> Vec<(&'static str, f64)> {
        let mut constants = vec![("PARTS", parts as f64), ("HAS_UNIONS", flag(plan.united && side == Side::Query))];
        if variant.rows == UNITS.rows {
            constants.push(units::width(self));
        }
        constants
    }

    fn run(
        &self,
        kernel: &'static str,
        more_constants: &[(&'static str, f64)],
        more: &[(&'static str, DType)],
        bind: &[Bind],
        groups: u64,
        operations: u64,
    ) -> Result<()> {
        let op = self.op;
        let dtype = self.query.dtype();
        let mut elems = vec![("q", dtype), ("k", dtype), ("v", dtype), ("aux", dtype)];
        elems.extend_from_slice(more);
        if units::reads_halves(kernel) {
            elems.retain(|(name, _)| matches!(*name, "aux" | "o"));
        }
        let mut constants = self.constants.clone();
        constants.extend_from_slice(more_constants);
        let mut all = Vec::with_capacity(8);
        for x in [&self.query, &self.key, &self.value, &self.aux, &self.mask] {
            all.push(Bind::Read(x.gpu_buffer(op)?));
        }
        all.extend_from_slice(bind);
        let params = bytemuck::cast_slice(&self.params);
        let launch = Launch {
            kernel: Filled { kernel, visible: self.visible, score: self.score }.name(),
            elems: &elems,
            constants: &constants,
            bind: &all,
            params,
            groups,
        };
        gpu_of(op, &self.query)?.run_counted(launch, operations)
    }
}

/// The result [batch, heads, queries, value_dim] and the logarithms of the sums [batch, heads, queries].
pub(crate) fn forward(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    let call = Call::new(op, operands, plan)?;
    let Pairs { batch, heads, queries, .. } = plan.pairs;
    let (dtype, device) = (operands.query.dtype(), operands.query.device());
    let gpu = call.gpu()?;
    let variant = choose_forward(gpu, &call, plan);
    let parts = call.parts(gpu.caps(), plan, Side::Query, variant, &[call.d4]);
    let stored = if parts > 1 { DType::F32 } else { dtype };
    let shape = |shape: &[usize]| parts::shape(op, parts, shape);
    let mut out = Tensor::gpu_uninit(op, shape(&[batch, queries, heads, 4 * call.dv4])?, stored, device)?;
    let mut log_sums = Tensor::gpu_uninit(op, shape(&[batch, heads, queries])?, DType::F32, device)?;
    call.run(
        variant.forward,
        &call.constants(plan, Side::Query, variant, parts),
        &[("o", stored)],
        &[Bind::Write(out.gpu_buffer(op)?), Bind::Write(log_sums.gpu_buffer(op)?)],
        work(plan, Side::Query, variant, call.dv4, parts),
        plan.operations(1, 1),
    )?;
    if parts > 1 {
        (out, log_sums) = parts::joined(&out, &log_sums)?;
        out = out.cast(dtype)?;
    }
    Ok((by_heads(&out, plan.value_dim)?, log_sums))
}
