//! Every operation: values, gradients, device against device, bad input. A module for each family.

mod elementwise;
