//! What goes into a model: text and its word pieces.

pub mod corpus;
mod segments;
pub mod synthetic;
pub mod tokenizer;
