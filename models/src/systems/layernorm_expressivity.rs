//! On the Expressivity Role of LayerNorm in Transformers' Attention (Brody et al., 2023, arXiv 2305.02582): a layer norm is a projection,
//! which makes it easy to see all keys alike, and a scaling, which makes every key one that can be chosen.

use wgrad::{DType, Device, Tensor};

use super::{Report, System, Wanted, ensure};
use crate::Result;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "layernorm-expressivity",
    title: "On the Expressivity Role of LayerNorm in Transformers' Attention",
    paper: "2305.02582",
    shows: "scaled keys can all be chosen, by queries along them; projected keys all look the same to one query",
    check,
};

const KEYS: usize = 50;
const WIDTH: usize = 8;
/// Sets of keys.
const SETS: usize = 40;

/// `x` less its part along the vector of ones.
fn projected(x: &Tensor) -> Result<Tensor> {
    Ok(x.sub(&x.mean(&[-1], true)?)?)
}

/// The share of keys that are the best match of the query along them.
fn chosen(keys: &Tensor) -> Result<f64> {
    let best = keys.matmul(&keys.transpose(1, 2)?)?.argmax(-1, false)?.to_vec::<u32>()?;
    let right = best.iter().enumerate().filter(|(at, best)| at % KEYS == **best as usize).count();
    Ok(right as f64 / best.len() as f64)
}

/// The largest difference of the scores of two keys for the query of ones, which the projection makes all the same.
fn differing(keys: &Tensor) -> Result<f64> {
    let scores = keys.sum(&[-1], false)?;
    let spread = scores.max(&[-1], false)?.sub(&scores.min(&[-1], false)?)?;
    Ok(spread.max(&[], false)?.item()?)
}

/// Keys of all sizes, with and without the two halves of a layer norm.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let normal = |std, sizes: &[usize]| Tensor::normal(0.0, std, sizes, DType::F32, device);
    let keys = normal(1.0, &[SETS, KEYS, WIDTH])?.mul(&normal(1.0, &[SETS, KEYS, 1])?.exp()?)?;
    let scaled = |x: &Tensor| x.rms_norm(None, 1e-12);
    let whole = keys.layer_norm(None, None, 1e-12)?;
    let both = scaled(&projected(&keys)?)?;
    let apart = whole.sub(&both)?.abs()?.max(&[], false)?.item()?;
    ensure(apart < 1e-4, || format!("projection and scaling together are {apart:.1e} from a layer norm"))?;
    let (raw, flat) = (differing(&keys)?, differing(&both)?);
    ensure(flat < 1e-4 && raw > 1.0, || {
        format!("scores for the query of ones differ by {flat:.1e} with the projection, by {raw:.1} without")
    })?;
    let (before, after, half) = (chosen(&keys)?, chosen(&both)?, chosen(&projected(&keys)?)?);
    Ok(Report {
        property: format!(
            "keys that the query along them chooses (raw {:.0} %, projected alone {:.0} %; scores for the query of ones differ by {flat:.0e}, raw {raw:.0})",
            100.0 * before,
            100.0 * half
        ),
        measured: after,
        wanted: Wanted::AtLeast,
        threshold: 1.0,
    })
}
