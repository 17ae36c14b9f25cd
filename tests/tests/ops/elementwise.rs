//! Elementwise operations: values against f64, gradients, device against device, broadcasting, views, bad input.

mod binary;
mod copy;
mod gated;
mod unary;
