//! Architectures with public checkpoints.

pub mod bert;
pub mod config;
