//! Model families of the literature as thin modules on [`wgrad`], and what the `wgrad` command line is made of.

pub mod activation;
pub mod attention;
pub mod block;
pub mod cli;
pub mod compare;
pub mod corrupt;
pub mod data;
pub mod depth;
pub mod embed;
mod error;
pub mod feed_forward;
pub mod fill_mask;
pub mod finetune;
pub mod front;
pub mod fsx;
pub mod gain;
pub mod generate;
pub mod heads;
pub mod initial;
pub mod inspect;
pub mod lm;
pub mod mixer;
pub mod norm;
pub mod placement;
pub mod plot;
pub mod post_step;
pub mod progress;
pub mod score;
pub mod stack;
pub mod surgery;
pub mod systems;
pub mod train;
pub mod weights;
pub mod zoo;

pub use error::{Error, Result};
