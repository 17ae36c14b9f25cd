//! Optimizers: one fused kernel updates all parameters of a group.

mod clip;
mod flat;
mod group;
mod optimizer;
mod rule;
mod scaler;
mod schedule;

pub use clip::clip_grad_norm;
pub use group::Group;
pub use optimizer::{Optimizer, StepReport};
pub use rule::{Adam, Lion, Rule, Sgd};
pub(crate) use rule::{Scalars, Update};
pub use scaler::LossScaler;
pub use schedule::{Decay, Schedule};
