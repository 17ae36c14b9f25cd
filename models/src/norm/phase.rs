//! Norms of maps by amplitude and phase (Lee, Bae, Kim, Decompose, adjust, compose: Effective normalization by playing with frequency for
//! domain generalization, CVPR 2023, arXiv:2303.02328): amplitudes of a Fourier transform are taken for style, phases for content.

use wgrad::nn::{Build, Init, Mode, Module, Param, Visitor};
use wgrad::{Tensor, no_grad};

use super::state::{blend, state, wide};
use crate::{Error, Result};

/// Softmax temperatures of the authors' program.
const CONTENT_TEMPERATURE: f64 = 1e-4;
const STYLE_TEMPERATURE: f64 = 0.1;

/// Whose statistics normalise a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PhaseBase {
    /// The channel's over the batch; in evaluation running averages.
    Batch {
        /// Share of a new batch in the averages.
        momentum: f64,
    },
    /// Its own.
    Instance,
}

/// Which amplitude and which phase are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseKind {
    /// PCNorm: the amplitude of the normalised map, the phase of the map.
    Preserving,
    /// CCNorm: the amplitude of the normalised map, the phase of the map less a learned share of the mean that the norm takes off. That
    /// share has no gradient but zero, in the definition too: it decides a sign.
    ContentControlling,
    /// SCNorm: a learned mixture of the amplitudes of the normalised map and of the map, and the phase of the map.
    StyleControlling,
}

/// The choices of [`PhaseNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhaseNormConfig {
    /// What is put together.
    pub kind: PhaseKind,
    /// The norm. The authors take batch norm for the first two kinds, instance norm for the third.
    pub base: PhaseBase,
    /// Added to the variance.
    pub eps: f64,
}

impl PhaseNormConfig {
    /// A kind with its authors' norm.
    pub fn new(kind: PhaseKind) -> Self {
        let base = match kind {
            PhaseKind::StyleControlling => PhaseBase::Instance,
            _ => PhaseBase::Batch { momentum: 0.1 },
        };
        PhaseNormConfig { kind, base, eps: 1e-5 }
    }
}

/// A norm of maps `[batch, channels, height, width]`: the inverse Fourier transform of an amplitude and a phase as [`PhaseKind`] says, then
/// gain and bias of each channel.
///
/// No transform is computed. The norm `(x - mean) r` multiplies all of a map's frequencies by `r > 0` but the constant one, so that of
/// all phases only the sign of a map's own mean `m` can change:
/// `y = (a r + b) (x - m) + (a |m - mean| r + b |m|) sign(m - c mean)`, with the shares `a` and `b` of the amplitudes of the normalised
/// map and of the map, and the share `c` of the mean that is off the phase.
pub struct PhaseNorm {
    config: PhaseNormConfig,
    weight: Param,
    bias: Param,
    /// Of the two shares that a softmax makes.
    logits: Option<Param>,
    running: Option<[Param; 2]>,
    mode: Mode,
}

impl PhaseNorm {
    /// A norm with gains of one, biases of zero, equal shares, means of zero and variances of one.
    ///
    /// # Errors
    /// Unless eps is a finite number from 0 up, or if memory is exhausted.
    pub fn new(config: PhaseNormConfig, channels: usize, build: &Build) -> Result<Self> {
        if !config.eps.is_finite() || config.eps < 0.0 {
            return Err(Error::argument("phase_norm", format!("eps {}, expected from 0 up", config.eps)));
        }
        let running = || Ok::<_, Error>([state(&[channels], 0.0, build)?, state(&[channels], 1.0, build)?]);
        let shared = config.kind != PhaseKind::Preserving;
        Ok(PhaseNorm {
            config,
            weight: build.param(&[channels], Init::Ones)?,
            bias: build.param(&[channels], Init::Zeros)?,
            logits: shared.then(|| build.param(&[2], Init::Zeros)).transpose()?,
            running: matches!(config.base, PhaseBase::Batch { .. }).then(running).transpose()?,
            mode: Mode::default(),
        })
    }

