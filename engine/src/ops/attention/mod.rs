//! Scaled dot-product attention, fused: no score is kept. The backward computes them again from what the forward saved, the
//! logarithm of each row's sum.

mod chosen;
mod intervals;
mod options;
pub mod reference;

use crate::autograd::record;
use crate::cpu::attention as cpu;
use crate::device::Kind;
use crate::kernels::attention as kernels;
use crate::layout::Dims;
use crate::mask::cost::Cost;
use crate::mask::{Mask, Pairs};
use crate::ops::random::Dropout;
use crate::ops::rows::{narrowed, wide};
use crate::snippet::{ScoreModifier, VisibleCode};
use crate::sparse::{BlockLayout, SparseIndex};
use crate::{Result, Tensor};

pub(crate) use chosen::chosen_attention;
pub(crate) use intervals::interval_attention;
use options::check;
pub(crate) use options::checked_scale;
pub use options::{AttentionOptions, Disentangled, Rotary};

/// The logarithm of the sum of a query that sees nothing: a number that no real one comes near, yet finite.
pub(crate) const NOTHING: f64 = -1e30;

/// Sizes and numbers of one attention.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub pairs: Pairs,
    pub key_heads: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub scale: f64,
    pub softcap: Option<f64>,
    /// Of the weights, in row-major order of [batch, heads, queries, keys].
    pub dropout: Option<Dropout>,
    /// Of the lists of blocks, if there are any.
    pub blocks: Option<BlockLayout>,
    /// Of the disentangled terms; 0 without them.
    pub buckets: usize,
    /// [`Mask::kinds`] of what hides pairs.
    pub kinds: u32,
    /// What the mask costs a kernel.
    pub mask: Cost,
    /// Pairs that are worked on, of all heads, as far as the host knows: hidden tiles that only a device knows of count.
    pub seen: usize,
    /// If each query has a list of keys: the length of the lists, and of queries by key as far as the host knows.
    pub lists: Option<[usize; 2]>,
    /// Whether the lists come with the unions of those of neighbours.
    pub united: bool,
}

impl Plan {
    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.pairs.heads / self.key_heads
    }

    /// Multiplications and additions of products over so many widths of queries and keys, and so many of values.
    pub fn operations(&self, heads: usize, values: usize) -> u64 {
        2 * self.seen as u64 * (heads * self.head_dim + values * self.value_dim) as u64
    }
}

/// The tensors of one attention, detached.
#[derive(Clone)]
pub(crate) struct Operands {
    /// [batch, heads, queries, head_dim], any strides.
    pub query: Tensor,
    /// [batch, key heads, keys, head_dim].
    pub key: Tensor,
    /// [batch, key heads, keys, value_dim].
    pub value: Tensor,
    /// Expanded to [batch, heads, queries, keys].
    pub bias: Option<Tensor>,
    /// Expanded to [heads, queries + keys - 1].
    pub relative: Option<Tensor>,
    /// [heads].
    pub sinks: Option<Tensor>,
    /// [batch, heads, queries, buckets].
    pub c2p: Option<Tensor>,
    /// [batch, heads, keys, buckets].
    pub p2c: Option<Tensor>,
    /// u32 [queries + keys - 1].
    pub buckets: Option<Tensor>,
    /// [`Mask::lowered`](crate::Mask), with lists [`SparseIndex::lowered`].
    pub mask: Option<Tensor>,
    /// The mask's function of the user.
    pub visible: Option<VisibleCode>,
    pub score: Option<ScoreModifier>,
}

impl Operands {
    /// Halves widened to f32.
    fn wide(&self) -> Result<Self> {
        let some = |x: &Option<Tensor>| x.as_ref().map(wide).transpose();
        Ok(Operands {
            query: wide(&self.query)?,
            key: wide(&self.key)?,
            value: wide(&self.value)?,
            bias: some(&self.bias)?,
            relative: some(&self.relative)?,
            sinks: some(&self.sinks)?,
            c2p: some(&self.c2p)?,
            p2c: some(&self.p2c)?,
            ..self.clone()
        })
    }
}

