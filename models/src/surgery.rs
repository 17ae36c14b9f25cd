//! A Pre-LN model as the same function without means and without gains (Jiang et al., Pre-RMSNorm and Pre-CRMSNorm Transformers, 2023, arXiv
//! 2305.14858, section 3).

use std::collections::BTreeMap;
use std::str::FromStr;

use wgrad::nn::Module;
use wgrad::{Tensor, no_grad};

use crate::block::{BlockConfig, Place};
use crate::initial::Role;
use crate::lm::{Lm, LmConfig};
use crate::norm::{NormConfig, NormKind};
use crate::{Error, Result};

/// What a Pre-LN model is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// RMS norms in place of layer norms: the residual stream has a mean of zero by itself.
    Mean,
    /// The last element of the residual stream as well, which is the negative sum of the others.
    LastElement,
}

impl Without {
    /// Name on the command line and in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Without::Mean => "rms",
            Without::LastElement => "crms",
        }
    }

    /// How much shorter the residual stream becomes.
    pub(crate) fn cut(self) -> usize {
        usize::from(self == Without::LastElement)
    }

    /// The kind of the new norms.
    pub(crate) fn kind(self) -> wgrad::NormKind {
        match self {
            Without::Mean => wgrad::NormKind::Rms,
            Without::LastElement => wgrad::NormKind::Crms,
        }
    }
}

impl FromStr for Without {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let of_name = [Without::Mean, Without::LastElement].into_iter().find(|way| way.name() == name);
        of_name.ok_or_else(|| Error::argument("norms", format!("{name:?}, expected rms or crms")))
    }
}

/// The same function in another form. Gains and biases of norms go into the layers that follow, and what writes to the residual stream
/// writes vectors of mean zero.
///
/// # Errors
/// If the model is not one of Pre-LN with biases in all layers that follow norms, or memory is exhausted.
pub fn convert(lm: &Lm, without: Without) -> Result<Lm> {
    let old = lm.config();
    let eps = pre_ln_eps(old)?;
    let hidden = old.hidden - without.cut();
    let norm = NormConfig { kind: NormKind::Plain(without.kind()), eps };
    let blocks = old.blocks.iter().map(|block| BlockConfig { hidden, norm, ..*block }).collect();
    let config = LmConfig { hidden, blocks, norm: Some(norm), ..old.clone() };
    let parts = lm.named_parameters().into_iter().map(|(name, param)| (name, param.tensor().detach()));
    let parts = Parts(parts.collect());
    let device = parts.get("embedding.weight")?.device().clone();
    let new = Lm::new(&config, &device)?;
    no_grad(|| {
        for (name, param) in new.named_parameters() {
            param.set(&parts.converted(&name, hidden)?.contiguous()?)?;
        }
        Ok(new)
    })
}

/// What is added to variances, if the model is of the right kind.
fn pre_ln_eps(config: &LmConfig) -> Result<f64> {
    let refuse = |what: &str| Err(Error::config(format!("a conversion of layer norms needs {what}")));
    let Some(NormConfig { kind: NormKind::Layer { gain: true, bias: true }, eps }) = config.norm else {
        return refuse("a layer norm with gain and bias after the last block");
    };
    let pre = |place: Place| matches!(place, Place { before: Some(name), .. } if place == Place::pre(name));
    let fits = |block: &BlockConfig| {
        let bias = block.attention.bias;
        Some(block.norm) == config.norm
            && pre(block.attention_place)
            && pre(block.feed_forward_place)
            && bias.query
            && bias.key
            && bias.value
            && block.feed_forward.bias[0]
    };
    if !config.blocks.iter().all(fits) || !config.head_bias {
        return refuse("the same norms before all parts, and biases in all layers that follow them");
    }
    if config.embedding_norm.is_some() || config.averages > 0 {
        return refuse("a residual stream of sums alone, without a norm of words and without averages");
    }
    Ok(eps)
}

/// The tensors of the old model by name.
struct Parts(BTreeMap<String, Tensor>);

impl Parts {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::config(format!("a conversion of layer norms found no parameter {name}")))
    }

    /// A parameter of the new model with a residual stream of `hidden`.
    fn converted(&self, name: &str, hidden: usize) -> Result<Tensor> {
        let old = self.get(name)?;
        let (layer, bias) = match name.strip_suffix(".bias") {
            Some(layer) => (layer, true),
            None => (name.strip_suffix(".weight").unwrap_or(name), false),
        };
        let Some((role, block)) = Role::of(&format!("{layer}.weight")) else { return Ok(old.clone()) };
        let norm = match role {
            Role::Match | Role::Value => format!("blocks.{block}.attention_norm"),
            Role::Up => format!("blocks.{block}.feed_forward_norm"),
            Role::Head => "norm".to_string(),
            Role::Embedding => return centred(old, 1, hidden),
            Role::Output | Role::Down => return centred(old, 0, hidden),
        };
        if bias {
            let shift = self.get(&format!("{norm}.bias"))?.unsqueeze(0)?;
            return Ok(shift.linear(self.get(&format!("{layer}.weight"))?, Some(old))?.squeeze(0)?);
        }
        folded(old, self.get(&format!("{norm}.weight"))?, hidden)
    }
}

/// The matrix `[outputs, inputs]` of a layer that reads the stream after a norm with this gain, for one without, and for the first `hidden`
/// elements of the stream: the last is the negative sum of the others.
pub(crate) fn folded(weight: &Tensor, gain: &Tensor, hidden: usize) -> Result<Tensor> {
    let folded = weight.mul(gain)?;
    match folded.size(1)? - hidden {
        0 => Ok(folded),
        cut => Ok(folded.narrow(1, 0, hidden)?.sub(&folded.narrow(1, hidden, cut)?)?),
    }
}

/// What writes to the stream along `dim`: without its mean, and without what is cut off.
pub(crate) fn centred(x: &Tensor, dim: isize, hidden: usize) -> Result<Tensor> {
    Ok(x.sub(&x.mean(&[dim], true)?)?.narrow(dim, 0, hidden)?)
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;
    use crate::placement::{Placement, Shape};

    #[test]
    fn other_models_are_refused() {
        let shape = Shape { vocab: 5, hidden: 8, heads: 2, layers: 1, length: 4 };
        for placement in [Placement::Pre, Placement::Post] {
            let lm = Lm::new(&shape.decoder(placement), &Device::new_cpu()).unwrap();
            let error = convert(&lm, Without::Mean).err().unwrap().to_string();
            assert!(error.contains("layer norm"), "{error}");
        }
        let lm = Lm::new(&shape.decoder_with(Placement::Pre, NormConfig::layer(1e-5)), &Device::new_cpu()).unwrap();
        let error = convert(&lm, Without::Mean).err().unwrap().to_string();
        assert!(error.contains("biases"), "{error}");
    }
}
