//! What the device can do at best, measured: a copy for memory, independent multiply-adds in registers for arithmetic.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wgrad::{DType, Device, Kernel, Tensor};

use crate::{Result, cpu_limits};

/// The limits of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes in a second, read and written together, of a copy beyond the caches.
    pub bytes: f64,
    /// f32 operations in a second; a multiply-add is two.
    pub flops: f64,
}

/// What was measured in this process, by the name of the device.
static KNOWN: Mutex<Vec<(String, Limits)>> = Mutex::new(Vec::new());

impl Limits {
    /// Measures the device, once in a process.
    ///
    /// # Errors
    /// Whatever fails on the device.
    pub fn of(device: &Device) -> Result<Self> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = device.to_string();
        if let Some((_, limits)) = known.iter().find(|(known, _)| *known == name) {
            return Ok(*limits);
        }
        let limits = match device.is_gpu() {
            true => Limits { bytes: gpu_copy(device)?, flops: gpu_flops(device)? },
            false => Limits { bytes: cpu_limits::copy(), flops: cpu_limits::flops() },
        };
        known.push((name, limits));
        Ok(limits)
    }

    /// Seconds that work of this size takes at least; None if nothing is known of it.
    pub fn least_seconds(&self, flops: Option<f64>, bytes: Option<f64>) -> Option<f64> {
        let (arithmetic, memory) = (flops.map(|n| n / self.flops), bytes.map(|n| n / self.bytes));
        arithmetic.into_iter().chain(memory).reduce(f64::max)
    }
}

/// Seconds of the fastest of several runs.
fn fastest(device: &Device, runs: usize, mut run: impl FnMut() -> Result<Vec<Tensor>>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        device.sync()?;
        let begun = Instant::now();
        let results = run()?;
        device.sync()?;
        best = best.min(begun.elapsed().as_secs_f64());
        drop(results);
    }
    Ok(best)
}

const COPY: &str = "
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * THREADSu + local;
    if (i < arrayLength(&y)) { y[i] = x[i]; }
}";

/// Elements of the copy: with its source twice 128 MiB, beyond the caches of a large GPU; less on a software driver.
fn copy_elements(device: &Device) -> usize {
    if is_software(device) { 1 << 23 } else { 1 << 25 }
}

fn is_software(device: &Device) -> bool {
    device.wgpu().is_some_and(|(device, _)| device.adapter_info().device_type == wgrad::wgpu::DeviceType::Cpu)
}

fn gpu_copy(device: &Device) -> Result<f64> {
    let n = copy_elements(device);
    let x = Tensor::ones(&[n], DType::F32, device)?;
    // Several copies in a row, so that the wait at the end does not count.
    let copies = if is_software(device) { 2 } else { 20 };
    let mut best = f64::INFINITY;
    // Small workgroups suit software drivers, large ones GPUs.
    for threads in [32, 256] {
        let kernel = Kernel::new("copy", &COPY.replace("THREADS", &threads.to_string()));
        let groups = (n / 4).div_ceil(threads) as u64;
        let seconds = fastest(device, 5, || {
            let copy = |_| kernel.run(&[&x], &[(&[n], DType::F32)], &[], groups);
            Ok((0..copies).map(copy).collect::<wgrad::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })?;
        best = best.min(seconds / copies as f64);
    }
    Ok(2.0 * (n * 4) as f64 / best)
}

/// Eight independent sums of four lanes, so that no multiply-add waits for the one before.
const FLOPS: &str = "
struct Params { rounds: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * 64u + local;
    if (i >= arrayLength(&y)) { return; }
    let a = vec4<f32>(x[0]);
    let b = vec4<f32>(x[1], x[2], x[3], f32(i));
    var s0 = b; var s1 = b + 1.0; var s2 = b + 2.0; var s3 = b + 3.0;
    var s4 = b + 4.0; var s5 = b + 5.0; var s6 = b + 6.0; var s7 = b + 7.0;
    for (var r = 0u; r < p.rounds; r++) {
        s0 = s0 * a + b; s1 = s1 * a + b; s2 = s2 * a + b; s3 = s3 * a + b;
        s4 = s4 * a + b; s5 = s5 * a + b; s6 = s6 * a + b; s7 = s7 * a + b;
        s0 = s0 * a + b; s1 = s1 * a + b; s2 = s2 * a + b; s3 = s3 * a + b;
        s4 = s4 * a + b; s5 = s5 * a + b; s6 = s6 * a + b; s7 = s7 * a + b;
    }
    y[i] = dot(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7, vec4<f32>(1.0));
}";

/// Operations of one thread in a round of [`FLOPS`].
const FLOPS_PER_ROUND: f64 = 2.0 * 8.0 * 4.0 * 2.0;

fn gpu_flops(device: &Device) -> Result<f64> {
    let threads: usize = if is_software(device) { 1 << 12 } else { 1 << 20 };
    let x = Tensor::from_slice(&[0.999f32, 0.1, 0.2, 0.3], &[4], device)?;
    let kernel = Kernel::new("flops", FLOPS);
    let run = |rounds: u32| {
        let params = bytemuck::bytes_of(&rounds);
        fastest(device, 3, || Ok(kernel.run(&[&x], &[(&[threads], DType::F32)], params, (threads / 64) as u64)?))
    };
    // Twice as long until it takes long enough for the wait not to count.
    let (mut rounds, mut seconds) = (64, run(64)?);
    while seconds < 0.02 && rounds < 1 << 16 {
        rounds *= 2;
        seconds = run(rounds)?;
    }
    Ok(f64::from(rounds) * threads as f64 * FLOPS_PER_ROUND / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_arithmetic_and_memory_counts() {
        let limits = Limits { bytes: 10.0, flops: 100.0 };
        assert_eq!(limits.least_seconds(Some(200.0), Some(10.0)), Some(2.0));
        assert_eq!(limits.least_seconds(Some(200.0), Some(50.0)), Some(5.0));
        assert_eq!(limits.least_seconds(None, Some(50.0)), Some(5.0));
        assert_eq!(limits.least_seconds(None, None), None);
    }

    #[test]
    fn the_cpu_has_limits_of_this_world() {
        let limits = Limits::of(&Device::cpu()).unwrap();
        assert!((1e8..1e13).contains(&limits.bytes), "{limits:?}");
        assert!((1e8..1e14).contains(&limits.flops), "{limits:?}");
        assert_eq!(Limits::of(&Device::cpu()).unwrap(), limits);
    }
}
