//! Attention kernels: where the tensors lie, and which variant.

use super::{flag, gpu_of, groups, size};
use crate::device::gpu::{Bind, Caps, Gpu, Launch};
use crate::layout::{Dims, Layout};
use crate::mask::Pairs;
use crate::mask::steps::Side;
use crate::ops::attention::{Grads, Operands, Plan, Wants};
use crate::ops::join::PadMode;
use crate::snippet::Filled;
use crate::{DType, Error, Result, Tensor};

/// Kernels for one kind of device.
struct Variant {
    forward: &'static str,
    query: &'static str,
    key_value: &'static str,
    /// Queries, or keys, of a workgroup.
    rows: usize,
}

/// Columns of a workgroup, of the result or the gradient of the queries. More are computed in turns, each with all scores.
const COLUMNS: usize = 128;
/// The same of the gradients of keys and values, and of lists of keys.
const FEWER_COLUMNS: usize = 64;
/// Queries and keys of a tile of `attention/score_sums.wgsl`.
const SUMS: usize = 32;
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

/// Turns after which Mesa's software driver ends the loops of an invocation, all together, without a word.
const TURNS: usize = 65_535;

/// Refuses what that driver would compute wrongly: so many steps of 32 columns, each of `turns`.
fn within_turns(op: &'static str, caps: &Caps, plan: &Plan, length: usize, turns: usize) -> Result<()> {
    let steps = plan.widest.map_or(length, |widest| widest.min(length)).div_ceil(32);
    if plan.blocks.is_some() || plan.by_lists || !caps.driver.contains("llvmpipe") || steps * turns <= TURNS {
        return Ok(());
    }
    let Plan { head_dim, value_dim, .. } = plan;
    Err(Error::shape(
        op,
        format!(
            "{length} positions with head_dim {head_dim} and values of {value_dim}: llvmpipe ends loops after {TURNS} turns; use \
             the CPU device, a window or blocks"
        ),
    ))
}

fn choose(caps: &Caps, plan: &Plan, side: Side) -> &'static Variant {
    // Neighbouring queries may go over their lists together; neighbouring keys, which lists name at random, do not.
    if plan.by_lists && !(plan.united && side == Side::Query) {
        return &LISTS;
    }
    if caps.software_lanes() == Some(8) { &LANES } else { &TILES }
}

/// What kernels that go over the keys of queries are told of lists that neighbours share.
fn unions(plan: &Plan) -> Option<(&'static str, f64)> {
    plan.united.then_some(("HAS_UNIONS", 1.0))
}

/// The variant for the forward of queries and values with at most so many fours.
fn choose_forward(caps: &Caps, plan: &Plan, operands: &Operands, fours: usize) -> &'static Variant {
    let chosen = choose(caps, plan, Side::Query);
    let Operands { bias, relative, c2p, p2c, score, .. } = operands;
    let plain = [bias, relative, c2p, p2c].iter().all(|x| x.is_none())
        && score.is_none()
        && plan.softcap.is_none()
        && plan.dropout.is_none();
    let whole_blocks = plan.blocks.is_none_or(|layout| layout.query_block.is_multiple_of(WIDE.rows));
    let fits = chosen.forward == LANES.forward && 4 * fours <= COLUMNS / 2 && whole_blocks;
    if plain && fits && plan.pairs.queries >= MANY_QUERIES { &WIDE } else { chosen }
}

/// Workgroups for all queries, or all keys, and so many fours of columns.
fn work(plan: &Plan, side: Side, variant: &Variant, fours: usize) -> u64 {
    let (length, heads, block) = match side {
        Side::Query => (plan.pairs.queries, plan.pairs.heads, plan.blocks.map(|layout| layout.query_block)),
        Side::Key => (plan.pairs.keys, plan.key_heads, plan.blocks.map(|layout| layout.key_block)),
    };
    let by_lists = variant.rows == LISTS.rows;
    let columns = if side == Side::Query && !by_lists { COLUMNS } else { FEWER_COLUMNS };
    let pieces = plan.pairs.batch * heads * (4 * fours).div_ceil(columns);
    // The tiles as `tile_count` of `common/steps.wgsl` has them.
    match block {
        _ if by_lists => groups(pieces * length),
        None => (pieces * length.div_ceil(variant.rows)) as u64,
        Some(block) => (pieces * length.div_ceil(block) * (block / variant.rows)) as u64,
    }
}

