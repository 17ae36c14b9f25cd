//! PowerNorm (Shen et al., 2020, arXiv 2003.07845): batch norm for language, where the statistics of batches fluctuate: mean squares
//! without means, and running ones in both passes.

use wgrad::Device;

use super::depth_lab::{Rows, shape};
use super::lab::usual;
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;
use crate::norm::{NormConfig, NormKind, PowerNormConfig};
use crate::placement::Placement;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "power-norm",
    title: "PowerNorm: Rethinking Batch Normalization in Transformers",
    paper: "2003.07845",
    shows: "a language model comes to a lower held-out loss than with batch norms, and to one as low as with layer norms",
    check,
};

const LAYERS: usize = 3;
/// Few and short rows, whose statistics fluctuate: each is of one law or two of three.
const ROWS: [usize; 2] = [4, 32];
const STEPS: u64 = 600;

/// Loss over that with batch norms.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let rows = Rows::new(ROWS, seed, device)?;
    let learned = |norm| {
        device.set_seed(seed);
        let lm = Lm::new(&shape(LAYERS, ROWS[1]).decoder_with(Placement::Post, norm), device)?;
        rows.train(&lm, &usual(STEPS, 2e-3))?;
        rows.measure(&lm)
    };
    let power = PowerNormConfig { warmup: STEPS as usize / 10, ..PowerNormConfig::default() };
    let power = learned(NormConfig { kind: NormKind::Power(power), eps: 1e-5 })?;
    let (batch, layer) = (learned(NormConfig::batch(1e-5))?, learned(NormConfig::layer(1e-5))?);
    ensure(power < 1.02 * layer, || format!("loss {power:.3}, and {layer:.3} with layer norms"))?;
    Ok(Report {
        property: format!("loss over that with batch norms ({power:.3} and {batch:.3} nats; layer norms {layer:.3})"),
        measured: power / batch,
        wanted: Wanted::AtMost,
        threshold: 1.0,
    })
}
