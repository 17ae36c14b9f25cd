//! Model families of the literature as thin modules on [`wgrad`], and what the `wgrad` command line is made of.

pub mod corrupt;
pub mod data;
mod error;
pub mod front;
pub mod fsx;

pub use error::{Error, Result};
