//! Timing kernels by the GPU's own clock, while somebody profiles: each dispatch gets a pass of its own with a timestamp at either end.

use wgpu::{BufferUsages, CommandEncoder, ComputePass, ComputePassDescriptor, ComputePassTimestampWrites};

use super::read::{block, map};
use super::status::{caught, kernel_error};
use super::stream::BATCH;
use super::{Gpu, lock};
use crate::profile::Event;
use crate::{Error, Result};

const OP: &str = "Device::profile";
/// Timestamps of a batch: two for each command.
const QUERIES: u32 = 2 * BATCH as u32;
/// Bytes of a timestamp.
const TICK: u64 = 8;

pub(crate) struct Timing {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Of the batch being recorded.
    open: Vec<Event>,
    /// Of batches submitted, with where the host finds their timestamps.
    closed: Vec<(wgpu::Buffer, Vec<Event>)>,
}

impl Timing {
    fn new(device: &wgpu::Device) -> Self {
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timing"),
            ty: wgpu::QueryType::Timestamp,
            count: QUERIES,
        });
        let resolved = buffer(device, u64::from(QUERIES), BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        Timing { queries, resolved, open: Vec::new(), closed: Vec::new() }
    }

    /// Where the begin and the end of one more command are to be noted.
    pub fn entry(&mut self, name: &'static str, bytes: u64, operations: u64) -> (u32, u32) {
        let begin = 2 * self.open.len() as u32;
        self.open.push(Event::new(name, bytes, operations));
        (begin, begin + 1)
    }

    /// A pass that notes its begin, its end, or both.
    pub fn pass(&self, encoder: &mut CommandEncoder, begin: Option<u32>, end: Option<u32>) -> ComputePass<'static> {
        let timestamp_writes = Some(ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: begin,
            end_of_pass_write_index: end,
        });
        encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes }).forget_lifetime()
    }

    /// Ends a batch: its timestamps go to where the host can read them.
    pub fn resolve(&mut self, device: &wgpu::Device, encoder: &mut CommandEncoder) {
        let count = 2 * self.open.len() as u32;
        if count == 0 {
            return;
        }
        let readable = buffer(device, u64::from(count), BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &readable, 0, TICK * u64::from(count));
        self.closed.push((readable, std::mem::take(&mut self.open)));
    }
}

fn buffer(device: &wgpu::Device, timestamps: u64, usage: BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("timing"),
        size: TICK * timestamps,
        usage,
        mapped_at_creation: false,
    })
}

impl Gpu {
    /// Has every command from now on timed.
    pub fn start_timing(&self) -> Result<()> {
        self.status.alive()?;
        if !self.caps.timestamp {
            let message = format!("{} has no timestamp queries, so its kernels cannot be timed", self.caps.name);
            return Err(Error::argument(OP, message));
        }
        let timing = caught(&self.device, || Timing::new(&self.device)).map_err(|error| kernel_error(OP, &error))?;
        let mut stream = lock(&self.stream);
        if stream.timing.is_some() {
            return Err(Error::argument(OP, "this device is being profiled already"));
        }
        stream.submit(self);
        stream.timing = Some(timing);
        Ok(())
    }

    /// Ends what [`start_timing`](Self::start_timing) began; what was recorded is lost.
    pub fn stop_timing(&self) {
        let mut stream = lock(&self.stream);
        stream.submit(self);
        stream.timing = None;
    }

    /// Waits for all timed commands, and hands them out in order.
    pub fn finish_timing(&self) -> Result<Vec<Event>> {
        let mut stream = lock(&self.stream);
        stream.submit(self);
        let timing = stream.timing.take();
        drop(stream);
        let closed = timing.map(|timing| timing.closed).unwrap_or_default();
        let period = f64::from(self.queue.get_timestamp_period());
        let mut events = Vec::new();
        let mut first = None;
        for (readable, batch) in closed {
            let failed = |message: String| Error::Kernel { kernel: OP.to_string(), message };
            block(OP, async {
                let mapped = map(&readable, readable.size(), || self.wait()).await;
                self.status.alive()?;
                mapped.map_err(|e| failed(e.to_string()))
            })?;
            let view = readable.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
            let bytes = view.to_vec();
            let mut ticks = bytes.chunks_exact(TICK as usize).map(bytemuck::pod_read_unaligned::<u64>);
            for event in batch {
                let (Some(begin), Some(end)) = (ticks.next(), ticks.next()) else { break };
                let origin = *first.get_or_insert(begin);
                let ns = |ticks: u64| (ticks as f64 * period) as u64;
                // A clock that jumps gives an empty span rather than a huge one.
                events.push(event.at(ns(begin.saturating_sub(origin)), ns(end.saturating_sub(begin))));
            }
        }
        Ok(events)
    }
}
