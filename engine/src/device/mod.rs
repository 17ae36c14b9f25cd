//! Where tensors live and run: the CPU, or a GPU through wgpu.

pub(crate) mod gpu;
mod select;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use gpu::{AdapterDescription, GpuOptions, MemoryStats, Select, adapters, shader_source};

use crate::profile::{self, Rates};
use crate::storage::{CpuBuffer, CpuData, CpuMemory};
use crate::{DType, Error, Result};
use gpu::Gpu;

/// A device that holds tensors and runs their operations. Cheap to clone; clones are the same device.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    kind: Kind,
    rng: Mutex<RngState>,
    /// Measured on request.
    rates: Arc<Mutex<Option<Rates>>>,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Cpu(Arc<CpuMemory>),
    Gpu(Arc<Gpu>),
}

/// The state of a device's random number generator: enough to go on exactly where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RngState {
    /// The seed given to [`Device::set_seed`].
    pub seed: u64,
    /// How many random tensors have been drawn since.
    pub draws: u64,
}

static CPU: OnceLock<Device> = OnceLock::new();

impl Device {
    pub(crate) fn new(kind: Kind) -> Self {
        Device(Arc::new(Inner { kind, rng: Mutex::new(RngState { seed: 0, draws: 0 }), rates: Arc::default() }))
    }

    /// The CPU device. Every call returns the same one.
    pub fn cpu() -> Self {
        CPU.get_or_init(Device::new_cpu).clone()
    }

    /// A CPU device apart from all others, with random numbers of its own: what runs beside it on [`Device::cpu`] does not draw from them.
    pub fn new_cpu() -> Self {
        Device::new(Kind::Cpu(Arc::default()))
    }

    /// The same device with a random number generator of its own, which starts at `seed`: threads that share a device draw from it without
    /// moving each other's numbers. A tensor draws (dropout, say) from the generator of the handle that it was made with.
    ///
    /// ```
    /// use wgrad::{DType, Device, Tensor};
    /// let device = Device::cpu();
    /// let (a, b) = (device.with_seed(7), device.with_seed(7));
    /// let draw = |device: &Device| Tensor::normal(0.0, 1.0, &[3], DType::F32, device);
    /// let (x, y) = (draw(&a)?, draw(&b)?);
    /// assert_eq!(x.to_vec::<f32>()?, y.to_vec::<f32>()?);
    /// assert_eq!(x.add(&y)?.shape(), [3]);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn with_seed(&self, seed: u64) -> Self {
        let Inner { kind, rates, .. } = &*self.0;
        Device(Arc::new(Inner {
            kind: kind.clone(),
            rng: Mutex::new(RngState { seed, draws: 0 }),
            rates: rates.clone(),
        }))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The GPU behind this device, if it is one.
    pub(crate) fn gpu_ref(&self) -> Option<&Arc<Gpu>> {
        match &self.0.kind {
            Kind::Gpu(gpu) => Some(gpu),
            Kind::Cpu(_) => None,
        }
    }

    /// Whether operations run as GPU kernels (a software Vulkan driver counts).
    pub fn is_gpu(&self) -> bool {
        self.gpu_ref().is_some()
    }

