//! Benchmarks of wgrad. `README.md` beside this crate says how to use them.

mod check;
pub mod cli;
mod compare;
mod cost;
mod error;
mod ladder;
mod list;
pub mod measure;
mod memory;
pub mod params;
mod plot;
pub mod record;
pub mod report;
mod suite;
mod versus;
pub mod workload;

pub use error::{Error, Result};