/// Bits of a contiguous bool tensor [matrices, height, width], as `attention/pack.wgsl` lays them out.
pub(crate) fn pack_bits(
    op: &'static str,
    seen: &Tensor,
    matrices: usize,
    height: usize,
    width: usize,
) -> Result<Tensor> {
    let (columns, blocks) = (width.div_ceil(32), height.div_ceil(32));
    let words = Dims::new(op, &[matrices * (height + blocks) * columns])?;
    let words = Tensor::gpu_uninit(op, words, DType::U32, seen.device())?;
    gpu_of(op, seen)?.run(Launch {
        kernel: "attention/pack",
        elems: &[],
        constants: &[],
        bind: &[Bind::Read(seen.gpu_buffer(op)?), Bind::Write(words.gpu_buffer(op)?)],
        params: bytemuck::cast_slice(&[
            size(op, matrices)?,
            size(op, height)?,
            size(op, width)?,
            size(op, seen.layout().offset)?,
        ]),
        groups: groups(matrices * blocks * columns),
    })?;
    Ok(words)
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
            ("HAS_LISTS", flag(plan.blocks.is_some() || plan.by_lists)),
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
        Ok(Call { op, query, key, value, aux, mask, params: words, constants, visible, score, d4, dv4 })
    }

    fn gpu(&self) -> Result<&Gpu> {
        Ok(gpu_of(self.op, &self.query)?)
    }

    fn run(
        &self,
        kernel: &'static str,
        constant: Option<(&'static str, f64)>,
        more: &[(&'static str, DType)],
        bind: &[Bind],
        groups: u64,
    ) -> Result<()> {
        let op = self.op;
        let dtype = self.query.dtype();
        let mut elems = vec![("q", dtype), ("k", dtype), ("v", dtype), ("aux", dtype)];
        elems.extend_from_slice(more);
        let mut constants = self.constants.clone();
        constants.extend(constant);
        let mut all = Vec::with_capacity(8);
        for x in [&self.query, &self.key, &self.value, &self.aux, &self.mask] {
            all.push(Bind::Read(x.gpu_buffer(op)?));
        }
        all.extend_from_slice(bind);
        let params = bytemuck::cast_slice(&self.params);
        gpu_of(op, &self.query)?.run(Launch {
            kernel: Filled { kernel, visible: self.visible, score: self.score }.name(),
            elems: &elems,
            constants: &constants,
            bind: &all,
            params,
            groups,
        })
    }
}

/// The result [batch, heads, queries, value_dim] and the logarithms of the sums [batch, heads, queries].
pub(crate) fn forward(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    let call = Call::new(op, operands, plan)?;
    let Pairs { batch, heads, queries, .. } = plan.pairs;
    let (dtype, device) = (operands.query.dtype(), operands.query.device());
    let out = Tensor::gpu_uninit(op, Dims::new(op, &[batch, queries, heads, 4 * call.dv4])?, dtype, device)?;
    let log_sums = Tensor::gpu_uninit(op, Dims::new(op, &[batch, heads, queries])?, DType::F32, device)?;
    let caps = call.gpu()?.caps();
    let variant = choose_forward(caps, plan, operands, call.d4.max(call.dv4));
    within_turns(op, caps, plan, plan.pairs.keys, call.d4 / 2 + 12 + variant.rows)?;
    call.run(
        variant.forward,
        unions(plan),
        &[("o", dtype)],
        &[Bind::Write(out.gpu_buffer(op)?), Bind::Write(log_sums.gpu_buffer(op)?)],
        work(plan, Side::Query, variant, call.dv4),
    )?;
    Ok((by_heads(&out, plan.value_dim)?, log_sums))
}

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
    let run = |kernel, constant, to: &Tensor, groups: u64| {
        let bind =
            [Bind::Read(d_out.gpu_buffer(op)?), Bind::Read(stats.gpu_buffer(op)?), Bind::Write(to.gpu_buffer(op)?)];
        call.run(kernel, constant, elems, &bind, groups)
    };
    let mut grads = Grads::default();
    let products = call.d4 / 2 + call.dv4 / 2;
    within_turns(op, gpu.caps(), plan, keys, products + 12 + LANES.rows)?;
    within_turns(op, gpu.caps(), plan, queries, plan.group() * (products + 20))?;
    if wants.query {
        let dq = floats(&[batch, queries, heads, 4 * call.d4])?;
        let variant = choose(gpu.caps(), plan, Side::Query);
        run(variant.query, unions(plan), &dq, work(plan, Side::Query, variant, call.d4))?;
        grads.query = Some(by_heads(&dq, plan.head_dim)?);
    }
    if wants.key_value {
        let heads = plan.key_heads;
        let rows = batch * keys * heads;
        let both = floats(&[4 * rows * (call.d4 + call.dv4)])?;
        let variant = choose(gpu.caps(), plan, Side::Key);
        run(variant.key_value, None, &both, work(plan, Side::Key, variant, call.d4.max(call.dv4)))?;
        let part = |start: usize, width: usize| {
            both.narrow(0, start, rows * width)?.reshape(&[batch, keys, heads, width].map(|n| n as isize))
        };
        grads.key = Some(by_heads(&part(0, 4 * call.d4)?, plan.head_dim)?);
        grads.value = Some(by_heads(&part(4 * rows * call.d4, 4 * call.dv4)?, plan.value_dim)?);
    }
    let [rows, columns] = [queries, keys].map(|n| n.div_ceil(SUMS));
    let heads = batch * heads;
    let sums = |over: f64, to: &Tensor, owners: usize| {
        run("attention/score_sums", Some(("OVER", over)), to, (heads * owners) as u64)
    };
    if let Some(one_row) = wants.bias {
        let d_bias = floats(&[batch, plan.pairs.heads, if one_row { 1 } else { queries }, keys])?;
        let (over, owners) = if one_row { (1.0, columns) } else { (0.0, rows) };
        sums(over, &d_bias, owners)?;
        grads.bias = Some(d_bias);
    }
    if wants.relative {
        let diagonals = rows + columns - 1;
        let parts = floats(&[batch, plan.pairs.heads, diagonals, 2, SUMS])?;
        sums(2.0, &parts, diagonals)?;
        // Diagonals of tiles overlap by half: the second half of each belongs to the first of the next.
        let none = Tensor::zeros(&[batch, plan.pairs.heads, 1, SUMS], DType::F32, device)?;
        let first = Tensor::concat(&[&parts.select(3, 0)?, &none], 2)?;
        let all = first.add(&Tensor::concat(&[&none, &parts.select(3, 1)?], 2)?)?.flatten(2, 3)?;
        let of_pairs = all.narrow(2, SUMS * rows - queries, queries + keys - 1)?;
        grads.relative = Some(of_pairs.sum(&[0], false)?);
    }
    for (wanted, over, length, owners, grad) in
        [(wants.c2p, 3.0, queries, rows, &mut grads.c2p), (wants.p2c, 4.0, keys, columns, &mut grads.p2c)]
    {
        if wanted {
            let to = floats(&[batch, plan.pairs.heads, length, plan.buckets])?;
            gpu.fill(to.gpu_storage(op)?, 0)?;
            sums(over, &to, owners)?;
            *grad = Some(to);
        }
    }
    Ok((grads, stats.narrow(3, 1, 1)?.squeeze(3)?))
}

/// [batch, heads, rows, width] with a width of whole fours, in memory by whole aligned fours: itself where it is.
pub(super) fn fours(x: &Tensor) -> Result<Tensor> {
    let x = padded(x)?;
    let layout = x.layout();
    let aligned = |dim: usize| layout.strides[dim].is_multiple_of(4) || layout.shape[dim] == 1;
    let strides_fit = (0..3).all(aligned) && layout.strides[3] == 1;
    match strides_fit && layout.offset.is_multiple_of(4) {
        true => Ok(x),
        false => x.copy(),
    }
}

/// With zeros up to a width of whole fours.
fn padded(x: &Tensor) -> Result<Tensor> {
    match x.shape().last().map_or(0, |width| width % 4) {
        0 => Ok(x.clone()),
        rest => {
            let mut pads = vec![(0, 0); x.rank()];
            pads[x.rank() - 1].1 = 4 - rest as isize;
            x.pad(&pads, PadMode::Constant(0.0))
        }
    }
}

/// [batch, heads, rows, width] as a dense [batch, rows, heads, width of whole fours]: itself where a kernel made it so.
fn by_rows(x: &Tensor) -> Result<Tensor> {
    let x = padded(&x.transpose(1, 2)?)?;
    let x = x.contiguous()?;
    if x.layout().offset.is_multiple_of(4) { Ok(x) } else { x.copy() }
}

/// The inverse of [`by_rows`], a view.
pub(super) fn by_heads(x: &Tensor, width: usize) -> Result<Tensor> {
    x.narrow(3, 0, width)?.transpose(1, 2)
}

/// What is added to scores, in one tensor: first the flat ones, in their order, then the bias.
pub(super) struct Aux {
    pub tensor: Option<Tensor>,
    /// Where each of the flat ones begins.
    pub starts: Vec<usize>,
    /// First element and strides.
    pub bias: [usize; 5],
}

impl Aux {
    pub fn new(bias: &Option<Tensor>, flat: &[&Option<Tensor>]) -> Result<Self> {
        let mut parts = Vec::new();
        let (mut starts, mut end) = (Vec::with_capacity(flat.len()), 0);
        for x in flat {
            starts.push(end);
            if let Some(x) = x {
                end += x.elements();
                parts.push(x.contiguous()?.reshape(&[-1])?);
            }
        }
        if let (Some(bias), []) = (bias, &parts[..]) {
            let Layout { offset, strides, .. } = *bias.layout();
            let bias_at = [offset, strides[0], strides[1], strides[2], strides[3]];
            return Ok(Aux { tensor: Some(bias.clone()), starts, bias: bias_at });
        }
        let mut bias_at = [0; 5];
        if let Some(bias) = bias {
            let (bias, [b, h, r, c]) = compact(bias)?;
            bias_at = [end, b, h, r, c];
            parts.push(bias);
        }
        let tensor = match &parts[..] {
            [] => None,
            [one] => Some(if one.layout().offset == 0 { one.clone() } else { one.copy()? }),
            _ => Some(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?),
        };
        Ok(Aux { tensor, starts, bias: bias_at })
    }
}

/// An expanded tensor without what it repeats, flat, and its strides.
fn compact(x: &Tensor) -> Result<(Tensor, [usize; 4])> {
    let mut small = x.clone();
    for dim in 0..4 {
        if x.layout().strides[dim] == 0 {
            small = small.narrow(dim as isize, 0, 1)?;
        }
    }
    let small = small.contiguous()?;
    let mut strides = [0; 4];
    for (dim, stride) in strides.iter_mut().enumerate() {
        *stride = if small.shape()[dim] == 1 { 0 } else { small.layout().strides[dim] };
    }
    Ok((small.reshape(&[-1])?, strides))
}
