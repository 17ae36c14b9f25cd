//! Parts of models: parameters, modules, layers, initial values and losses.

mod build;
mod dropout;
mod embedding;
mod init;
mod module;
mod param;

pub use build::Build;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use init::Init;
pub use module::{LoadReport, Mode, Module, Visitor};
pub use param::Param;
