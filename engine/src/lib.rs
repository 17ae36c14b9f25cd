//! A tensor engine with its own autograd and its own handwritten WGSL kernels.

mod dtype;
mod error;
pub mod rng;

pub use dtype::DType;
pub use error::{Error, Result};
