//! Results of another framework (PyTorch and transformers, in f64), compared on every device.
//!
//! The fixtures are those of `tests/fixtures`, or the folder in `WGRAD_GOLDEN`. `WGRAD_GOLDEN_CASE=prefix` runs only cases
//! whose name starts so. What the engine does not offer of other fixtures is listed as unsupported; with `WGRAD_GOLDEN_STRICT=1` it fails, as
//! it does of its own.

mod args;
mod attention;
mod conv;
mod elementwise;
mod fft;
mod fixture;
mod images;
mod index;
mod loss;
mod matmul;
mod models;
mod norm;
mod ops;
mod optim;
mod packed;
mod placements;
mod pre_ln;
mod reduce;
mod report;
mod resample;
mod speech;
mod text;
mod view;
mod zoo;

use wgrad::Device;
use wgrad_tests::{gpu, portable_gpu};

#[test]
fn ops_on_cpu() {
    ops::run(&Device::cpu(), "cpu", false);
}

#[test]
fn ops_on_gpu() {
    if let Some(gpu) = gpu() {
        ops::run(gpu, "gpu", false);
    }
}

/// With a browser's limits, the first case of each operation: it is the same kernels, with parameters from the uniform ring.
#[test]
fn ops_on_gpu_with_the_limits_of_a_browser() {
    if let Some(gpu) = portable_gpu() {
        ops::run(gpu, "gpu with the limits of a browser", true);
    }
}

#[test]
fn texts_beside_others_are_as_alone() {
    packed::run(&Device::cpu());
    if let Some(gpu) = gpu() {
        packed::run(gpu);
    }
}

#[test]
fn models_on_cpu() {
    models::run(&Device::cpu(), "cpu");
}

#[test]
fn models_on_gpu() {
    if let Some(gpu) = gpu() {
        models::run(gpu, "gpu");
    }
}
