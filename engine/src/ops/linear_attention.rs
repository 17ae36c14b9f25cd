//! Linear attention: a sum over keys that needs no softmax, so that what was seen fits into a state of fixed size. Causal
//! attention runs chunk by chunk (Qin et al., Lightning Attention-2, 2024): inside a chunk as a masked product, between
//! chunks by the state. Time and memory are linear in the length.

use crate::{DType, Error, Result, Tensor};

/// What linear attention does beside `o_i = sum_j (query_i . key_j) value_j`. The default is just that, over all keys.
#[derive(Clone, Debug)]
pub struct LinearAttention {
    /// Whether query `i` sees the keys `j <= i` alone.
    pub causal: bool,
    /// The logarithm of each head's decay, at most 0, `[heads]`: key `j` counts `exp(log_decay (i - j))` for query `i`. For
    /// causal attention. Gets a gradient.
    pub log_decay: Option<Tensor>,
    /// Divide by `sum_j query_i . key_j + eps` with this eps, as for features that are positive (Katharopoulos et al., 2020).
    /// The state then has one more column, for that sum.
    pub normalize: Option<f64>,
    /// Keys from `key_lengths[b]` on are padding. One length for each batch element, one for all, or none if there is no padding.
    pub key_lengths: Vec<usize>,
    /// Positions of one chunk. It changes the result by rounding alone.
    pub chunk: usize,
    /// What earlier calls left behind, `[batch, heads, features, value_dim]`, in f32 beside halves. Gets a gradient.
    pub state: Option<Tensor>,
}

impl Default for LinearAttention {
    fn default() -> Self {
        LinearAttention {
            causal: false,
            log_decay: None,
            normalize: None,
            key_lengths: Vec::new(),
            chunk: 64,
            state: None,
        }
    }
}

const OP: &str = "linear_attention";

/// See [`Tensor::linear_attention`].
pub(crate) fn linear_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &LinearAttention,
) -> Result<(Tensor, Tensor)> {
    check(query, key, value, options)?;
    let dtype = query.dtype();
    if dtype.is_half() {
        let wide = |x: &Tensor| x.cast(DType::F32);
        let log_decay = options.log_decay.as_ref().map(wide).transpose()?;
        let options = LinearAttention { log_decay, ..options.clone() };
        let (out, state) = linear_attention(&wide(query)?, &wide(key)?, &wide(value)?, &options)?;
        return Ok((out.cast(dtype)?, state));
    }
    let key = &without_padding(key, options)?;
    let value = &with_ones(value, options)?;
    let (sums, state) = match options.causal {
        false => {
            let seen = key.transpose(2, 3)?.matmul(value)?;
            let state = options.state.as_ref().map_or(Ok(seen.clone()), |before| before.add(&seen))?;
            (query.matmul(&state)?, state)
        }
        true => causal(query, key, value, options)?,
    };
    Ok((divided(&sums, options)?, state))
}

/// Whole chunks, then what is left as one shorter chunk.
fn causal(query: &Tensor, key: &Tensor, value: &Tensor, options: &LinearAttention) -> Result<(Tensor, Tensor)> {
    let (length, chunk) = (query.shape()[2], options.chunk);
    let (whole, rest) = (length / chunk, length % chunk);
    let decay = options.log_decay.as_ref();
    let mut state = match &options.state {
        Some(state) => state.clone(),
        None => {
            let (q, v) = (query.shape(), value.shape());
            Tensor::zeros(&[q[0], q[1], q[3], v[3]], query.dtype(), query.device())?
        }
    };
    let mut parts = Vec::new();
    for (start, chunks, size) in [(0, whole, chunk), (whole * chunk, 1, rest)] {
        if chunks * size > 0 {
            let part = |x: &Tensor| x.narrow(2, start, chunks * size);
            let (out, after) = in_chunks([&part(query)?, &part(key)?, &part(value)?], chunks, size, decay, &state)?;
            parts.push(out);
            state = after;
        }
    }
    match &parts[..] {
        [] => Ok((query.matmul(&state)?, state)),
        [one] => Ok((one.clone(), state)),
        _ => Ok((Tensor::concat(&parts.iter().collect::<Vec<_>>(), 2)?, state)),
    }
}

