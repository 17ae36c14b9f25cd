//! Attention to whole blocks of keys that each query chose, without a mask of all pairs: rows of a query and one of its blocks, brought into the order of
//! the blocks, go through the kernels of dense attention. Each block is seen by the rows from one to another, so that all other tiles are
//! skipped; and the rows of a query are put together by the logarithms of their sums. The backward needs no more than the rows of the results.

use super::options::check;
use super::{AttentionOptions, Operands, Plan, Wants, backward_of, forward_of, reference};
use crate::autograd::record;
use crate::mask::cost::Cost;
use crate::mask::{Mask, Pairs};
use crate::ops::index::{Block, group, take};
use crate::ops::rows::{narrowed, wide};
use crate::{DType, Error, Result, Tensor};

/// See [`Tensor::chosen_attention`].
pub(crate) fn chosen_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    chosen: &Tensor,
    block: usize,
    scale: Option<f64>,
) -> Result<Tensor> {
    let op = "chosen_attention";
    let options = AttentionOptions { scale, mask: Mask::causal(0), ..AttentionOptions::default() };
    let plan = check(op, query, key, value, &options)?;
    chosen.expect_dtype(op, DType::U32, "u32 lists of blocks")?;
    chosen.expect_same_device(op, query)?;
    let Pairs { batch, heads, queries, keys } = plan.pairs;
    if queries != keys || block == 0 {
        let message = format!("{queries} queries and {keys} keys in blocks of {block}, expected as many of both");
        return Err(Error::shape(op, message));
    }
    let fits = |shape: &[usize]| shape.len() == 4 && shape[..3] == [batch, plan.key_heads, queries];
    if !fits(chosen.shape()) {
        let (got, key_heads) = (chosen.shape(), plan.key_heads);
        let message = format!("lists of shape {got:?}, expected [{batch}, {key_heads}, {queries}, blocks of a query]");
        return Err(Error::shape(op, message));
    }
    if batch * heads * queries * plan.head_dim * plan.value_dim == 0 {
        return reference::attention(query, key, value, &options);
    }
    let rows = Rows::new(op, &chosen.detach(), block, &plan)?;
    let pairs = Pairs { queries: queries * rows.each, ..plan.pairs };
    let plan = Plan {
        pairs,
        mask: Cost::of(std::iter::once(&rows.mask), pairs.queries),
        kinds: rows.mask.kinds(),
        seen: batch * heads * pairs.queries * block.min(keys),
        ..plan
    };
    let operands = Operands {
        query: rows.of_queries(op, query)?,
        key: key.detach(),
        value: value.detach(),
        bias: None,
        relative: None,
        sinks: None,
        c2p: None,
        p2c: None,
        buckets: None,
        mask: rows.mask.lowered(op, pairs, query.device())?,
        visible: None,
        score: None,
    };
    let dtype = query.dtype();
    let (out, log_sums) = forward_of(op, &operands, &plan)?;
    let (out, log_sums) = joined(&rows.to_queries(op, &wide(&out)?)?, &rows.to_queries(op, &log_sums.unsqueeze(3)?)?)?;
    let out = narrowed(&out, dtype)?;
    let saved = out.clone();
    Ok(record(op, out, &[query, key, value], move |d_out, needs| {
        let wants = Wants {
            query: needs[0],
            key_value: needs[1] || needs[2],
            bias: None,
            relative: false,
            c2p: false,
            p2c: false,
        };
        // A row has the logarithm and the result of its query: its weights are those of all blocks together.
        let [saved, d_out] = [&saved, &d_out.detach()].map(|x| rows.of_queries(op, x));
        let log_sums = rows.of_queries(op, &log_sums)?.squeeze(3)?;
        let (grads, _) = backward_of(op, &operands, &plan, [&saved?, &log_sums, &d_out?], wants)?;
        let of_rows = |x: Tensor| narrowed(&rows.to_queries(op, &wide(&x)?)?.sum(&[0], false)?, dtype);
        let like = |x: Tensor| narrowed(&x, dtype);
        Ok(vec![
            grads.query.map(of_rows).transpose()?,
            grads.key.filter(|_| needs[1]).map(like).transpose()?,
            grads.value.filter(|_| needs[2]).map(like).transpose()?,
        ])
    }))
}

/// Results [rows, batch, heads, queries, value_dim] and logarithms [rows, batch, heads, queries, 1] of the rows of queries as one, [batch, heads,
/// queries, ..]: each weighs as much as its sum. A row that sees nothing weighs nothing.
fn joined(out: &Tensor, log_sums: &Tensor) -> Result<(Tensor, Tensor)> {
    let most = log_sums.max(&[0], true)?;
    let weights = log_sums.sub(&most)?.exp()?;
    let total = weights.sum(&[0], true)?;
    let out = out.mul(&weights.div(&total)?)?.sum(&[0], false)?;
    Ok((out, most.add(&total.log()?)?.squeeze(0)?.squeeze(3)?))
}

/// The pairs of a query and a block, those of a block together.
struct Rows {
    batch: usize,
    heads: usize,
    queries: usize,
    /// Rows of a query.
    each: usize,
    /// The slot of each row's query, [batch, heads, queries * each], among the queries of all heads.
    queries_of: Tensor,
    /// The slots of the rows of each query, [each, batch, heads, queries], among the rows of all heads.
    rows_of: Tensor,
    /// Which rows see a key.
    mask: Mask,
}

