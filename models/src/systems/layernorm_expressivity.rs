//! On the Expressivity Role of LayerNorm in Transformers' Attention (Brody et al., 2023, arXiv 2305.02582): a layer norm is a projection,
//! which makes it easy to see all keys alike, and a scaling, which makes every key one that can be chosen.

use wgrad::{DType, Device, NormKind as Kind, Tensor, no_grad};

use super::depth_lab::{Rows, SYMBOLS};
use super::hull::unselectable;
use super::lab::usual;
use super::majority::{Halves, Outcome, WIDTH, train};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;
use crate::norm::{NormConfig, NormKind};
use crate::placement::{Placement, Shape};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "layernorm-expressivity",
    title: "On the Expressivity Role of LayerNorm in Transformers' Attention",
    paper: "2305.02582",
    shows: "scaled keys can all be chosen, where many others lie between others; projected keys all look the same to one query",
    check,
};

const KEYS: usize = 50;
/// Sets of keys.
const SETS: usize = 20;
/// Trainings of each kind on the majority task.
const SEEDS: u64 = 3;
/// Tokens of a row, and rows, of the language models whose keys are counted.
const LENGTH: usize = 64;
const ROWS: usize = 4;
const LAYERS: usize = 3;

/// `x` less its part along the vector of ones.
fn projected(x: &Tensor) -> Result<Tensor> {
    Ok(x.sub(&x.mean(&[-1], true)?)?)
}

/// The share of keys `[sets, keys, width]` that no query chooses among those of their set.
fn lost(keys: &Tensor) -> Result<f64> {
    let (sets, count, width) = (keys.size(0)?, keys.size(1)?, keys.size(2)?);
    let values = keys.detach().to_f64_vec()?;
    let of_set = |set: &[f64]| unselectable(&set.chunks(width).map(<[f64]>::to_vec).collect::<Vec<_>>());
    Ok(values.chunks(count * width).map(of_set).sum::<usize>() as f64 / (sets * count) as f64)
}

/// The largest difference of the scores of two keys for the query of ones, which the projection makes all the same.
fn differing(keys: &Tensor) -> Result<f64> {
    let scores = keys.sum(&[-1], false)?;
    let spread = scores.max(&[-1], false)?.sub(&scores.min(&[-1], false)?)?;
    Ok(spread.max(&[], false)?.item()?)
}

/// Of a small language model with a norm, the share of its attention's keys that no query chooses, and of the same keys without scaling:
/// mean over layers.
fn lost_in_model(kind: Kind, device: &Device, seed: u64) -> Result<[f64; 2]> {
    device.set_seed(seed);
    let shape = Shape { vocab: SYMBOLS, hidden: WIDTH, heads: 1, layers: LAYERS, length: LENGTH };
    let norm = NormConfig { kind: NormKind::Plain(kind), eps: 1e-6 };
    let lm = Lm::new(&shape.decoder_with(Placement::Pre, norm), device)?;
    let rows = Rows::new([ROWS, LENGTH], seed, device)?;
    rows.train(&lm, &usual(300, 3e-3))?;
    let (_, states) = no_grad(|| lm.trace(&rows.batch(2, 0)?.0))?;
    let mut shares = [0.0; 2];
    for state in &states[..LAYERS] {
        let own = if kind == Kind::Centre { projected(state)? } else { state.layer_norm(None, None, 1e-6)? };
        for (share, keys) in shares.iter_mut().zip([own, projected(state)?]) {
            *share += lost(&keys)? / LAYERS as f64;
        }
    }
    Ok(shares)
}

/// Keys of all sizes, with and without the two halves of a layer norm; then keys of language models; then the majority task.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let normal = |std, sizes: &[usize]| Tensor::normal(0.0, std, sizes, DType::F32, device);
    let keys = normal(1.0, &[SETS, KEYS, WIDTH])?.mul(&normal(1.0, &[SETS, KEYS, 1])?.exp()?)?;
    let whole = keys.layer_norm(None, None, 1e-12)?;
    let both = projected(&keys)?.rms_norm(None, 1e-12)?;
    let apart = whole.sub(&both)?.abs()?.max(&[], false)?.item()?;
    ensure(apart < 1e-4, || format!("projection and scaling together are {apart:.1e} from a layer norm"))?;
    let (raw, flat) = (differing(&keys)?, differing(&both)?);
    ensure(flat < 1e-4 && raw > 1.0, || {
        format!("scores for the query of ones differ by {flat:.1e} with the projection, by {raw:.1} without")
    })?;
    let (unscaled, scaled) = (lost(&projected(&keys)?)?, lost(&both)?);
    let [model, before] = lost_in_model(Kind::Layer, device, seed)?;
    let [without, _] = lost_in_model(Kind::Centre, device, seed)?;
    ensure(unscaled > 0.2 && before > 0.0 && without > 0.0, || {
        format!(
            "without scaling {unscaled:.3} of drawn keys lie between others, and {before:.3} and {without:.3} of two models'"
        )
    })?;
    let majority = |halves| (0..SEEDS).map(|n| train(halves, device, SEEDS * seed + n)).collect::<Result<Vec<_>>>();
    let (own, scaling) = (majority(Halves::Both)?, majority(Halves::Scaling)?);
    let authors = majority(Halves::AuthorsScaling)?;
    // That is all that is asked for: queries do not turn all the way to the vector of ones here, and of the time that learning takes longer
    // without the projection, most goes with the authors' smaller scale.
    ensure(own.iter().all(|outcome| outcome.steps.is_some()), || {
        format!("with both halves the majority task was not learned: {}", told(&own))
    })?;
    Ok(Report {
        property: format!(
            "share of keys that no query chooses, drawn or of a trained model, with scaling (without, drawn {:.0} %, of the model {:.0} %, of one trained without {:.0} %). Majority task, {SEEDS} seeds: layer norm {}; without projection {}, at the authors' scale {}",
            100.0 * unscaled,
            100.0 * before,
            100.0 * without,
            told(&own),
            told(&scaling),
            told(&authors),
        ),
        measured: scaled.max(model),
        wanted: Wanted::AtMost,
        threshold: 0.0,
    })
}

/// Steps and angles of some trainings.
fn told(outcomes: &[Outcome]) -> String {
    let each = |of: &dyn Fn(&Outcome) -> String| outcomes.iter().map(of).collect::<Vec<_>>().join(", ");
    let steps = |outcome: &Outcome| match outcome.steps {
        Some(steps) => steps.to_string(),
        None => format!("never ({:.0} %)", 100.0 * outcome.share),
    };
    format!("{} steps at {} degrees from the ones", each(&steps), each(&|outcome| format!("{:.0}", outcome.angle)))
}
