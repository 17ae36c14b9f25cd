//! Multi-head latent attention (DeepSeek-V2, 2024, arXiv 2405.04434): keys and values from one short vector a position.

use wgrad::nn::Build;
use wgrad::{DType, Device, Mask, Tensor};

use super::{Report, System, Wanted};
use crate::Result;
use crate::attention::Pass;
use crate::mixer::{Latent, LatentCache, LatentConfig, Mixer};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "latent-attention",
    title: "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model (its attention)",
    paper: "2405.04434",
    shows: "it decodes the same as over whole rows, from a fraction of the numbers that keys and values are",
    check,
};

/// The difference between a pass over whole rows and decoding token by token, from the short vectors alone.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let config = LatentConfig {
        heads: 4,
        query_rank: 48,
        rank: 32,
        plain_dim: 16,
        rotary_dim: 16,
        value_dim: 16,
        theta: 10_000.0,
        eps: 1e-6,
    };
    let all = config.heads * (config.plain_dim + config.rotary_dim + config.value_dim);
    Ok(Report {
        property: format!(
            "difference of decoding with {} numbers kept for a token, where keys and values are {all}, from the whole pass",
            config.kept()
        ),
        measured: decoded_apart(config, 64, device)?,
        wanted: Wanted::AtMost,
        threshold: 1e-4,
    })
}

/// The largest difference between a pass over whole rows and decoding token by token, over the largest number.
fn decoded_apart(config: LatentConfig, hidden: usize, device: &Device) -> Result<f64> {
    let (batch, length) = (2, 11);
    let layer = Latent::new(config, hidden, &Build::new(device))?;
    let x = Tensor::normal(0.0, 1.0, &[batch, length, hidden], DType::F32, device)?;
    let pass = |from: usize, count: usize| {
        let mut pass = Pass::new(&Mask::causal(from as i64), from, std::iter::empty());
        let places = Tensor::arange(from as i64, (from + count) as i64, DType::I32, device)?;
        pass.positions = Some(places.unsqueeze(0)?.expand(&[batch, count])?);
        Ok::<_, crate::Error>(pass)
    };
    let whole = layer.mix(&x, &pass(0, length)?)?;
    let mut cache = LatentCache::default();
    let mut rows = Vec::new();
    for at in 0..length {
        rows.push(layer.decode(&x.narrow(1, at, 1)?, &pass(at, 1)?, &mut cache)?);
    }
    let rows = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 1)?;
    let largest = |x: &Tensor| x.abs()?.max(&[], false)?.item();
    Ok(largest(&rows.sub(&whole)?)? / largest(&whole)?)
}