    /// Whether both are the same device, so that their tensors can be used together.
    pub fn same(&self, other: &Device) -> bool {
        match (self.kind(), other.kind()) {
            (Kind::Cpu(a), Kind::Cpu(b)) => Arc::ptr_eq(a, b),
            (Kind::Gpu(a), Kind::Gpu(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Memory in use, its high-water mark, and what was allocated and dispatched so far.
    pub fn memory(&self) -> MemoryStats {
        match &self.0.kind {
            Kind::Gpu(gpu) => gpu.memory(),
            Kind::Cpu(memory) => MemoryStats {
                live_bytes: memory.live.load(Ordering::Relaxed),
                peak_bytes: memory.peak.load(Ordering::Relaxed),
                allocations: memory.allocations.load(Ordering::Relaxed),
                ..MemoryStats::default()
            },
        }
    }

    /// Counts the high-water marks of [`Device::memory`] anew, from what is in use now: for measuring one part of a program.
    pub fn reset_peaks(&self) {
        match &self.0.kind {
            Kind::Gpu(gpu) => gpu.reset_peaks(),
            Kind::Cpu(memory) => memory.peak.store(memory.live.load(Ordering::Relaxed), Ordering::Relaxed),
        }
    }

    /// Limits the bytes that tensors of this device may take together; `None` lifts the limit. Beyond it,
    /// operations return [`Error::OutOfMemory`].
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        match &self.0.kind {
            Kind::Gpu(gpu) => gpu.set_memory_limit(bytes),
            Kind::Cpu(memory) => memory.limit.store(bytes.unwrap_or(0), Ordering::Relaxed),
        }
    }

    /// Gives the pooled memory of dropped tensors back to the driver, or to the system.
    pub fn trim(&self) {
        match &self.0.kind {
            Kind::Gpu(gpu) => gpu.trim(),
            Kind::Cpu(_) => crate::cpu::pool::clear(),
        }
    }

    /// Checks the guard words behind the live buffers of a device opened with [`GpuOptions::guards`].
    ///
    /// # Errors
    /// If a kernel wrote past the end of a tensor: names the operation that allocated it.
    pub fn check_guards(&self) -> Result<()> {
        self.gpu_ref().map_or(Ok(()), |gpu| gpu.check_guards())
    }

    /// Waits until all recorded work is done.
    ///
    /// # Errors
    /// Whatever went wrong on the GPU since the last wait: a refused kernel, exhausted memory, a lost device.
    pub fn sync(&self) -> Result<()> {
        self.gpu_ref().map_or(Ok(()), |gpu| gpu.sync())
    }

    /// Submits recorded work without waiting for it.
    ///
    /// # Errors
    /// As [`Device::sync`].
    pub fn flush(&self) -> Result<()> {
        self.gpu_ref().map_or(Ok(()), |gpu| gpu.flush())
    }

    /// Restarts the device's random number generator. The same seed gives the same numbers on every device.
    pub fn set_seed(&self, seed: u64) {
        self.set_rng_state(RngState { seed, draws: 0 });
    }

    /// Where the random number generator stands.
    pub fn rng_state(&self) -> RngState {
        *self.0.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the random number generator back to where it stood.
    pub fn set_rng_state(&self, state: RngState) {
        *self.0.rng.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The state for one random tensor; the next call gets another.
    pub(crate) fn next_draw(&self) -> RngState {
        let mut rng = self.0.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let state = *rng;
        rng.draws += 1;
        state
    }

    pub(crate) fn known_rates(&self) -> Option<Rates> {
        *self.0.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        *self.0.rates.lock().unwrap_or_else(PoisonError::into_inner) = Some(rates);
    }

    /// Errs unless tensors of this dtype can live here.
    pub(crate) fn expect_dtype(&self, op: &'static str, dtype: DType) -> Result<()> {
        if dtype == DType::F64 && self.is_gpu() {
            return Err(Error::DType {
                op,
                got: dtype,
                expected: "a dtype of the GPU (f64 lives on the CPU device only)",
            });
        }
        Ok(())
    }

    /// Errs if a tensor of this size can be known not to fit, before anything is allocated.
    pub(crate) fn expect_room(&self, op: &'static str, elements: usize, dtype: DType) -> Result<()> {
        self.expect_dtype(op, dtype)?;
        match &self.0.kind {
            Kind::Cpu(memory) => memory.check(op, (elements as u64).saturating_mul(dtype.size() as u64)),
            Kind::Gpu(_) => Ok(()),
        }
    }

    /// Wraps host data for the CPU device.
    pub(crate) fn cpu_buffer(&self, op: &'static str, data: CpuData) -> Result<Arc<CpuBuffer>> {
        match &self.0.kind {
            Kind::Cpu(memory) => {
                let bytes = (data.len() * data.dtype().size()) as u64;
                profile::made(op, bytes);
                memory.check(op, bytes)?;
                Ok(Arc::new(CpuBuffer::new(data, memory)))
            }
            Kind::Gpu(_) => Err(Error::argument(op, "host data handed to a GPU device")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Cpu(_) => f.write_str("cpu"),
            Kind::Gpu(gpu) => f.write_str(&gpu.caps().name),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}

/// A process-wide number, never the same twice.
pub(crate) fn unique_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
