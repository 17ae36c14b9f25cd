//! The one ordered stream of commands: recording, and submitting in batches.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Deref;

use wgpu::{BufferBindingType, BufferUsages};

use super::pipeline::{Kernel, PARAM_SLOT, Pipelines};
use super::pool::MemoryStats;
use super::source::ParamsIn;
use super::status::{caught, kernel_error};
use super::timing::Timing;
use super::upload::Uploads;
use super::{Gpu, GpuBuffer, lock};
use crate::{DType, Error, Result};

/// Commands after which a batch is submitted: enough to hide the cost of submitting, few enough for the GPU to start early.
pub(super) const BATCH: u64 = 128;
/// Workgroups after which a batch is submitted: on a slow GPU this much can take a second, and drivers end what takes two.
const BATCH_GROUPS: u64 = 1 << 16;
/// Batches that the GPU may be behind; more would only hold memory.
const AHEAD: usize = 8;
/// Bind groups kept. A training step uses some hundreds again and again.
const BIND_GROUPS: usize = 4096;

/// A buffer, and how much of it a launch reads or writes: what a tensor shows of a buffer that it may share with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand<'a> {
    buffer: &'a GpuBuffer,
    /// Bytes, each counted once however often it is read. For profiles alone.
    touched: u64,
}

impl<'a> Operand<'a> {
    pub fn new(buffer: &'a GpuBuffer, touched: u64) -> Self {
        Operand { buffer, touched }
    }
}

impl<'a> From<&'a GpuBuffer> for Operand<'a> {
    fn from(buffer: &'a GpuBuffer) -> Self {
        Operand { buffer, touched: buffer.bytes() }
    }
}

impl Deref for Operand<'_> {
    type Target = GpuBuffer;
    fn deref(&self) -> &GpuBuffer {
        self.buffer
    }
}

/// A buffer of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bind<'a> {
    /// `var<storage, read>`.
    Read(Operand<'a>),
    /// `var<storage, read_write>`.
    Write(Operand<'a>),
}

impl<'a> Bind<'a> {
    fn operand(&self) -> Operand<'a> {
        match self {
            Bind::Read(operand) | Bind::Write(operand) => *operand,
        }
    }

    fn buffer(&self) -> &'a GpuBuffer {
        self.operand().buffer
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self, Bind::Write(_))
    }

    pub(super) fn layout(&self) -> BufferBindingType {
        BufferBindingType::Storage { read_only: !self.is_write() }
    }
}

/// One run of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// `softmax/forward` is `shaders/softmax/forward.wgsl`, entry point `main`.
    pub kernel: &'static str,
    /// Element type of a binding, by its name in the file, where it is not the file's own.
    pub elems: &'a [(&'static str, DType)],
    /// Override constants.
    pub constants: &'a [(&'static str, f64)],
    /// Group 0, from binding 0.
    pub bind: &'a [Bind<'a>],
    /// The kernel's `Params`: a multiple of 4 bytes, at most 128; empty if it has none.
    pub params: &'a [u8],
    /// Workgroups in all, folded into two dimensions; with none there is nothing to do.
    pub groups: u64,
}

pub(super) struct Stream {
    // Ends before its encoder, also when the stream is dropped.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    /// Number of the batch being recorded, from 1.
    batch: u64,
    commands: u64,
    groups: u64,
    last_kernel: &'static str,
    pipelines: Pipelines,
    bind_groups: HashMap<Box<[u64]>, wgpu::BindGroup>,
    key: Vec<u64>,
    params: Vec<u8>,
    params_buffer: wgpu::Buffer,
    params_group: wgpu::BindGroup,
    running: VecDeque<wgpu::SubmissionIndex>,
    pub uploads: Uploads,
    /// While somebody profiles.
    pub timing: Option<Timing>,
    dispatches: u64,
    submits: u64,
    bind_groups_created: u64,
}