    /// Applies the norm; in training, moves the averages.
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit, a map is empty, or, in training by the batch's statistics, a channel has but one element.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = self.weight.elements();
        match x.shape() {
            &[_, n, height, width] if n == channels && height * width > 0 => {}
            shape => {
                let message = format!("x of shape {shape:?}, expected [batch, {channels}, height, width]");
                return Err(Error::argument("phase_norm", message));
            }
        }
        if x.elements() == 0 {
            return Ok(x.clone());
        }
        let map = wide(x)?;
        let own = map.mean(&[2, 3], true)?;
        let (mean, var) = self.statistics(&map, &own)?;
        let scale = var.add_scalar(self.config.eps)?.rsqrt()?;
        let (waves, constant) = (map.sub(&own)?, own.sub(&mean)?.mul(&scale)?.abs()?);
        let y = match self.config.kind {
            PhaseKind::Preserving => waves.mul(&scale)?.add(&constant.mul(&sign(&own)?)?)?,
            PhaseKind::ContentControlling => {
                let [share, _] = self.shares(CONTENT_TEMPERATURE)?;
                let signs = sign(&own.sub(&mean.mul(&share)?)?)?;
                waves.mul(&scale)?.add(&constant.mul(&signs)?)?
            }
            PhaseKind::StyleControlling => {
                let [normed, plain] = self.shares(STYLE_TEMPERATURE)?;
                let signs = sign(&own)?;
                let constant = constant.mul(&normed)?.add(&own.abs()?.mul(&plain)?)?;
                waves.mul(&scale.mul(&normed)?.add(&plain)?)?.add(&constant.mul(&signs)?)?
            }
        };
        let of_channel = |param: &Param| param.tensor().reshape(&[-1, 1, 1]);
        Ok(y.cast(x.dtype())?.mul(&of_channel(&self.weight)?)?.add(&of_channel(&self.bias)?)?)
    }

    /// Mean and variance that normalise maps of these means, `[1 or batch, channels, 1, 1]`.
    fn statistics(&self, map: &Tensor, own: &Tensor) -> Result<(Tensor, Tensor)> {
        let (Some([running_mean, running_var]), PhaseBase::Batch { momentum }) = (&self.running, self.config.base)
        else {
            return Ok((own.clone(), map.var(&[2, 3], 0.0, true)?));
        };
        let channels = self.weight.elements();
        let broad = |x: &Tensor| x.reshape(&[1, channels as isize, 1, 1]);
        if !self.mode.is_training() {
            return Ok((broad(&wide(&running_mean.tensor())?)?, broad(&wide(&running_var.tensor())?)?));
        }
        let count = (map.elements() / channels) as f64;
        if count < 2.0 {
            let message = format!("x of shape {:?} has one element for each channel, expected more", map.shape());
            return Err(Error::argument("phase_norm", message));
        }
        let (mean, var) = (map.mean(&[0, 2, 3], true)?, map.var(&[0, 2, 3], 0.0, true)?);
        no_grad(|| {
            let unbiased = var.detach().mul_scalar(count / (count - 1.0))?;
            for (running, new) in [(running_mean, mean.detach()), (running_var, unbiased)] {
                let new = new.reshape(&[channels as isize])?;
                let moved = blend(&wide(&running.tensor())?, &new, 1.0 - momentum)?;
                running.set(&moved.cast(running.dtype())?)?;
            }
            Ok::<_, wgrad::Error>(())
        })?;
        Ok((mean, var))
    }

    /// The two shares, `[1]` each.
    fn shares(&self, temperature: f64) -> Result<[Tensor; 2]> {
        let logits = self.logits.as_ref().ok_or_else(|| Error::argument("phase_norm", "a kind without shares"))?;
        let shares = wide(&logits.tensor())?.mul_scalar(1.0 / temperature)?.softmax(-1)?;
        Ok([shares.narrow(0, 0, 1)?, shares.narrow(0, 1, 1)?])
    }
}

/// One with the sign of each element, and of zero one too, as the phase of zero is zero. Has no gradient.
fn sign(x: &Tensor) -> wgrad::Result<Tensor> {
    x.ge(&x.zeros_like()?)?.cast(x.dtype())?.affine(2.0, -1.0)
}

impl Module for PhaseNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
        v.optional("logits", self.logits.as_ref());
        if let Some([mean, var]) = &self.running {
            v.param("running_mean", mean);
            v.param("running_var", var);
        }
        v.mode(&self.mode);
    }
}
