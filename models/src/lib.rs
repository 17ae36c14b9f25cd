//! Model families of the literature as thin modules on [`wgrad`], and what the `wgrad` command line is made of.

pub mod cli;
pub mod corrupt;
pub mod data;
mod error;
pub mod front;
pub mod fsx;
pub mod plot;
pub mod progress;
pub mod systems;

pub use error::{Error, Result};
