//! Attention whose cost is linear: one new token against a cache, and linear attention.

use wgrad::{AttentionOptions, DType, Device, KvCache, LinearAttention, Tensor};

use super::{Work, compare, dtype, function, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// One query of each of `h` heads against `l` cached tokens of `kvh` heads (`h` if absent), of width `dh`.
pub fn decode(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (b, h) = (params.size("b", 1)?, params.size("h", 8)?);
    let (l, dh) = (params.size("l", 4096)?, params.size("dh", 64)?);
    let kvh = params.size("kvh", h)?;
    let dtype = dtype(params)?;
    let query = normal(&[b, h, 1, dh], dtype, device)?;
    let (key, value) = (normal(&[b, kvh, l, dh], dtype, device)?, normal(&[b, kvh, l, dh], dtype, device)?);
    let mut cache = KvCache::with_capacity(l, b, kvh, dh, dh, dtype, device)?;
    cache.append(&key, &value)?;
    let wide = [&query, &key, &value].map(check::to_reference);
    drop((key, value));
    let name = name.to_string();
    Ok(Work {
        flops: None,
        bytes: Some(((2 * b * kvh * l + 2 * b * h) * dh * dtype.size()) as f64),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(vec![query.decode(&cache, &AttentionOptions::default())?])),
        check: Box::new(move |step| {
            let got = step()?;
            let [query, key, value] = wide;
            let rows = query?.reshape(&[b, kvh, h / kvh, dh].map(|n| n as isize))?;
            let scores = rows.matmul(&key?.transpose(-2, -1)?)?.mul_scalar((dh as f64).sqrt().recip())?;
            let want = scores.softmax(-1)?.matmul(&value?)?.reshape(&[b, h, 1, dh].map(|n| n as isize))?;
            compare(&name, &got, &[want], check::tolerance(dtype))
        }),
    })
}

/// Causal linear attention with a decay over `b` sequences of `l` tokens, `h` heads of width `dh`, in chunks of `chunk`.
pub fn linear_attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (b, h) = (params.size("b", 1)?, params.size("h", 8)?);
    let (l, dh) = (params.size("l", 4096)?, params.size("dh", 64)?);
    let chunk = params.size("chunk", 64)?;
    let dtype = dtype(params)?;
    let backward = name.ends_with("_bwd");
    let tensors = if backward { 4 } else { 3 };
    let mut inputs: Vec<Tensor> =
        (0..tensors).map(|_| normal(&[b, h, l, dh], dtype, device)).collect::<wgrad::Result<_>>()?;
    // As strong as a retention of 1/32 to 1/1024.
    let decay: Vec<f32> = (0..h).map(|head| -(2f32.powf(-5.0 - 5.0 * head as f32 / h as f32))).collect();
    inputs.push(Tensor::from_vec(decay, &[h], device)?.cast(dtype)?);
    // Of each position: two products with the chunk (half of which is hidden) and two with the state.
    let products = if backward { 3.0 } else { 1.0 };
    let flops = products * (b * h * l) as f64 * 2.0 * (dh * (chunk + 2 * dh)) as f64;
    let bytes = if backward { 12.0 } else { 4.0 } * (b * h * l * dh * dtype.size()) as f64;
    // Sums of thousands of products.
    let tolerance = 10.0 * check::tolerance(dtype);
    let work = function(name, inputs, tolerance, move |x| {
        let log_decay = x.last().map(Tensor::detach);
        let options = LinearAttention { causal: true, log_decay, chunk, ..LinearAttention::default() };
        let run = |q: &Tensor, k: &Tensor, v: &Tensor| Ok(q.linear_attention(k, v, &options)?.0);
        if !backward {
            return Ok(vec![run(&x[0], &x[1], &x[2])?]);
        }
        let [q, k, v] = [0, 1, 2].map(|i: usize| x[i].requires_grad());
        with_gradients(&run(&q, &k, &v)?, &x[3], &[&q, &k, &v])
    });
    Ok(Work { flops: Some(flops), bytes: Some(bytes), f32: dtype == DType::F32, ..work })
}