/// `chunks` chunks of `size` positions each, from `state` on; the result and the state after them.
fn in_chunks(
    [query, key, value]: [&Tensor; 3],
    chunks: usize,
    size: usize,
    decay: Option<&Tensor>,
    state: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let cut = |x: &Tensor| {
        let shape = [x.shape()[0], x.shape()[1], chunks, size, x.shape()[3]];
        x.reshape(&shape.map(|n| n as isize))
    };
    let (q, k, v) = (cut(query)?, cut(key)?, cut(value)?);
    let scores = q.matmul(&k.transpose(3, 4)?)?;
    let (scores, from_start, to_end, factor) = match decay {
        None => {
            let heads = query.shape()[1];
            (scores.tril(0)?, q, k, Tensor::ones(&[heads], query.dtype(), query.device())?)
        }
        Some(decay) => {
            let factor = powers(decay, std::iter::once(size), &[])?;
            let ahead = powers(decay, 1..=size, &[1, size, 1])?;
            let left = powers(decay, (0..size).rev(), &[1, size, 1])?;
            let within = powers(decay, distances(size), &[1, size, size])?.tril(0)?;
            (scores.mul(&within)?, q.mul(&ahead)?, k.mul(&left)?, factor)
        }
    };
    let added = to_end.transpose(3, 4)?.matmul(&v)?;
    // The state before each chunk, and after the last.
    let states = Tensor::concat(&[&state.unsqueeze(2)?, &added], 2)?.decaying_sum(&factor)?;
    let before = states.narrow(2, 0, chunks)?;
    let out = scores.matmul(&v)?.add(&from_start.matmul(&before)?)?;
    Ok((out.flatten(2, 3)?, states.select(2, chunks)?))
}

/// `exp(exponent * log_decay)` for each head, `[heads, shape..]`. Exponents are never negative and logarithms never positive,
/// so that no power overflows.
fn powers(log_decay: &Tensor, exponents: impl Iterator<Item = usize>, shape: &[usize]) -> Result<Tensor> {
    let exponents: Vec<f32> = exponents.map(|e| e as f32).collect();
    let exponents = Tensor::from_vec(exponents, shape, log_decay.device())?.cast(log_decay.dtype())?;
    let heads: Vec<isize> = std::iter::once(-1).chain(shape.iter().map(|_| 1)).collect();
    log_decay.reshape(&heads)?.mul(&exponents)?.exp()
}

/// The distance of each pair of `size` positions, row by row; 0 where the second is ahead: the lower triangle cuts those.
fn distances(size: usize) -> impl Iterator<Item = usize> {
    (0..size * size).map(move |i| (i / size).saturating_sub(i % size))
}

/// One position more: `query`, `key` `[batch, heads, features]`, `value` `[batch, heads, value_dim]`, and the state before.
pub(crate) fn step(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    state: &Tensor,
    options: &LinearAttention,
) -> Result<(Tensor, Tensor)> {
    let row = |x: &Tensor| x.unsqueeze(2);
    let with_state = LinearAttention { causal: true, state: Some(state.clone()), ..options.clone() };
    check(&row(query)?, &row(key)?, &row(value)?, &with_state)?;
    let dtype = query.dtype();
    if dtype.is_half() {
        let wide = |x: &Tensor| x.cast(DType::F32);
        let log_decay = options.log_decay.as_ref().map(wide).transpose()?;
        let options = LinearAttention { log_decay, ..options.clone() };
        let (out, state) = step(&wide(query)?, &wide(key)?, &wide(value)?, state, &options)?;
        return Ok((out.cast(dtype)?, state));
    }
    let value = with_ones(&row(value)?, options)?;
    let added = key.unsqueeze(3)?.mul(&value)?;
    let state = match &options.log_decay {
        None => state.add(&added)?,
        Some(decay) => state.mul(&decay.exp()?.reshape(&[-1, 1, 1])?)?.add(&added)?,
    };
    let out = divided(&row(query)?.matmul(&state)?, options)?.squeeze(2)?;
    Ok((out, state))
}

/// The definition, with every pair of query and key in memory: the oracle of the tests. Of a state nothing is known here.
///
/// # Errors
/// As [`Tensor::linear_attention`], or if there is a state.
pub fn reference(query: &Tensor, key: &Tensor, value: &Tensor, options: &LinearAttention) -> Result<Tensor> {
    check(query, key, value, options)?;
    if options.state.is_some() {
        return Err(Error::argument(OP, "the quadratic form has no state"));
    }
    let mut scores = query.matmul(&without_padding(key, options)?.transpose(2, 3)?)?;
    if options.causal {
        scores = scores.tril(0)?;
    }
    if let Some(decay) = &options.log_decay {
        let length = query.shape()[2];
        scores = scores.mul(&powers(decay, distances(length), &[length, length])?)?;
    }
    divided(&scores.matmul(&with_ones(value, options)?)?, options)
}

