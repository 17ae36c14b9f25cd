//! Foundations of wgrad.
