//! Every operation: values, gradients, device against device, bad input. A module for each family.

mod attention;
mod autograd;
mod cross_entropy;
mod elementwise;
mod io;
mod matmul;
mod norm;
mod optim;
mod reduce;
mod scan;
mod softmax;
mod view;
