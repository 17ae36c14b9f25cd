//! Scaled dot-product attention through the public operation.

use wgrad::{AttentionOptions, DType, Device, Mask, Rope, Rotary, Tensor};

use super::{Work, compare, dtype, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// Scores up to which the reference does all heads; beyond, it does the first and the last.
const MAX_SCORES: usize = 1 << 24;

/// Query, key and value `[b, h, l, dh]`; `causal=1` hides later keys, `rope=1` turns queries and keys by their positions first.
pub fn attention(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (b, h) = (params.size("b", 1)?, params.size("h", 8)?);
    let (l, dh) = (params.size("l", 512)?, params.size("dh", 64)?);
    let causal = params.flag("causal", false)?;
    let rotary = match params.flag("rope", false)? {
        true => {
            let positions = Tensor::arange(0, l as i64, DType::I32, device)?.expand(&[b, l])?;
            Some(Rotary { rope: Rope::new(dh, 1e4)?, queries: positions.clone(), keys: positions })
        }
        false => None,
    };
    let dtype = dtype(params)?;
    let backward = name.ends_with("_bwd");
    let tensors = if backward { 4 } else { 3 };
    let inputs: Vec<Tensor> =
        (0..tensors).map(|_| normal(&[b, h, l, dh], dtype, device)).collect::<wgrad::Result<_>>()?;

    // Two products of [l, l] with [l, dh] forward; the convention for backward is five.
    let products = if backward { 7.0 } else { 2.0 };
    let share = if causal { 0.5 } else { 1.0 };
    let flops = products * 2.0 * share * (b * h * l) as f64 * (l * dh) as f64;
    // Forward: q, k, v in, o out; backward: q, k, v, o, do in, dq, dk, dv out.
    let bytes = if backward { 12.0 } else { 4.0 } * (b * h * l * dh * dtype.size()) as f64;

    let turned = rotary.clone();
    let fused = move |x: &[Tensor]| {
        let mask = if causal { Mask::causal(0) } else { Mask::all() };
        let options = AttentionOptions { mask, rotary: turned.clone(), ..AttentionOptions::default() };
        results(x, |q, k, v| q.attention(k, v, &options))
    };
    let name = name.to_string();
    let given = inputs.clone();
    Ok(Work {
        flops: Some(flops),
        bytes: Some(bytes),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(fused(&given)?)),
        check: Box::new(move |step| {
            let got = step()?;
            let heads = if b * h * l * l <= MAX_SCORES { None } else { Some([(0, 0), (b - 1, h - 1)]) };
            let parts: Vec<Option<(usize, usize)>> = heads.map_or(vec![None], |heads| heads.map(Some).to_vec());
            for part in parts {
                let part = |x: &Tensor| match part {
                    None => Ok(x.detach()),
                    Some((batch, head)) => x.detach().narrow(0, batch, 1)?.narrow(1, head, 1),
                };
                let wide = inputs.iter().map(|x| check::to_reference(&part(x)?)).collect::<Result<Vec<_>>>()?;
                let want = results(&wide, |q, k, v| match &rotary {
                    Some(Rotary { rope, queries, .. }) => {
                        let positions = queries.narrow(0, 0, q.size(0)?)?.to_device(q.device())?;
                        composed(&q.rope(&positions, rope)?, &k.rope(&positions, rope)?, v, causal)
                    }
                    None => composed(q, k, v, causal),
                })?;
                let got = got.iter().map(part).collect::<wgrad::Result<Vec<_>>>()?;
                compare(&name, &got, &want, check::tolerance(dtype))?;
            }
            Ok(())
        }),
    })
}

/// The output, and with a fourth tensor, its gradient, the gradients of the other three.
pub(super) fn results(
    x: &[Tensor],
    attention: impl Fn(&Tensor, &Tensor, &Tensor) -> wgrad::Result<Tensor>,
) -> wgrad::Result<Vec<Tensor>> {
    let Some(dy) = x.get(3) else { return Ok(vec![attention(&x[0], &x[1], &x[2])?]) };
    let [q, k, v] = [0, 1, 2].map(|i: usize| x[i].requires_grad());
    with_gradients(&attention(&q, &k, &v)?, dy, &[&q, &k, &v])
}

/// The formula, from primitive operations.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> wgrad::Result<Tensor> {
    let (l, dh) = (q.size(-2)?, q.size(-1)? as f64);
    let scores = q.matmul(&k.transpose(-2, -1)?)?.mul_scalar(dh.sqrt().recip())?;
    let scores = match causal {
        true => {
            let later = Tensor::ones(&[l, l], DType::F64, q.device())?.triu(1)?.cast(DType::Bool)?;
            scores.masked_fill(&later, -1e30)?
        }
        false => scores,
    };
    scores.softmax(-1)?.matmul(v)
}
