//! What goes into a model: text and its word pieces.

pub mod codec;
pub mod corpus;
pub mod embeddings;
pub mod packing;
pub mod patches;
pub mod recall;
mod segments;
pub mod synthetic;
pub mod tokenizer;
