//! Every operation: values, gradients, device against device, bad input. A module for each family.

// The compiler checks through all of wgpu whether a parameter may go to another thread.
#![recursion_limit = "256"]

mod attention;
mod attention_kinds;
mod attention_limits;
mod autograd;
mod channel_norm;
mod chosen_attention;
mod conv;
mod cross_entropy;
mod ctc;
mod decode;
mod elementwise;
mod faults;
mod fft;
mod index;
mod interval_attention;
mod io;
mod join;
mod kept_until;
mod key_lists;
mod linear_attention;
mod mask;
mod matmul;
mod memory;
mod mixers;
mod nn;
mod norm;
mod optim;
mod parts;
mod position;
mod precision;
mod profile;
mod prune;
mod quantize;
mod random;
mod reduce;
mod resample;
mod scan;
mod snippet;
mod softmax;
mod sort;
mod sparse;
mod sparse24;
mod sparse_rows;
mod steady;
mod units;
mod view;
mod window;
