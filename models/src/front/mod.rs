//! What goes into a model: text and its word pieces, images, waves.

mod byte_pieces;
pub mod codec;
pub mod corpus;
pub mod embeddings;
pub mod packing;
pub mod patches;
pub mod picture;
pub mod preprocess;
pub mod recall;
pub mod resize;
pub mod resnet;
mod segments;
pub mod subsample;
pub mod synthetic;
pub mod tokenizer;
pub mod wave;
