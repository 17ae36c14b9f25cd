//! Parts of models: parameters, modules, layers, initial values and losses.

mod attention;
mod build;
mod channel_norm;
mod conv;
mod dropout;
mod embedding;
mod features;
mod init;
mod linear;
pub mod loss;
mod module;
mod norm;
mod packed;
mod param;
mod position;
mod precision;

pub use attention::{MultiHeadAttention, join_heads, split_heads};
pub use build::Build;
pub use channel_norm::{BatchNorm, GroupNorm};
pub use conv::{Conv1d, Conv2d, Convolution};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use features::{Favor, RandomFeatures, decay_by_layer, lrpe, orthogonal_gaussian};
pub use init::Init;
pub use linear::Linear;
pub use module::{LoadReport, Mode, Module, Visitor, parts};
pub use norm::{LayerNorm, RmsNorm};
pub use param::Param;
pub use position::{alibi, alibi_slopes, log_bucket, relative_bias, relative_bucket};
pub use precision::Precision;
