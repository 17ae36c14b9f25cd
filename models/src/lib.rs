//! Model families of the literature as thin modules on [`wgrad`], and what the `wgrad` command line is made of.

pub mod activation;
pub mod block;
pub mod cli;
pub mod corrupt;
pub mod data;
mod error;
pub mod fill_mask;
pub mod front;
pub mod fsx;
pub mod plot;
pub mod progress;
pub mod systems;
pub mod train;
pub mod zoo;

pub use error::{Error, Result};