impl Rows {
    fn new(op: &'static str, chosen: &Tensor, block: usize, plan: &Plan) -> Result<Self> {
        let Pairs { batch, heads, queries, keys } = plan.pairs;
        let (device, key_heads, group_size) = (chosen.device(), plan.key_heads, plan.group());
        let (matrices, blocks, each) = (batch * key_heads, keys.div_ceil(block), chosen.shape()[3] + 1);
        let count = queries * each;
        if [batch, heads, count]
            .iter()
            .try_fold(1u32, |n, &x| n.checked_mul(u32::try_from(x).ok()?))
            .is_none_or(|n| n > 1 << 30)
        {
            let message = format!("{batch} x {heads} heads of {queries} queries with {each} blocks are too many rows");
            return Err(Error::argument(op, message));
        }
        // A query's own block first, and of the others those before it; what is no such block goes behind the last.
        let number = |n: usize| Tensor::scalar(n as f64, DType::U32, device);
        let own: Vec<u32> = (0..queries).map(|i| (i / block) as u32).collect();
        let own = Tensor::from_vec(own, &[1, 1, queries, 1], device)?;
        let before = Tensor::where_cond(&chosen.lt(&own)?, chosen, &number(blocks)?)?;
        let all = Tensor::concat(&[&own.expand(&[batch, key_heads, queries, 1])?, &before], 3)?;
        let by_matrix = |step: usize, first: usize| {
            let all = (0..matrices).map(|m| (m * step + first) as u32).collect();
            Tensor::from_vec(all, &[matrices, 1], device)
        };
        let slots = all.reshape(&[matrices as isize, -1])?.add(&by_matrix(blocks + 1, 1)?)?;
        let groups = group(op, &slots.reshape(&[-1])?.contiguous()?, matrices * (blocks + 1))?;
        // Rows are entries of `all` in this order: by block, and for each by query.
        let order = groups.order.reshape(&[matrices as isize, 1, count as isize])?;
        // Where each entry went: what sorts the order, in each matrix by itself.
        let place = order.argsort(-1, false)?.add(&by_matrix(count, 0)?.unsqueeze(1)?)?;
        // Both count in the matrices of key heads: from there to the heads of each group.
        let to_heads = |length: usize, first: usize| {
            let heads = (0..matrices).flat_map(|m| (0..group_size).map(move |g| m * (group_size - 1) + g));
            let firsts = heads.map(|head| (head * length + first) as u32).collect();
            Tensor::from_vec(firsts, &[matrices, group_size, 1], device)
        };
        let queries_of = order.div(&number(each)?)?.add(&to_heads(queries, 1)?)?.reshape(&[-1])?;
        // By the number of the row first: kernels sum whole tensors faster than neighbours.
        let rows_of = place.add(&to_heads(count, 1)?)?.reshape(&[-1, each as isize])?;
        let rows_of = rows_of.transpose(0, 1)?.reshape(&[-1])?.contiguous()?;
        // The rows of a block begin with those of its own queries, each of which sees one key more.
        let starts = |first: usize| {
            let starts = groups.starts.narrow(0, first, matrices * (blocks + 1))?.reshape(&[matrices as isize, -1])?;
            let of_matrix = starts.narrow(1, 0, blocks)?.sub(&by_matrix(count, 0)?)?.cast(DType::I32)?;
            let of_keys = of_matrix.repeat_interleave(block, 1)?.narrow(1, 0, keys)?;
            of_keys.reshape(&[batch, key_heads, keys].map(|n| n as isize))
        };
        let inside = Tensor::from_vec((0..keys).map(|j| (j % block) as i32).collect(), &[1, 1, keys], device)?;
        let of_heads = |x: &Tensor| x.repeat_interleave(group_size, 1);
        let mask = Mask::intervals(&of_heads(&starts(0)?.add(&inside)?)?, &of_heads(&starts(1)?)?, None);
        Ok(Rows { batch, heads, queries, each, queries_of, rows_of, mask })
    }

    /// For each row what its query has: of [batch, heads, queries, width] or [batch, heads, queries].
    fn of_queries(&self, op: &'static str, x: &Tensor) -> Result<Tensor> {
        let width = x.shape().get(3).copied().unwrap_or(1);
        let from = Block { outer: 1, rows: self.batch * self.heads * self.queries, inner: width };
        let rows = take(op, None, x, &self.queries_of, &from)?;
        rows.reshape(&[self.batch, self.heads, self.queries * self.each, width].map(|n| n as isize))
    }

    /// What the rows of each query have: [each, batch, heads, queries, width] of [batch, heads, rows, width].
    fn to_queries(&self, op: &'static str, x: &Tensor) -> Result<Tensor> {
        let width = x.shape()[3];
        let from = Block { outer: 1, rows: self.batch * self.heads * self.queries * self.each, inner: width };
        let rows = take(op, None, x, &self.rows_of, &from)?;
        rows.reshape(&[self.each, self.batch, self.heads, self.queries, width].map(|n| n as isize))
    }
}
