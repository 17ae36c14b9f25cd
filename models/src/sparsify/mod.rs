//! Making models sparse: masks of their blocks' matrices, from one look or learned.

mod calibrate;
mod factor;
mod job;
mod mask_llm;
mod one_shot;
mod sparse_gpt;
mod sparsity;

pub use calibrate::{Statistic, listen};
pub use job::{Job, Method, Outcome, Prior, by_magnitude};
pub use mask_llm::{Frozen, Learner, MaskLlm};
pub use one_shot::{OneShot, Scope, one_shot, smallest};
pub use sparse_gpt::sparse_gpt;
pub use sparsity::Sparsity;
