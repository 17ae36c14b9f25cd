//! Attention of a few new queries to the keys and values in a cache, which are split so that all cores share one long sequence.

use crate::autograd::record_without_backward;
use crate::cache::{KvCache, PagedCache, Pages, Places, Sequence};
use crate::cpu::attention::decode as cpu;
use crate::device::Kind;
use crate::kernels::decode as kernels;
use crate::layout::broadcast_shape;
use crate::mask::Pairs;
use crate::mask::cost::Cost;
use crate::ops::attention::{AttentionOptions, Plan, checked_scale};
use crate::ops::rows::{narrowed, wide};
use crate::snippet::VisibleCode;
use crate::{DType, Error, Result, Tensor};

const OP: &str = "decode";

/// The tensors of one decoding step, detached.
pub(crate) struct Operands {
    /// [batch, heads, queries, head_dim], any strides.
    pub query: Tensor,
    /// Expanded to [batch, heads, queries, longest].
    pub bias: Option<Tensor>,
    /// Expanded to [heads, entries].
    pub relative: Option<Tensor>,
    /// [heads].
    pub sinks: Option<Tensor>,
    /// [`Mask::lowered`](crate::Mask).
    pub mask: Option<Tensor>,
    /// The mask's function of the user.
    pub visible: Option<VisibleCode>,
}

/// Writes new rows into pages.
pub(crate) fn append(op: &'static str, pages: &mut Pages, key: &Tensor, value: &Tensor, places: &Places) -> Result<()> {
    pages.key.make_exclusive()?;
    pages.value.make_exclusive()?;
    let (key, value) = (key.detach(), value.detach());
    match key.device().kind() {
        Kind::Cpu(_) => cpu::append(op, pages, [&key, &value], places),
        Kind::Gpu(_) => kernels::append(op, pages, [&key, &value], places),
    }
}

pub(crate) fn contiguous(query: &Tensor, cache: &KvCache, options: &AttentionOptions) -> Result<Tensor> {
    let (pages, places) = cache.held();
    decode(query, pages, places, options)
}

pub(crate) fn paged(
    query: &Tensor,
    cache: &PagedCache,
    sequences: &[Sequence],
    options: &AttentionOptions,
) -> Result<Tensor> {
    decode(query, cache.pages(), &cache.places(sequences, 0)?, options)
}

fn decode(query: &Tensor, pages: &Pages, places: &Places, options: &AttentionOptions) -> Result<Tensor> {
    let plan = check(query, pages, places, options)?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    if batch * heads * queries == 0 {
        return query.narrow(3, 0, 0)?.matmul(&Tensor::zeros(&[0, plan.value_dim], query.dtype(), query.device())?);
    }
    let expand = |x: &Option<Tensor>, shape: &[usize]| x.as_ref().map(|x| x.detach().expand(shape)).transpose();
    let entries = options.relative_bias.as_ref().map_or(0, |x| x.shape()[1]);
    let operands = Operands {
        query: query.detach(),
        bias: expand(&options.bias, &[batch, heads, queries, keys])?,
        relative: expand(&options.relative_bias, &[heads, entries])?,
        sinks: options.sinks.as_ref().map(Tensor::detach),
        mask: options.mask.lowered(OP, plan.pairs, query.device())?,
        visible: options.mask.code().cloned(),
    };
    let out = match query.device().kind() {
        Kind::Cpu(_) => {
            let some = |x: &Option<Tensor>| x.as_ref().map(wide).transpose();
            let operands = Operands {
                query: wide(&operands.query)?.contiguous()?,
                bias: some(&operands.bias)?,
                relative: some(&operands.relative)?,
                sinks: some(&operands.sinks)?,
                mask: operands.mask,
                visible: operands.visible,
            };
            cpu::decode(OP, &operands, &plan, pages, places)?
        }
        Kind::Gpu(_) => kernels::decode(OP, &operands, &plan, pages, places)?,
    };
    Ok(record_without_backward(OP, narrowed(&out, query.dtype())?, &[query]))
}

/// The sizes of a step, if they and all options fit.
fn check(query: &Tensor, pages: &Pages, places: &Places, options: &AttentionOptions) -> Result<Plan> {
    query.expect_float(OP)?;
    if !query.device().same(pages.device()) {
        let (left, right) = (query.device().to_string(), pages.device().to_string());
        return Err(Error::DeviceMismatch { op: OP, left, right });
    }
    if (query.dtype() == DType::F64) != (pages.dtype() == DType::F64) {
        return Err(Error::DType { op: OP, got: query.dtype(), expected: "f64 for a cache of f64, and only for that" });
    }
    let [head_dim, value_dim] = pages.widths;
    let (batch, key_heads) = (places.lengths.len(), pages.heads);
    let (heads, queries) = match *query.shape() {
        [b, heads, queries, d] if b == batch && heads.is_multiple_of(key_heads) && d == head_dim => (heads, queries),
        _ => {
            let message = format!(
                "query of shape {:?}, expected [{batch}, a multiple of {key_heads} heads, queries, {head_dim}]",
                query.shape()
            );
            return Err(Error::shape(OP, message));
        }
    };
    if let Some(length) = places.lengths.iter().find(|&&length| length < queries) {
        let message = format!("{queries} queries of a sequence of {length} tokens: append theirs first");
        return Err(Error::argument(OP, message));
    }
    let pairs = Pairs { batch, heads, queries, keys: places.longest() };
    options.mask.check(OP, pairs)?;
    for (name, extra) in [("bias", &options.bias), ("relative bias", &options.relative_bias), ("sinks", &options.sinks)]
    {
        let Some(extra) = extra else { continue };
        query.expect_like(OP, extra)?;
        let full = match name {
            "bias" => vec![batch, heads, queries, pairs.keys],
            "sinks" => vec![heads],
            _ => vec![heads, (queries + pairs.keys).saturating_sub(1)],
        };
        let fits = match name {
            "bias" => broadcast_shape(OP, extra.shape(), &full).is_ok_and(|shape| *shape == *full),
            "sinks" => extra.shape() == full,
            // A longer one serves the steps to come.
            _ => matches!(*extra.shape(), [h, entries] if (h == heads || h == 1) && entries >= full[1]),
        };
        if !fits {
            let message = format!("{name} of shape {:?} does not broadcast to {full:?}", extra.shape());
            return Err(Error::shape(OP, message));
        }
    }
    if options.dropout != 0.0 {
        return Err(Error::argument(OP, format!("dropout {}: decoding is not training", options.dropout)));
    }
    let refused = [
        ("rotary", options.rotary.is_some()),
        ("head_scale", options.head_scale.is_some()),
        ("disentangled", options.disentangled.is_some()),
        ("score modifier", options.score.is_some()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        let message =
            format!("{name} is for attention without a cache: turn or scale the query, and what is appended, before");
        return Err(Error::argument(OP, message));
    }
    let scale = checked_scale(OP, head_dim, options)?;
    Ok(Plan {
        pairs,
        key_heads,
        head_dim,
        value_dim,
        scale,
        softcap: options.softcap,
        dropout: None,
        blocks: None,
        buckets: 0,
        kinds: options.mask.kinds(),
        mask: Cost::default(),
        seen: heads * options.mask.clone().at((pairs.keys - queries) as i64).most_pairs(pairs),
        lists: None,
        united: false,
    })
}
