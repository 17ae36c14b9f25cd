//! A tensor engine with its own autograd and its own handwritten WGSL kernels.

pub mod autograd;
mod buckets;
mod cache;
mod cpu;
mod device;
mod dtype;
mod error;
pub mod io;
mod kernel;
mod kernels;
mod layout;
mod mask;
mod meter;
pub mod nn;
mod ops;
pub mod optim;
mod plane;
mod profile;
pub mod reference;
pub mod rng;
mod snippet;
mod sparse;
mod sparse24;
mod sparse_rows;
mod storage;
mod tensor;

pub use autograd::{Gradients, checkpoint, no_grad};
pub use buckets::Buckets;
pub use cache::{KvCache, PagedCache, Sequence};
#[doc(hidden)]
pub use device::shader_source;
pub use device::{AdapterDescription, Device, GpuOptions, MemoryStats, RngState, Select, adapters};
pub use dtype::DType;
pub use error::{Error, Result};
pub use kernel::Kernel;
#[doc(hidden)]
pub use kernels::attention::force_attention_units;
#[doc(hidden)]
pub use kernels::matmul::{MatmulFamily, force_matmul, matmul_families};
pub use layout::{Dims, MAX_RANK};
pub use mask::Mask;
pub use meter::Meter;
pub use ops::attention::{AttentionOptions, Disentangled, Rotary};
pub use ops::conv::Conv;
pub use ops::cross_entropy::{CrossEntropy, Reduction};
pub use ops::ctc::CtcLoss;
pub use ops::elementwise::Activation;
pub use ops::fft::FftNorm;
pub use ops::grid_sample::GridPadding;
pub use ops::join::PadMode;
pub use ops::linear_attention::LinearAttention;
pub use ops::matmul::Epilogue;
pub use ops::norm::{Counted, NormKind, NormOptions};
pub use ops::patterns::PatternOptions;
pub use ops::resample::{Interpolation, Pool};
pub use ops::rotary::Rope;
#[doc(hidden)]
pub use ops::sparse24::{Sparse24Form, force_sparse24};
pub use profile::{Profile, ProfileRow, Rates};
pub use snippet::ScoreModifier;
pub use sparse::{BlockIndex, BlockLayout, BlockLists, KeyIndex, SparseIndex};
pub use sparse_rows::SparseRows;
pub use sparse24::Sparse24;
pub use storage::Element;
pub use tensor::Tensor;
pub use wgpu;
