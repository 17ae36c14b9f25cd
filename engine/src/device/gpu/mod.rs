//! The GPU layer: memory, pipelines and one ordered stream of commands, over wgpu.
//!
//! Everything is recorded and submitted in batches. Since the queue runs in order, the buffer of a dropped tensor can serve
//! the next operation at once. What goes wrong on the GPU comes back as an error of the next call that waits.

mod adapter;
mod buffer;
mod cache;
mod caps;
mod fault;
mod guard;
mod options;
mod pipeline;
mod pool;
mod read;
mod source;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod timing;
mod upload;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use adapter::{AdapterDescription, Select, adapters};
pub(crate) use adapter::{from_wgpu, open, open_async};
pub(crate) use buffer::GpuBuffer;
pub(crate) use caps::Caps;
pub use options::GpuOptions;
pub use pool::MemoryStats;
pub use source::shader_source;
pub(crate) use stream::{Bind, Launch, Operand};

/// One open GPU. Calls may come from any thread; they take effect in the order in which they lock the stream.
pub(crate) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    options: GpuOptions,
    status: Arc<status::Status>,
    pool: Arc<pool::Pool>,
    stream: Mutex<stream::Stream>,
    staging: Mutex<read::Staging>,
    faults: Mutex<fault::Faults>,
    disk_cache: Option<cache::DiskCache>,
    pub(crate) matrix_units: UnitsPassed,
}

/// Whether the kernels on matrix units passed their tests, once these were made.
#[derive(Default)]
pub(crate) struct UnitsPassed {
    /// Of products, by tiles of 64 and of 128.
    pub products: OnceLock<[bool; 2]>,
    pub attention: OnceLock<bool>,
}

// SAFETY: all fields are Send and Sync, as the function below has the compiler check.
//
// The compiler would derive this as well, but through a hundred nested types of wgpu: for every crate that sends a tensor to a thread
// or calls a generic function of this one it would exceed the recursion limit.
unsafe impl Send for Gpu {}
unsafe impl Sync for Gpu {}
const _: fn(&Gpu) = |gpu| {
    let Gpu { device, queue, caps, options, status, pool, stream, staging, faults, disk_cache, matrix_units } = gpu;
    thread_safe(&(device, queue, caps, options));
    thread_safe(&(status, pool, stream, staging, faults, disk_cache, matrix_units));
};

/// Accepts what is Send and Sync.
const fn thread_safe<T: Send + Sync>(_: &T) {}

impl Gpu {
    fn new(device: wgpu::Device, queue: wgpu::Queue, caps: Caps, options: GpuOptions) -> Arc<Self> {
        let status = Arc::new(status::Status::default());
        let stream = Mutex::new(stream::Stream::new(&device));
        let pool = Arc::new(pool::Pool::new(options.memory_limit));
        let staging = Mutex::default();
        let faults = Mutex::default();
        let disk_cache = cache::DiskCache::open(&device);
        let matrix_units = UnitsPassed::default();
        Arc::new(Gpu { device, queue, caps, options, status, pool, stream, staging, faults, disk_cache, matrix_units })
    }

    /// Features and limits from which kernels choose their variant.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The underlying device.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The underlying queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// What memory and work there was so far.
    pub fn memory(&self) -> MemoryStats {
        let mut stats = self.pool.stats();
        lock(&self.stream).count(&mut stats);
        lock(&self.staging).count(&mut stats);
        stats
    }

    /// Counts the largest numbers of bytes anew.
    pub fn reset_peaks(&self) {
        self.pool.reset_peaks();
    }

    /// Bounds the bytes of live and pooled buffers together; `None` leaves it to the driver.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        self.pool.set_limit(bytes);
    }
}

/// Locks also after another thread panicked while it held the lock: the data are counters and caches that stay valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
