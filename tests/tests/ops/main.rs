//! Every operation: values, gradients, device against device, bad input. A module for each family.

mod attention;
mod autograd;
mod cross_entropy;
mod elementwise;
mod index;
mod io;
mod join;
mod matmul;
mod nn;
mod norm;
mod optim;
mod random;
mod reduce;
mod scan;
mod softmax;
mod sort;
mod view;
