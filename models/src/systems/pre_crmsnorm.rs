//! Pre-RMSNorm and Pre-CRMSNorm Transformers (Jiang et al., 2023, arXiv 2305.14858): a Pre-LN model as the same function without means, and
//! with a residual stream that is shorter by one.

use wgrad::nn::{Init, Module};
use wgrad::{Device, no_grad};

use super::depth_lab::{Rows, shape};
use super::{Report, System, Wanted};
use crate::Result;
use crate::attention::{AttentionConfig, Bias};
use crate::block::BlockConfig;
use crate::feed_forward::FeedForwardConfig;
use crate::lm::{Lm, LmConfig};
use crate::norm::NormConfig;
use crate::placement::Placement;
use crate::surgery::{Without, convert};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "pre-crmsnorm",
    title: "Pre-RMSNorm and Pre-CRMSNorm Transformers: Equivalent and Efficient Pre-LN Transformers",
    paper: "2305.14858",
    shows: "a Pre-LN model becomes one of RMS norms, and one with a stream shorter by one, and stays the same function",
    check,
};

/// A Pre-LN decoder of 12 blocks with biases everywhere; its vectors are drawn too, as if it were trained.
pub fn pre_ln(device: &Device) -> Result<Lm> {
    let config = shape(12, 32).decoder_with(Placement::Pre, NormConfig::layer(1e-5));
    let biased = |block: &BlockConfig| BlockConfig {
        attention: AttentionConfig { bias: Bias::all(true), ..block.attention },
        feed_forward: FeedForwardConfig { bias: [true; 2], ..block.feed_forward },
        ..*block
    };
    let blocks = config.blocks.iter().map(biased).collect();
    let lm = Lm::new(&LmConfig { blocks, head_bias: true, ..config }, device)?;
    for (name, param) in lm.named_parameters() {
        if let [width] = *param.shape() {
            let mean = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            param.set(&Init::Normal { mean, std: 0.3 }.tensor(&[width], param.dtype(), device)?)?;
        }
    }
    Ok(lm)
}

/// The largest difference of logits.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let lm = pre_ln(device)?;
    let (ids, _) = Rows::new([4, 32], seed, device)?.batch(0, 0)?;
    let logits = |lm: &Lm| no_grad(|| lm.logits(&ids));
    let want = logits(&lm)?;
    let size = want.abs()?.max(&[], false)?.item()?;
    let mut apart = [0.0; 2];
    for (apart, without) in apart.iter_mut().zip([Without::Mean, Without::LastElement]) {
        *apart = logits(&convert(&lm, without)?)?.sub(&want)?.abs()?.max(&[], false)?.item()?;
    }
    let [rms, crms] = apart;
    Ok(Report {
        property: format!(
            "largest difference of logits, which are up to {size:.1} (Pre-RMSNorm {rms:.1e}, Pre-CRMSNorm {crms:.1e})"
        ),
        measured: rms.max(crms),
        wanted: Wanted::AtMost,
        threshold: 1e-5,
    })
}
