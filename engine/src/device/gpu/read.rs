//! Reading back, and waiting.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use wgpu::{BufferAsyncError, BufferUsages, MapMode};

use super::fault::FAULT_BYTES;
use super::pool::{MemoryStats, Physical};
use super::status::{caught, kernel_error};
use super::{Gpu, GpuBuffer, lock};
use crate::{Error, Result};

/// Bytes read at a time, which bounds the staging memory.
const READ_CHUNK: u64 = 256 << 20;
/// Staging buffers up to this size are kept for the next read.
const KEPT_STAGING: u64 = 16 << 20;

/// Buffers that the host reads from.
#[derive(Default)]
pub(super) struct Staging {
    kept: Vec<wgpu::Buffer>,
    created: u64,
    reads: u64,
}

impl Staging {
    pub fn count(&self, stats: &mut MemoryStats) {
        stats.staging_buffers += self.created;
        stats.reads = self.reads;
    }
}

impl Gpu {
    /// Waits for all recorded work and copies `bytes` at `offset` to the host.
    pub fn read(&self, op: &'static str, buffer: &GpuBuffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        block(op, self.read_async(op, buffer, offset, bytes))
    }

    /// As [`read`](Self::read), also in a browser. Natively it blocks while the GPU works.
    pub async fn read_async(&self, op: &'static str, buffer: &GpuBuffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let end = offset.checked_add(bytes).filter(|end| *end <= buffer.padded_bytes());
        let Some(end) = end else {
            let message = format!("read of {bytes} bytes at {offset} from a buffer of {} bytes", buffer.bytes());
            return Err(Error::argument(op, message));
        };
        // Copies move whole words; a half may begin or end within one.
        let first = offset & !3;
        let mut out = Vec::new();
        let mut start = first;
        while start < end {
            let stop = (start + READ_CHUNK).min(end.next_multiple_of(4));
            let chunk = self.gather_async(op, &[(&*buffer.physical, buffer.start() + start, stop - start)]).await?;
            if out.is_empty() {
                out = chunk;
            } else {
                out.extend_from_slice(&chunk);
            }
            start = stop;
        }
        out.truncate((end - first) as usize);
        out.drain(..(offset - first) as usize);
        Ok(out)
    }

    /// Several pieces (buffer, offset, bytes), all in words, with one wait; one after the other in the result.
    pub(super) fn gather(&self, op: &'static str, pieces: &[(&Physical, u64, u64)]) -> Result<Vec<u8>> {
        block(op, self.gather_async(op, pieces))
    }

    async fn gather_async(&self, op: &'static str, pieces: &[(&Physical, u64, u64)]) -> Result<Vec<u8>> {
        self.status.alive()?;
        let fault = self.armed_fault();
        let note = fault.iter().map(|note| (&*note.physical, 0, FAULT_BYTES));
        let asked = pieces.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        let pieces: Vec<_> = pieces.iter().copied().chain(note).collect();
        let total = pieces.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        if total == 0 {
            return Ok(Vec::new());
        }
        let staging = self.staging(op, total)?;
        {
            let mut stream = lock(&self.stream);
            let mut at = 0;
            for (physical, offset, bytes) in pieces {
                physical.used_in(stream.batch());
                stream.between_passes(self).copy_buffer_to_buffer(&physical.raw, offset, &staging, at, bytes);
                at += bytes;
            }
            stream.submit(self);
        }
        if map(&staging, total, || self.wait()).await.is_err() {
            self.status.take()?;
            let message = "the result could not be mapped into host memory".to_string();
            return Err(Error::Kernel { kernel: op.to_string(), message });
        }
        self.keep_pipelines();
        let mut bytes = match staging.get_mapped_range(..total) {
            Ok(view) => view.to_vec(),
            Err(e) => return Err(Error::Kernel { kernel: op.to_string(), message: e.to_string() }),
        };
        staging.unmap();
        if staging.size() <= KEPT_STAGING {
            lock(&self.staging).kept.push(staging);
        }
        self.status.take()?;
        if let Some(note) = fault {
            self.report_fault(&note, &bytes.split_off(asked as usize))?;
        }
        Ok(bytes)
    }

    /// A buffer of at least `bytes` that the host can map.
    fn staging(&self, op: &'static str, bytes: u64) -> Result<wgpu::Buffer> {
        let mut staging = lock(&self.staging);
        staging.reads += 1;
        if let Some(index) = staging.kept.iter().position(|buffer| buffer.size() >= bytes) {
            return Ok(staging.kept.swap_remove(index));
        }
        // Smaller ones than what is wanted now are replaced, so that few are kept.
        staging.kept.pop();
        staging.created += 1;
        drop(staging);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(op),
            size: if bytes <= KEPT_STAGING { bytes.max(4096).next_power_of_two() } else { bytes },
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        caught(&self.device, || self.device.create_buffer(&descriptor)).map_err(|error| match error {
            wgpu::Error::OutOfMemory { .. } => self.out_of_memory(op, bytes),
            error => kernel_error(op, &error),
        })
    }

    /// Submits what is recorded, without waiting.
    pub fn flush(&self) -> Result<()> {
        lock(&self.stream).submit(self);
        self.status.alive()
    }

    /// Waits until all recorded work is done, and reports what went wrong since the last call that waited. A browser does
    /// not wait here, only in [`read_async`](Self::read_async).
    pub fn sync(&self) -> Result<()> {
        self.flush()?;
        self.wait();
        self.status.take()?;
        if cfg!(target_arch = "wasm32") { Ok(()) } else { self.gather("sync", &[]).map(drop) }
    }

    /// Waits for all that was submitted.
    pub(super) fn wait(&self) {
        self.wait_for(None);
    }

    /// Waits for one submission and all before it; for the last where none is named.
    pub(super) fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) {
        if let Err(error) = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None }) {
            self.status.store(Error::Kernel { kernel: "wait".to_string(), message: error.to_string() });
        }
    }
}

/// Maps the start of `staging`. `wait` makes a native device call back; a browser does so by itself.
pub(super) async fn map(
    staging: &wgpu::Buffer,
    bytes: u64,
    wait: impl FnOnce(),
) -> std::result::Result<(), BufferAsyncError> {
    #[derive(Default)]
    struct Shared {
        result: Option<std::result::Result<(), BufferAsyncError>>,
        waker: Option<Waker>,
    }
    let shared = Arc::new(Mutex::new(Shared::default()));
    let there = shared.clone();
    staging.map_async(MapMode::Read, ..bytes, move |result| {
        let mut shared = lock(&there);
        shared.result = Some(result);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    });
    wait();
    poll_fn(|context| {
        let mut shared = lock(&shared);
        match shared.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) fn block<T>(_: &'static str, future: impl Future<Output = Result<T>>) -> Result<T> {
    pollster::block_on(future)
}

#[cfg(target_arch = "wasm32")]
pub(super) fn block<T>(op: &'static str, _: impl Future<Output = Result<T>>) -> Result<T> {
    Err(Error::argument(
        op,
        "a browser does not let a read wait: use the asynchronous function, such as `to_vec_async`",
    ))
}
