//! Operations: argument checks, the choice of device, and each op's backward beside its forward.

pub(crate) mod attention;
pub(crate) mod channel_norm;
pub(crate) mod conv;
pub(crate) mod cross_entropy;
pub(crate) mod ctc;
pub(crate) mod decode;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod fft;
pub(crate) mod grid_sample;
pub(crate) mod index;
pub(crate) mod join;
pub(crate) mod kept_until;
pub(crate) mod linear_attention;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod softmax;
pub(crate) mod sort;
pub(crate) mod view;
