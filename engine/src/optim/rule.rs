//! Update rules: their settings, and the numbers that their kernels read.

use crate::{Error, Result};

/// Settings of Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Settings of stochastic gradient descent with momentum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sgd {
    /// Decay of the running sum of gradients; 0 for plain descent.
    pub momentum: f64,
    /// Whether to look ahead (Nesterov).
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
}

/// Settings of Lion (Chen et al., 2023).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Weight of the momentum in the update's sign.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// How a parameter follows its gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Adam with decoupled weight decay.
    AdamW(Adam),
    /// Adam with weight decay added to the gradient.
    Adam(Adam),
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// The sign of a momentum.
    Lion(Lion),
}

/// The kernel of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    Adam,
    Sgd,
    Lion,
}

/// What an update kernel reads beside the tensors: the fields of its `Params` behind `start` and `count`, in that order.
pub(crate) type Scalars = [f64; 14];

impl Update {
    /// The decay among the numbers that [`super::Group::with_sr_ste`] asked for.
    pub(crate) fn sr_ste(self, scalars: &Scalars) -> f64 {
        match self {
            Update::Adam => scalars[13],
            Update::Sgd => scalars[4],
            Update::Lion => 0.0,
        }
    }
}

impl Rule {
    /// Name in checkpoints.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Rule::AdamW(_) => "adamw",
            Rule::Adam(_) => "adam",
            Rule::Sgd(_) => "sgd",
            Rule::Lion(_) => "lion",
        }
    }

    pub(super) fn update(&self) -> Update {
        match self {
            Rule::AdamW(_) | Rule::Adam(_) => Update::Adam,
            Rule::Sgd(_) => Update::Sgd,
            Rule::Lion(_) => Update::Lion,
        }
    }

    /// Names of the tensors of state for each parameter.
    pub(super) fn states(&self) -> &'static [&'static str] {
        match self {
            Rule::AdamW(_) | Rule::Adam(_) => &["mean", "square"],
            Rule::Sgd(_) | Rule::Lion(_) => &["momentum"],
        }
    }

    pub(super) fn weight_decay(&self) -> f64 {
        match self {
            Rule::AdamW(a) | Rule::Adam(a) => a.weight_decay,
            Rule::Sgd(s) => s.weight_decay,
            Rule::Lion(l) => l.weight_decay,
        }
    }

    /// Numbers for the kernel at a parameter's step number `step`, from 1, with its weight decay and that of [`super::Group::with_sr_ste`].
    pub(super) fn scalars(&self, lr: f64, [decay, sr_ste]: [f64; 2], step: u64) -> Scalars {
        let decoupled = 1.0 - lr * decay;
        match *self {
            Rule::AdamW(a) => adam(a, lr, [decoupled, 0.0, sr_ste], step),
            Rule::Adam(a) => adam(a, lr, [1.0, decay, sr_ste], step),
            Rule::Sgd(s) => first([lr, s.momentum, f64::from(u8::from(s.nesterov)), decay, sr_ste]),
            Rule::Lion(l) => first([lr, l.beta1, 1.0 - l.beta1, l.beta2, 1.0 - l.beta2, decoupled]),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let op = "Optimizer::new";
        let below_one = |name: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::argument(op, format!("{name} is {value}, expected 0 <= {name} < 1"))),
        };
        match *self {
            Rule::AdamW(a) | Rule::Adam(a) => {
                below_one("beta1", a.beta1)?;
                below_one("beta2", a.beta2)?;
                not_negative(op, "eps", a.eps)?;
            }
            Rule::Sgd(s) => {
                below_one("momentum", s.momentum)?;
                if s.nesterov && s.momentum == 0.0 {
                    return Err(Error::argument(op, "nesterov needs a momentum above 0"));
                }
            }
            Rule::Lion(l) => {
                below_one("beta1", l.beta1)?;
                below_one("beta2", l.beta2)?;
            }
        }
        not_negative(op, "weight_decay", self.weight_decay())
    }
}

fn adam(a: Adam, lr: f64, [shrink, l2, sr_ste]: [f64; 3], step: u64) -> Scalars {
    let t = step as f64;
    let (bias1, bias2) = (1.0 - a.beta1.powf(t), 1.0 - a.beta2.powf(t));
    let means = [a.beta1, 1.0 - a.beta1, a.beta2, 1.0 - a.beta2, a.eps, shrink, l2, lr / bias1, 1.0 / bias2.sqrt()];
    let mut scalars = first(means);
    // A mean without decay has no bias: any large number will do for the logarithm of 0.
    scalars[9..].copy_from_slice(&[t, lr, a.beta1.ln().max(-1e30), a.beta2.ln().max(-1e30), sr_ste]);
    scalars
}

/// Fewer numbers, and zeros behind them.
fn first<const N: usize>(numbers: [f64; N]) -> Scalars {
    let mut scalars = [0.0; 14];
    scalars[..N].copy_from_slice(&numbers);
    scalars
}

/// Errs unless a setting is a finite number from 0 up.
pub(super) fn not_negative(op: &'static str, name: &str, value: f64) -> Result<()> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(Error::argument(op, format!("{name} is {value}, expected a finite number from 0 up"))),
    }
}