/// Zeros for keys that are padding, which then leave nothing in any sum.
fn without_padding(key: &Tensor, options: &LinearAttention) -> Result<Tensor> {
    let (lengths, keys) = (&options.key_lengths, key.shape()[2]);
    if lengths.iter().all(|&length| length == keys) {
        return Ok(key.clone());
    }
    let hidden: Vec<bool> = lengths.iter().flat_map(|&length| (0..keys).map(move |j| j >= length)).collect();
    key.masked_fill(&Tensor::from_vec(hidden, &[lengths.len(), 1, keys, 1], key.device())?, 0.0)
}

/// With a column of ones behind the values, whose sum is the divisor.
fn with_ones(value: &Tensor, options: &LinearAttention) -> Result<Tensor> {
    if options.normalize.is_none() {
        return Ok(value.clone());
    }
    let shape = [&value.shape()[..3], &[1]].concat();
    Tensor::concat(&[value, &Tensor::ones(&shape, value.dtype(), value.device())?], 3)
}

fn divided(sums: &Tensor, options: &LinearAttention) -> Result<Tensor> {
    let Some(eps) = options.normalize else { return Ok(sums.clone()) };
    let width = sums.shape()[3] - 1;
    sums.narrow(3, 0, width)?.div(&sums.narrow(3, width, 1)?.add_scalar(eps)?)
}

fn check(query: &Tensor, key: &Tensor, value: &Tensor, options: &LinearAttention) -> Result<()> {
    query.expect_float(OP)?;
    query.expect_like(OP, key)?;
    query.expect_like(OP, value)?;
    let shapes = || format!("query {:?}, key {:?}, value {:?}", query.shape(), key.shape(), value.shape());
    let (&[batch, heads, queries, features], &[kb, kh, keys, kf], &[vb, vh, vt, value_dim]) =
        (query.shape(), key.shape(), value.shape())
    else {
        return Err(Error::shape(OP, format!("{}: expected four dimensions each", shapes())));
    };
    if (kb, kh, kf) != (batch, heads, features) || (vb, vh, vt) != (batch, heads, keys) {
        return Err(Error::shape(OP, format!("{} do not fit [B, H, Tq, F], [B, H, Tk, F], [B, H, Tk, D]", shapes())));
    }
    if options.causal && queries != keys {
        return Err(Error::shape(OP, format!("{}: causal attention needs as many queries as keys", shapes())));
    }
    let lengths = &options.key_lengths;
    if !(lengths.is_empty() || lengths.len() == 1 || lengths.len() == batch) || lengths.iter().any(|&n| n > keys) {
        let message = format!("key lengths {lengths:?} for a batch of {batch} with {keys} keys");
        return Err(Error::argument(OP, message));
    }
    if options.chunk == 0 {
        return Err(Error::argument(OP, "chunks of 0 positions, expected at least 1"));
    }
    if let Some(decay) = &options.log_decay {
        query.expect_like(OP, decay)?;
        if !options.causal {
            return Err(Error::argument(OP, "a decay without causal attention has no meaning"));
        }
        if decay.shape() != [heads] {
            let message = format!("log_decay of shape {:?}, expected one for each of {heads} heads", decay.shape());
            return Err(Error::shape(OP, message));
        }
    }
    if let Some(state) = &options.state {
        query.expect_same_device(OP, state)?;
        let held = if query.dtype().is_half() { DType::F32 } else { query.dtype() };
        state.expect_dtype(OP, held, "a state of f32 (of f64 beside f64)")?;
        let columns = value_dim + usize::from(options.normalize.is_some());
        let expected = [batch, heads, features, columns];
        if state.shape() != expected {
            return Err(Error::shape(OP, format!("state of shape {:?}, expected {expected:?}", state.shape())));
        }
    }
    if options.normalize.is_some_and(|eps| !(eps >= 0.0 && eps.is_finite())) {
        return Err(Error::argument(OP, format!("normalize {:?}, expected an eps of 0 or more", options.normalize)));
    }
    Ok(())
}
