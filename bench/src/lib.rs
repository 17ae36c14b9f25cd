//! Benchmarks of wgrad. `README.md` beside this crate says how to use them.

mod check;
pub mod cli;
mod cpu_limits;
mod error;
pub mod limits;
pub mod measure;
pub mod params;
pub mod record;
mod versus;
pub mod workload;

pub use error::{Error, Result};
