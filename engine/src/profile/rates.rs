//! What a device can do at most: the rates that kernels are measured against.

use std::fmt;
use std::time::Duration;

use super::Instant;
use crate::device::Kind;
use crate::device::gpu::{Bind, Gpu, Launch};
use crate::{DType, Device, Result, Tensor, no_grad};

const OP: &str = "Device::rates";
/// Seconds that a timing takes at least: far above the cost of a launch.
const LONG: f64 = 0.05;
/// Timings of which the best counts.
const TRIES: u32 = 3;
/// Multiplications and additions of an invocation of `util/peak` in one round: eight chains of four.
const PEAK_ROUND: u64 = 64;

/// Rates of a device, measured by [`Device::rates`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Bytes read and written in a second by a copy of memory too large for caches.
    pub bytes_per_s: f64,
    /// Multiplications and additions of f32 in a second: on a GPU of a kernel that does nothing else, without matrix units; on the
    /// CPU device of its matrix product.
    pub operations_per_s: f64,
}

impl Rates {
    /// The least time for this work as a fraction of `time`; None where nothing is known of the work, or nothing was timed.
    pub(super) fn fraction(&self, bytes: u64, operations: u64, time: Duration) -> Option<f64> {
        let least = (bytes as f64 / self.bytes_per_s).max(operations as f64 / self.operations_per_s);
        (least > 0.0 && !time.is_zero()).then(|| least / time.as_secs_f64())
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, operations) = (self.bytes_per_s / 1e9, self.operations_per_s / 1e9);
        write!(f, "limits: a copy moves {bytes:.1} GB/s, multiply-adds of f32 reach {operations:.1} GFLOP/s")
    }
}

impl Device {
    /// What this device reaches in a plain copy and in plain arithmetic. Measured at the first call, in under two seconds; while it
    /// is idle, or the figures are too low.
    ///
    /// # Errors
    /// If memory is exhausted or the device fails.
    pub fn rates(&self) -> Result<Rates> {
        if let Some(known) = self.known_rates() {
            return Ok(known);
        }
        let rates = no_grad(|| match self.kind() {
            Kind::Gpu(gpu) => of_gpu(self, gpu),
            Kind::Cpu(_) => of_cpu(self),
        })?;
        self.set_rates(rates);
        Ok(rates)
    }
}

/// Seconds of one `run`, the best of a few timings.
fn seconds(device: &Device, run: &dyn Fn() -> Result<()>) -> Result<f64> {
    let timed = |times: u32| {
        device.sync()?;
        let begun = Instant::now();
        (0..times).try_for_each(|_| run())?;
        device.sync()?;
        Ok::<_, crate::Error>(begun.elapsed().as_secs_f64())
    };
    timed(1)?;
    let mut times = 1;
    while times < 1 << 12 && timed(times)? < LONG {
        times *= 2;
    }
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        best = best.min(timed(times)?);
    }
    Ok(best / f64::from(times))
}

fn of_gpu(device: &Device, gpu: &Gpu) -> Result<Rates> {
    let software = gpu.caps().software;
    // Beyond the second-level cache of any GPU, or the last one of a CPU.
    let bytes = if software { 64 << 20 } else { 256 << 20 };
    let fours = bytes.min(gpu.caps().max_binding_bytes) / 16;
    let x = Tensor::zeros(&[4 * fours as usize], DType::F32, device)?;
    let y = Tensor::zeros(&[4 * fours as usize], DType::F32, device)?;
    let copy = || {
        gpu.run(Launch {
            kernel: "util/convert",
            elems: &[],
            constants: &[],
            bind: &[Bind::Read(x.gpu_buffer(OP)?), Bind::Write(y.gpu_buffer(OP)?)],
            params: &(fours as u32).to_le_bytes(),
            groups: fours.div_ceil(256),
        })
    };
    let copied = seconds(device, &copy)?;
    let (count, rounds) = if software { (1u32 << 10, 1u32 << 10) } else { (1 << 20, 1 << 8) };
    let peak = || {
        gpu.run(Launch {
            kernel: "util/peak",
            elems: &[],
            constants: &[("WORKGROUP", if software { 8.0 } else { 256.0 })],
            bind: &[Bind::Write(y.gpu_buffer(OP)?)],
            params: bytemuck::cast_slice(&[count, rounds, 0.5f32.to_bits(), 1.0f32.to_bits()]),
            groups: u64::from(count).div_ceil(if software { 8 } else { 256 }),
        })
    };
    let computed = seconds(device, &peak)?;
    let operations = PEAK_ROUND * u64::from(count) * u64::from(rounds);
    Ok(Rates { bytes_per_s: 32.0 * fours as f64 / copied, operations_per_s: operations as f64 / computed })
}

fn of_cpu(device: &Device) -> Result<Rates> {
    let x = vec![1.0f32; 16 << 20];
    let y = std::sync::Mutex::new(vec![0.0f32; x.len()]);
    let copied = seconds(device, &|| {
        let mut y = y.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        crate::cpu::parallel::for_chunks(&mut y, |start, piece| piece.copy_from_slice(&x[start..start + piece.len()]));
        Ok(())
    })?;
    let side = 768;
    let a = Tensor::ones(&[side, side], DType::F32, device)?;
    let computed = seconds(device, &|| a.matmul(&a).map(drop))?;
    let operations = 2.0 * (side as f64).powi(3);
    Ok(Rates { bytes_per_s: 8.0 * x.len() as f64 / copied, operations_per_s: operations / computed })
}
