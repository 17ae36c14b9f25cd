//! Corruption of inputs: which tokens are hidden, how, and what is to be predicted.

pub mod blanks;
pub mod mlm;
#[cfg(test)]
mod mlm_tests;
pub mod schedule;
