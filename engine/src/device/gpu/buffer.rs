//! Buffers of tensors: allocation, upload, and what happens when memory runs out.

use std::fmt;
use std::sync::Arc;

use wgpu::BufferUsages;

use super::guard::{GUARD_BYTES, GUARD_WORD};
use super::pool::{Guarded, Physical, Pool, size_class};
use super::status::{caught, kernel_error};
use super::{Gpu, lock};
use crate::device::unique_id;
use crate::{Error, Result};

/// Memory of one tensor. Dropping it returns the memory to the pool at once.
pub(crate) struct GpuBuffer {
    pool: Arc<Pool>,
    pub(super) physical: Arc<Physical>,
    bytes: u64,
}

impl GpuBuffer {
    /// Bytes asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that kernels and copies may touch: rounded up to 16.
    pub fn padded_bytes(&self) -> u64 {
        padded(self.bytes)
    }

    /// The buffer of wgpu, which may be larger. Work on it must be submitted after a [`Gpu::flush`].
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.physical.raw
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        self.pool.give(&self.physical);
    }
}

impl fmt::Debug for GpuBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuBuffer {{ id: {}, bytes: {} }}", self.physical.id, self.bytes)
    }
}

fn padded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(16)
}

impl Gpu {
    /// Memory for `bytes`, rounded up to 16; its content is undefined.
    pub fn alloc(self: &Arc<Self>, op: &'static str, bytes: u64) -> Result<Arc<GpuBuffer>> {
        let limit = self.caps.max_binding_bytes - if self.options.guards { GUARD_BYTES } else { 0 };
        if bytes > limit {
            return Err(Error::TooLarge { op, bytes, limit });
        }
        if !self.options.guards {
            let physical = self.physical(op, padded(bytes))?;
            return Ok(Arc::new(GpuBuffer { pool: self.pool.clone(), physical, bytes }));
        }
        let end = padded(bytes);
        let physical = self.physical(op, end + GUARD_BYTES)?;
        let mut whole = GpuBuffer { pool: self.pool.clone(), bytes: physical.bytes, physical };
        self.fill(&whole, GUARD_WORD)?;
        self.pool.guard(Guarded { op, physical: whole.physical.clone(), end, serial: unique_id() });
        whole.bytes = bytes;
        Ok(Arc::new(whole))
    }

    /// A buffer from the pool, or a new one; when neither is to be had, frees what is free and tries once more.
    fn physical(&self, op: &'static str, bytes: u64) -> Result<Arc<Physical>> {
        self.status.alive()?;
        let class = size_class(bytes).min(self.caps.max_binding_bytes);
        if let Some(physical) = self.pool.take(class) {
            return Ok(physical);
        }
        if self.pool.is_overfull() {
            self.trim();
        }
        if let Some(physical) = self.create(op, class)? {
            return Ok(physical);
        }
        self.trim();
        self.wait();
        self.create(op, class)?.ok_or_else(|| self.out_of_memory(op, bytes))
    }

    /// A new buffer, or nothing where memory is short.
    fn create(&self, op: &'static str, class: u64) -> Result<Option<Arc<Physical>>> {
        if !self.pool.reserve(class) {
            return Ok(None);
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some(op),
            size: class,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        match caught(&self.device, || self.device.create_buffer(&descriptor)) {
            Ok(raw) => Ok(Some(self.pool.adopt(raw))),
            Err(error) => {
                self.pool.unreserve(class);
                match error {
                    wgpu::Error::OutOfMemory { .. } => Ok(None),
                    error => Err(kernel_error(op, &error)),
                }
            }
        }
    }

    pub(super) fn out_of_memory(&self, op: &'static str, requested: u64) -> Error {
        Error::OutOfMemory { op, requested, in_use: self.pool.stats().live_bytes, limit: self.pool.limit() }
    }

    /// Gives all free buffers back to the driver.
    pub fn trim(&self) {
        let mut stream = lock(&self.stream);
        // Recorded work may name these buffers, and cached bind groups hold them.
        stream.submit(self);
        stream.forget_bind_groups();
        for physical in self.pool.drain() {
            physical.raw.destroy();
        }
    }
}
