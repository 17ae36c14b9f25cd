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

/// Where a window of a buffer may begin: the alignment of bindings that every device accepts.
const WINDOW_ALIGN: u64 = 256;

/// Memory of one tensor, or a window of it. Dropping it returns the memory to the pool at once.
pub(crate) struct GpuBuffer {
    pool: Arc<Pool>,
    pub(super) physical: Arc<Physical>,
    /// Where a window begins in the memory; else 0.
    start: u64,
    bytes: u64,
    /// What a window is part of, which returns the memory.
    whole: Option<Arc<GpuBuffer>>,
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

    /// The buffer of wgpu, which may be larger.
    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.physical.raw
    }

    /// Where this begins in the buffer of wgpu.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Start and length in the buffer of wgpu of what kernels may see; None for all of it. `limit` is what a binding holds.
    pub(super) fn bound(&self, limit: u64) -> Option<(u64, u64)> {
        (self.whole.is_some() || self.physical.bytes > limit).then(|| (self.start, self.padded_bytes()))
    }

    /// Start and length of the least window with the bytes from `first` to `end`.
    pub fn window_of(&self, first: u64, end: u64) -> (u64, u64) {
        let start = first - first % WINDOW_ALIGN;
        (start, end.next_multiple_of(16) - start)
    }

    /// A part of this buffer, for kernels that cannot bind all of it. Start and length are of [`window_of`](Self::window_of).
    pub fn window(self: &Arc<Self>, start: u64, bytes: u64) -> Arc<GpuBuffer> {
        Arc::new(GpuBuffer {
            pool: self.pool.clone(),
            physical: self.physical.clone(),
            start: self.start + start,
            bytes,
            whole: Some(self.clone()),
        })
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        if self.whole.is_none() {
            self.pool.give(&self.physical);
        }
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
        let limit = self.caps.max_buffer_bytes - if self.options.guards { GUARD_BYTES } else { 0 };
        if bytes > limit {
            return Err(Error::TooLarge { op, bytes, limit });
        }
        if !self.options.guards {
            let physical = self.physical(op, padded(bytes))?;
            return Ok(Arc::new(GpuBuffer { pool: self.pool.clone(), physical, start: 0, bytes, whole: None }));
        }
        let end = padded(bytes);
        let physical = self.physical(op, end + GUARD_BYTES)?;
        let (pool, whole) = (self.pool.clone(), physical.bytes);
        let buffer = Arc::new(GpuBuffer { pool, physical, start: 0, bytes, whole: None });
        self.fill_to(&buffer, whole, GUARD_WORD)?;
        self.pool.guard(Guarded { op, physical: buffer.physical.clone(), end, serial: unique_id() });
        Ok(buffer)
    }

    /// A buffer from the pool, or a new one; when neither is to be had, frees what is free and tries once more.
    fn physical(&self, op: &'static str, bytes: u64) -> Result<Arc<Physical>> {
        self.status.alive()?;
        let limit =
            if bytes <= self.caps.max_binding_bytes { self.caps.max_binding_bytes } else { self.caps.max_buffer_bytes };
        let class = size_class(bytes).min(limit);
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