/// Which gradients are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wants {
    pub query: bool,
    pub key_value: bool,
    /// Of the bias: None, or whether one row of it serves all queries.
    pub bias: Option<bool>,
    pub relative: bool,
    pub c2p: bool,
    pub p2c: bool,
}

/// Gradients, as far as they were wanted.
#[derive(Default)]
pub(crate) struct Grads {
    pub query: Option<Tensor>,
    pub key: Option<Tensor>,
    pub value: Option<Tensor>,
    /// [batch, heads, queries, keys], or [batch, heads, 1, keys] where one row serves all queries.
    pub bias: Option<Tensor>,
    /// [heads, queries + keys - 1].
    pub relative: Option<Tensor>,
    /// [batch, heads, queries, buckets].
    pub c2p: Option<Tensor>,
    /// [batch, heads, keys, buckets].
    pub p2c: Option<Tensor>,
}

pub(crate) fn attention(query: &Tensor, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    attend("attention", query, key, value, None, options)
}

/// [`attention`] within what is listed.
pub(crate) fn sparse_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    index: SparseIndex,
    options: &AttentionOptions,
) -> Result<Tensor> {
    attend("sparse_attention", query, key, value, Some(index), options)
}

fn attend(
    op: &'static str,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    index: Option<SparseIndex>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let mut plan = check(op, query, key, value, options)?;
    if options.rotary.is_some() || options.head_scale.is_some() {
        let (query, key, options) = options.before(op, query, key)?;
        return attend(op, &query, &key, value, index, &options);
    }
    let masks = || std::iter::once(&options.mask).chain(index.as_ref().and_then(SparseIndex::mask));
    plan.mask = Cost::of(masks(), plan.pairs.queries.max(plan.pairs.keys));
    plan.seen = masks().map(|mask| mask.most_pairs(plan.pairs)).min().unwrap_or_default();
    plan.kinds = masks().fold(0, |kinds, mask| kinds | mask.kinds());
    if let Some(index) = index {
        index.check(op, &options.mask, plan.pairs, plan.key_heads)?;
        plan.blocks = if let SparseIndex::Blocks(index) = index { Some(index.layout()) } else { None };
        if let SparseIndex::Keys(index) = index {
            let lengths = index.lengths();
            plan.seen = plan.seen.min(plan.pairs.batch * plan.pairs.queries * lengths[0]);
            (plan.lists, plan.united) = (Some(lengths), query.device().is_gpu() && index.is_united());
        }
    }
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    plan.seen *= heads;
    let empty = batch * heads * queries * keys * plan.head_dim * plan.value_dim == 0;
    if empty || options.dropout >= 1.0 {
        return reference::attention(query, key, value, options);
    }
    plan.dropout = Dropout::draw(op, options.dropout, query.device())?;
    let expand = |x: &Option<Tensor>, shape: &[usize]| x.as_ref().map(|x| x.detach().expand(shape)).transpose();
    let operands = Operands {
        query: query.detach(),
        key: key.detach(),
        value: value.detach(),
        bias: expand(&options.bias, &[batch, heads, queries, keys])?,
        relative: expand(&options.relative_bias, &[heads, queries + keys - 1])?,
        sinks: options.sinks.as_ref().map(Tensor::detach),
        c2p: options.disentangled.as_ref().and_then(|terms| terms.c2p.as_ref()).map(Tensor::detach),
        p2c: options.disentangled.as_ref().and_then(|terms| terms.p2c.as_ref()).map(Tensor::detach),
        buckets: options.disentangled.as_ref().map(|terms| terms.buckets.words(query.device())).transpose()?,
        mask: match index {
            None => options.mask.lowered(op, plan.pairs, query.device())?,
            Some(index) => Some(index.lowered(op, &options.mask, plan.pairs, query.device())?),
        },
        visible: masks().find_map(Mask::code).cloned(),
        score: options.score.clone(),
    };
    let dtype = query.dtype();
    let (out, log_sums) = forward_of(op, &operands, &plan)?;
    let out = narrowed(&out, dtype)?;
    let (c2p, p2c) = options.disentangled.as_ref().map_or((&None, &None), |terms| (&terms.c2p, &terms.p2c));
    let extras = [&options.bias, &options.relative_bias, &options.sinks, c2p, p2c];
    let inputs: Vec<&Tensor> = [query, key, value].into_iter().chain(extras.into_iter().flatten()).collect();
    let shapes: Vec<Dims> = inputs.iter().map(|x| x.dims()).collect();
    let has = extras.map(|x| x.is_some());
    let saved = out.clone();
    Ok(record(op, out, &inputs, move |d_out, needs| {
        // Where bias, relative bias and sinks stand among the inputs.
        let mut next = 3;
        let [bias, relative, sinks, c2p, p2c] = has.map(|has| {
            let at = has.then_some(next);
            next += usize::from(has);
            at
        });
        let wanted = |at: Option<usize>| at.filter(|&at| needs[at]);
        let one_row = |at: usize| shapes[at].len() < 2 || shapes[at][shapes[at].len() - 2] == 1;
        let wants = Wants {
            query: needs[0],
            key_value: needs[1] || needs[2],
            bias: wanted(bias).map(one_row),
            relative: wanted(relative).is_some(),
            c2p: wanted(c2p).is_some(),
            p2c: wanted(p2c).is_some(),
        };
        let (grads, delta) = backward_of(op, &operands, &plan, [&saved, &log_sums, &d_out.detach()], wants)?;
        let mut all = vec![None; needs.len()];
        for (at, grad) in [
            (Some(0), grads.query),
            (Some(1), grads.key),
            (Some(2), grads.value),
            (bias, grads.bias),
            (relative, grads.relative),
            (c2p, grads.c2p),
            (p2c, grads.p2c),
        ] {
            if let (Some(at), Some(grad)) = (at.filter(|&at| needs[at]), grad) {
                all[at] = Some(narrowed(&grad.sum_to(&shapes[at])?, dtype)?);
            }
        }
        if let (Some(at), Some(logits)) = (wanted(sinks), &operands.sinks) {
            // The sink's weight is exp(sink - log sum), and what it takes from a row is delta.
            let logits = wide(logits)?.reshape(&[1, heads as isize, 1])?;
            let weights = logits.sub(&log_sums)?.clamp(None, Some(0.0))?.exp()?;
            all[at] = Some(narrowed(&weights.mul(&delta)?.sum(&[0, 2], false)?.neg()?, dtype)?);
        }
        Ok(all)
    }))
}

/// The result [batch, heads, queries, value_dim] and the logarithms of the sums [batch, heads, queries].
fn forward_of(op: &'static str, operands: &Operands, plan: &Plan) -> Result<(Tensor, Tensor)> {
    match operands.query.device().kind() {
        Kind::Cpu(_) => cpu::forward(op, &operands.wide()?, plan),
        Kind::Gpu(_) => kernels::forward(op, operands, plan),
    }
}

/// The gradients, and what each query's weights have in common, [batch, heads, queries].
fn backward_of(
    op: &'static str,
    operands: &Operands,
    plan: &Plan,
    [out, log_sums, d_out]: [&Tensor; 3],
    wants: Wants,
) -> Result<(Grads, Tensor)> {
    match d_out.device().kind() {
        Kind::Cpu(_) => cpu::backward(op, &operands.wide()?, plan, &wide(out)?, log_sums, &wide(d_out)?, wants),
        Kind::Gpu(_) => kernels::backward(op, operands, plan, out, log_sums, d_out, wants),
    }
}
