//! Every operation: values, gradients, device against device, bad input. A module for each family.

mod io;
mod optim;
mod cross_entropy;
mod norm;
mod reduce;
mod scan;
mod softmax;
mod matmul;
