//! What the tests share: devices, random inputs, comparisons, gradient checks, and strategies for proptest.
//!
//! An operation is tested in four modes:
//!
//! - **value**: against plain Rust in the test, or against the fixtures of another framework (`tests/golden.rs`): [`assert_close`];
//! - **gradient**: against central differences in f64 on the CPU device: [`gradcheck`];
//! - **device against device**: values and gradients on the CPU and on the GPU, in f32, f16 and bf16: [`same_on_devices`];
//! - **bad input**: an error that names the operation and what came: [`expect_error`].
//!
//! The GPU is Mesa's llvmpipe or whichever software Vulkan driver is installed, else a real GPU, opened with checked shaders
//! and with guard words behind every buffer. `WGRAD_TEST_DEVICE` (`software`, `gpu`, `gpu:N`) chooses, and `WGRAD_SKIP_GPU=1`
//! leaves it out.

mod agree;
mod close;
mod device;
mod gradcheck;
mod input;
mod random;
pub mod strategy;

pub use agree::{same_on_devices, same_on_devices_in, same_on_devices_of_terms, same_on_devices_within};
pub use close::{Tolerance, assert_close, assert_equal, compare, expect_error};
pub use device::{
    devices, each_device, fresh_gpu, gpu, gpu_with_bindings_of, gpu_with_emulated_units, gpu_with_turns_of, own,
    portable_gpu,
};
pub use gradcheck::{gradcheck, gradcheck_within};
pub use input::{Input, View};
pub use random::Random;
