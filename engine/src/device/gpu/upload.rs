//! Uploads: small ones pass through a few mapped buffers that are used again and again, and are copies in the stream like others;
//! large ones go through the driver.

use std::sync::{Arc, Mutex};

use wgpu::{BufferUsages, MapMode};

use super::buffer::GpuBuffer;
use super::status::{caught, kernel_error};
use super::stream::Stream;
use super::{Gpu, lock};
use crate::{Error, Result};

/// Bytes of a mapped buffer, and of the largest upload that passes through one.
const CHUNK: u64 = 1 << 20;
/// Mapped buffers: one is filled while the GPU reads the others.
const CHUNKS: u64 = 3;
/// Where in a mapped buffer an upload may begin.
const ALIGN: u64 = 8;
/// Bytes that one large upload hands to the driver before it waits for them: it holds a copy of them until then.
const LARGE: usize = 64 << 20;

/// The mapped buffers, each in one of three states.
#[derive(Default)]
pub(super) struct Uploads {
    /// Being filled, and up to where.
    open: Option<(wgpu::Buffer, u64)>,
    /// Full, or filled in a batch that is not submitted yet.
    spent: Vec<wgpu::Buffer>,
    /// Mapped and empty. The driver's callbacks put them here.
    free: Arc<Mutex<Vec<wgpu::Buffer>>>,
    pub created: u64,
}

impl Uploads {
    /// Hands the filled buffers to the GPU. Before a batch that reads them is submitted.
    pub fn close(&mut self) {
        self.spent.extend(self.open.take().map(|(buffer, _)| buffer));
        self.spent.iter().for_each(wgpu::Buffer::unmap);
    }

    /// Has the buffers mapped again as soon as the GPU is done. After the batch was submitted.
    pub fn recall(&mut self) {
        for buffer in self.spent.drain(..) {
            let (free, again) = (self.free.clone(), buffer.clone());
            buffer.map_async(MapMode::Write, .., move |mapped| {
                // One that cannot be mapped belongs to a lost device.
                if mapped.is_ok() {
                    lock(&free).push(again);
                }
            });
        }
    }

    fn create(&mut self, device: &wgpu::Device) {
        let descriptor = wgpu::BufferDescriptor {
            label: Some("upload"),
            size: CHUNK,
            usage: BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        };
        lock(&self.free).push(device.create_buffer(&descriptor));
        self.created += 1;
    }
}

impl Stream {
    /// A mapped buffer with room for `bytes`, and where in it.
    fn room(&mut self, gpu: &Gpu, bytes: u64) -> Result<(wgpu::Buffer, u64)> {
        let uploads = &mut self.uploads;
        if let Some((buffer, used)) = &mut uploads.open {
            let start = used.next_multiple_of(ALIGN);
            if start + bytes <= CHUNK {
                *used = start + bytes;
                return Ok((buffer.clone(), start));
            }
        }
        uploads.spent.extend(uploads.open.take().map(|(buffer, _)| buffer));
        if uploads.created == 0 {
            (0..CHUNKS).for_each(|_| uploads.create(&gpu.device));
        }
        let free = uploads.free.clone();
        if lock(&free).is_empty() && !cfg!(target_arch = "wasm32") {
            // The host is far ahead.
            self.submit(gpu);
            gpu.wait();
            gpu.status.alive()?;
        }
        if lock(&free).is_empty() {
            // In a browser, which does not wait.
            self.uploads.create(&gpu.device);
        }
        let missing = || Error::Kernel { kernel: "upload".to_string(), message: "no memory is mapped".to_string() };
        let buffer = lock(&free).pop().ok_or_else(missing)?;
        self.uploads.open = Some((buffer.clone(), bytes));
        Ok((buffer, 0))
    }
}

impl Gpu {
    /// Memory that holds a copy of `bytes`, zeros up to the next multiple of 4.
    pub fn upload(self: &Arc<Self>, op: &'static str, bytes: &[u8]) -> Result<Arc<GpuBuffer>> {
        let target = self.alloc(op, bytes.len() as u64)?;
        if bytes.len() as u64 <= CHUNK {
            self.upload_small(op, bytes, &target)
        } else {
            self.upload_large(op, bytes, &target)
        }?;
        Ok(target)
    }

    fn upload_small(&self, op: &'static str, bytes: &[u8], target: &GpuBuffer) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let words = (bytes.len() as u64).next_multiple_of(4);
        let mut stream = lock(&self.stream);
        let (chunk, start) = stream.room(self, words)?;
        let failed = |e: wgpu::MapRangeError| Error::Kernel { kernel: op.to_string(), message: e.to_string() };
        let mut view = chunk.slice(start..start + words).get_mapped_range_mut().map_err(failed)?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        view.slice(bytes.len()..).fill(0);
        drop(view);
        target.physical.used_in(stream.batch());
        stream.between_passes(self).copy_buffer_to_buffer(&chunk, start, target.raw(), 0, words);
        stream.submit_if_long(self);
        Ok(())
    }

    fn upload_large(&self, op: &'static str, bytes: &[u8], target: &GpuBuffer) -> Result<()> {
        let mut stream = lock(&self.stream);
        // The write goes ahead of all that is not yet submitted, which may still read what the recycled memory held before.
        if target.physical.is_used_in(stream.batch()) {
            stream.submit(self);
        }
        let whole = bytes.len() & !3;
        let written = caught(&self.device, || {
            let mut offset = 0;
            for chunk in bytes[..whole].chunks(LARGE) {
                if offset > 0 {
                    self.queue.submit([]);
                    self.wait();
                }
                self.queue.write_buffer(target.raw(), offset, chunk);
                offset += chunk.len() as u64;
            }
            if whole < bytes.len() {
                let mut word = [0; 4];
                word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(target.raw(), offset, &word);
            }
        });
        stream.uploads.created += 1;
        written.map_err(|error| match error {
            wgpu::Error::OutOfMemory { .. } => self.out_of_memory(op, bytes.len() as u64),
            error => kernel_error(op, &error),
        })
    }
}