impl Stream {
    pub fn new(device: &wgpu::Device) -> Self {
        let pipelines = Pipelines::new(device);
        let params_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: BATCH * PARAM_SLOT,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let slot = wgpu::BufferBinding { buffer: &params_buffer, offset: 0, size: NonZeroU64::new(PARAM_SLOT) };
        let params_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("params"),
            layout: pipelines.params_layout(),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(slot) }],
        });
        Stream {
            pass: None,
            encoder: None,
            batch: 1,
            commands: 0,
            groups: 0,
            last_kernel: "",
            pipelines,
            bind_groups: HashMap::new(),
            key: Vec::new(),
            params: Vec::new(),
            params_buffer,
            params_group,
            running: VecDeque::new(),
            uploads: Uploads::default(),
            timing: None,
            dispatches: 0,
            submits: 0,
            bind_groups_created: 0,
        }
    }

    pub fn batch(&self) -> u64 {
        self.batch
    }

    pub fn count(&self, stats: &mut MemoryStats) {
        stats.dispatches = self.dispatches;
        stats.submits = self.submits;
        stats.pipelines = self.pipelines.count();
        stats.bind_groups_created = self.bind_groups_created;
        stats.staging_buffers = self.uploads.created;
    }

    pub fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }

    #[cfg(test)]
    pub fn define(&mut self, name: &'static str, text: &'static str) {
        self.pipelines.extra.insert(name, text);
    }

    fn encoder(&mut self, gpu: &Gpu) -> &mut wgpu::CommandEncoder {
        self.encoder
            .get_or_insert_with(|| gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// The encoder for a command that is no dispatch. Consecutive ones share one gap between passes.
    pub fn between_passes(&mut self, gpu: &Gpu) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.commands += 1;
        self.encoder(gpu)
    }

    fn copy(&mut self, gpu: &Gpu, src: &GpuBuffer, src_offset: u64, dst: &GpuBuffer, dst_offset: u64, bytes: u64) {
        let mut timing = self.timing.take();
        let encoder = self.between_passes(gpu);
        // Copies stand outside of passes, so two empty ones take the time.
        let both = timing.as_mut().map(|timing| (timing.entry("copy", 2 * bytes, 0), timing));
        if let Some(((begin, _), timing)) = &both {
            drop(timing.pass(encoder, Some(*begin), None));
        }
        encoder.copy_buffer_to_buffer(src.raw(), src.start() + src_offset, dst.raw(), dst.start() + dst_offset, bytes);
        if let Some(((_, end), timing)) = &both {
            drop(timing.pass(encoder, None, Some(*end)));
        }
        self.timing = timing;
    }

    fn record(&mut self, gpu: &Gpu, launch: &Launch, grid: (u32, u32), operations: u64) -> Result<()> {
        let kernel = self.pipelines.get(gpu, launch)?;
        let bind_group = self.bind_group(gpu, launch, &kernel)?;
        for bind in launch.bind {
            bind.buffer().physical.used_in(self.batch);
        }
        if let Some(mut timing) = self.timing.take() {
            // A pass for each dispatch: what every device with timestamps can time.
            self.pass = None;
            let bytes = launch.bind.iter().map(|bind| bind.operand().touched).sum();
            let both = timing.entry(launch.kernel, bytes, operations);
            self.pass = Some(timing.pass(self.encoder(gpu), Some(both.0), Some(both.1)));
            self.timing = Some(timing);
        }
        if self.pass.is_none() {
            let pass = self.encoder(gpu).begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.pass = Some(pass.forget_lifetime());
        }
        let Some(pass) = &mut self.pass else { return Ok(()) };
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        match kernel.params {
            ParamsIn::Nowhere => {}
            ParamsIn::Immediates => pass.set_immediates(0, launch.params),
            ParamsIn::Uniform => {
                let offset = self.params.len();
                self.params.extend_from_slice(launch.params);
                self.params.resize(offset + PARAM_SLOT as usize, 0);
                pass.set_bind_group(1, &self.params_group, &[offset as u32]);
            }
        }
        pass.dispatch_workgroups(grid.0, grid.1, 1);
        self.last_kernel = launch.kernel;
        self.dispatches += 1;
        self.commands += 1;
        self.groups += launch.groups;
        Ok(())
    }

    fn bind_group(&mut self, gpu: &Gpu, launch: &Launch, kernel: &Kernel) -> Result<wgpu::BindGroup> {
        self.key.clear();
        self.key.push(kernel.layout_id);
        let limit = gpu.caps.max_binding_bytes;
        for bind in launch.bind {
            self.key.push(bind.buffer().physical.id);
            // Numbers of buffers never have the first bit.
            if let Some((start, bytes)) = bind.buffer().bound(limit) {
                self.key.extend([start | 1 << 63, bytes]);
            }
        }
        if let Some(group) = self.bind_groups.get(self.key.as_slice()) {
            return Ok(group.clone());
        }
        let resources = launch.bind.iter().map(|bind| match bind.buffer().bound(limit) {
            None => bind.buffer().raw().as_entire_binding(),
            Some((offset, bytes)) => {
                let (buffer, size) = (bind.buffer().raw(), NonZeroU64::new(bytes));
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
            }
        });
        let entries: Vec<_> =
            (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(launch.kernel), layout: &kernel.layout, entries: &entries };
        let group = caught(&gpu.device, || gpu.device.create_bind_group(&descriptor))
            .map_err(|error| kernel_error(launch.kernel, &error))?;
        if self.bind_groups.len() >= BIND_GROUPS {
            self.bind_groups.clear();
        }
        self.bind_groups_created += 1;
        self.bind_groups.insert(self.key.clone().into(), group.clone());
        Ok(group)
    }

    pub fn submit_if_long(&mut self, gpu: &Gpu) {
        if self.commands >= BATCH || self.groups >= BATCH_GROUPS {
            self.submit(gpu);
        }
    }

    /// Hands what is recorded to the GPU. What fails is stored for the next call that waits.
    pub fn submit(&mut self, gpu: &Gpu) {
        self.pass = None;
        let Some(mut encoder) = self.encoder.take() else { return };
        if let Some(timing) = &mut self.timing {
            timing.resolve(&gpu.device, &mut encoder);
        }
        self.uploads.close();
        let submitted = caught(&gpu.device, || {
            if !self.params.is_empty() {
                // Ordered behind the batches before, which read their own parameters there.
                gpu.queue.write_buffer(&self.params_buffer, 0, &self.params);
            }
            gpu.queue.submit([encoder.finish()])
        });
        self.uploads.recall();
        self.params.clear();
        match submitted {
            Ok(index) => self.running.push_back(index),
            Err(wgpu::Error::OutOfMemory { .. }) => gpu.status.store(gpu.out_of_memory("submit", 0)),
            Err(error) => {
                let kernel =
                    format!("{} or one of {} commands before", self.last_kernel, self.commands.saturating_sub(1));
                gpu.status.store(kernel_error(kernel, &error));
            }
        }
        self.commands = 0;
        self.groups = 0;
        self.batch += 1;
        self.submits += 1;
        if self.running.len() > AHEAD {
            gpu.wait_for(self.running.pop_front());
        }
    }
}

