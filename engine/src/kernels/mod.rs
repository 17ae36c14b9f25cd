//! The GPU side of each family: which kernel, which variant, which parameters, which grid.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod cross_entropy;
pub(crate) mod ctc;
pub(crate) mod decode;
mod divisor;
pub(crate) mod elementwise;
pub(crate) mod index;
pub(crate) mod join;
pub(crate) mod kept_until;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod optim;
pub(crate) mod patterns;
pub(crate) mod prune;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod softmax;
pub(crate) mod sort;
pub(crate) mod sparse;
pub(crate) mod sparse24;
pub(crate) mod sparse_rows;
pub(crate) mod window;

use std::sync::Arc;

use crate::device::gpu::Gpu;
use crate::{DType, Error, Result, Tensor};

/// Invocations of a workgroup in the kernels that need no barriers: full on every GPU, and light for software drivers.
const WORKGROUP: usize = 64;

/// Workgroups of [`WORKGROUP`] for a number of invocations.
fn groups(invocations: usize) -> u64 {
    invocations.div_ceil(WORKGROUP) as u64
}

/// Override constants and number of workgroups for kernels whose invocations each make some fours (`shaders/common/fours.wgsl`).
/// A software driver pays for each workgroup and each invocation: there few of them do much, where there is much to do.
fn spread(gpu: &Gpu, fours: u32) -> ([(&'static str, f64); 2], u64) {
    let (workgroup, each) = match gpu.caps().software {
        false => (256, 1),
        true if fours < 1024 => (64, 1),
        true => (256, 2),
    };
    ([("WORKGROUP", f64::from(workgroup)), ("FOURS", f64::from(each))], u64::from(fours.div_ceil(workgroup * each)))
}

/// A size as a kernel's parameter. No buffer of a device holds more than 2^31 elements, so that kernels may round up.
pub(crate) fn size(op: &'static str, n: usize) -> Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|&n| n <= 1 << 31)
        .ok_or_else(|| Error::shape(op, format!("{n} elements are more than a kernel counts, 2^31")))
}

/// A truth value as an override constant.
fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// What stands for a dtype where elements are moved as bits: one kernel for all words, one for all halves.
fn bits(dtype: DType) -> DType {
    if dtype.is_half() { DType::F16 } else { DType::U32 }
}

fn gpu_of<'a>(op: &'static str, x: &'a Tensor) -> Result<&'a Arc<Gpu>> {
    x.device().gpu_ref().ok_or_else(|| Error::argument(op, "a CPU tensor reached a GPU kernel"))
}