/// `groups` as a grid of two dimensions with at least as many, none longer than `max`.
pub(super) fn fold(groups: u64, max: u32) -> Option<(u32, u32)> {
    let y = groups.div_ceil(u64::from(max)).max(1);
    let x = groups.div_ceil(y);
    let y = u32::try_from(y).ok().filter(|y| *y <= max)?;
    Some((u32::try_from(x).ok()?, y))
}

impl Gpu {
    /// Records a launch.
    pub fn run(&self, launch: Launch) -> Result<()> {
        self.run_counted(launch, 0)
    }

    /// As [`run`](Self::run), for a kernel whose arithmetic counts: `operations`, a multiply-add being two, stand in profiles.
    pub fn run_counted(&self, launch: Launch, operations: u64) -> Result<()> {
        self.status.alive()?;
        if launch.groups == 0 {
            return Ok(());
        }
        let limit = self.caps.max_binding_bytes;
        if let Some(bytes) = launch.bind.iter().map(|bind| bind.buffer().padded_bytes()).find(|&bytes| bytes > limit) {
            return Err(Error::TooLarge { op: launch.kernel, bytes, limit });
        }
        for (i, a) in launch.bind.iter().enumerate() {
            for (j, b) in launch.bind.iter().enumerate().skip(i + 1) {
                if a.buffer().physical.id == b.buffer().physical.id && (a.is_write() || b.is_write()) {
                    let message = format!("bindings {i} and {j} are one buffer, and one of them writes");
                    return Err(Error::Kernel { kernel: launch.kernel.to_string(), message });
                }
            }
        }
        let grid = fold(launch.groups, self.caps.max_groups).ok_or_else(|| Error::Kernel {
            kernel: launch.kernel.to_string(),
            message: format!("{} workgroups are more than a grid of this device holds", launch.groups),
        })?;
        let mut stream = lock(&self.stream);
        stream.record(self, &launch, grid, operations)?;
        stream.submit_if_long(self);
        Ok(())
    }

    /// Records a copy. Offsets and size are multiples of 4; the buffers are two.
    pub fn copy(&self, src: &GpuBuffer, src_offset: u64, dst: &GpuBuffer, dst_offset: u64, bytes: u64) -> Result<()> {
        self.status.alive()?;
        let fits =
            |offset: u64, buffer: &GpuBuffer| offset.checked_add(bytes).is_some_and(|end| end <= buffer.padded_bytes());
        let aligned = (src_offset | dst_offset | bytes) & 3 == 0;
        if !aligned || !fits(src_offset, src) || !fits(dst_offset, dst) || src.physical.id == dst.physical.id {
            let message = format!(
                "{bytes} bytes from {src_offset} of {src:?} to {dst_offset} of {dst:?}: wanted multiples of 4, within both, and two buffers"
            );
            return Err(Error::Kernel { kernel: "copy".to_string(), message });
        }
        if bytes == 0 {
            return Ok(());
        }
        let mut stream = lock(&self.stream);
        src.physical.used_in(stream.batch);
        dst.physical.used_in(stream.batch);
        stream.copy(self, src, src_offset, dst, dst_offset, bytes);
        stream.submit_if_long(self);
        Ok(())
    }
}
