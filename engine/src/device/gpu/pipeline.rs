//! Pipelines of kernel variants, compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use wgpu::{BindGroupLayout, BufferBindingType, ShaderModule};

use super::caps::{Caps, MAX_PARAMS};
use super::source::{ParamsIn, specialise};
use super::status::{caught, kernel_error};
use super::stream::{Bind, Launch};
use super::{Gpu, GpuOptions};
use crate::profile::Instant;
use crate::snippet::Filled;
use crate::{Error, Result};

/// Bytes of one slot of the uniform ring: the alignment of dynamic offsets that every device accepts.
pub(super) const PARAM_SLOT: u64 = 256;

/// A compiled variant.
pub(super) struct Kernel {
    pub pipeline: wgpu::ComputePipeline,
    pub params: ParamsIn,
    /// Number of the layout below, for the keys of bind groups.
    pub layout_id: u64,
    pub layout: BindGroupLayout,
}

pub(super) struct Pipelines {
    kernels: HashMap<Box<[u64]>, Arc<Kernel>>,
    /// Modules by the part of the key that decides the text: variants that differ only in constants share one.
    modules: HashMap<Box<[u64]>, ShaderModule>,
    /// Layouts of group 0 by number of bindings and set of writable ones.
    layouts: HashMap<(usize, u64), (u64, BindGroupLayout)>,
    params_layout: BindGroupLayout,
    key: Vec<u64>,
    #[cfg(test)]
    pub extra: HashMap<&'static str, &'static str>,
}

impl Pipelines {
    pub fn new(device: &wgpu::Device) -> Self {
        Pipelines {
            kernels: HashMap::new(),
            modules: HashMap::new(),
            layouts: HashMap::new(),
            params_layout: layout(device, &[BufferBindingType::Uniform], true),
            key: Vec::new(),
            #[cfg(test)]
            extra: HashMap::new(),
        }
    }

    pub fn params_layout(&self) -> &BindGroupLayout {
        &self.params_layout
    }

    pub fn count(&self) -> u64 {
        self.kernels.len() as u64
    }

    /// The pipeline for `launch`, compiled at first use.
    pub fn get(&mut self, gpu: &Gpu, launch: &Launch) -> Result<Arc<Kernel>> {
        let params = match (launch.params.is_empty(), gpu.caps.immediates) {
            (true, _) => ParamsIn::Nowhere,
            (false, true) => ParamsIn::Immediates,
            (false, false) => ParamsIn::Uniform,
        };
        // A static string is the same text as long as its address and length are the same, so those stand for it.
        let text = |s: &'static str| [s.as_ptr() as u64, s.len() as u64];
        self.key.clear();
        self.key.extend(text(launch.kernel));
        self.key.push(params as u64);
        for (binding, dtype) in launch.elems {
            self.key.extend(text(binding));
            self.key.push(*dtype as u64);
        }
        let module_key = self.key.len();
        self.key.push(module_key as u64);
        let writes = writes(launch.bind);
        self.key.extend([launch.bind.len() as u64, writes, launch.params.len() as u64]);
        for (name, value) in launch.constants {
            self.key.extend(text(name));
            self.key.push(value.to_bits());
        }
        if let Some(kernel) = self.kernels.get(self.key.as_slice()) {
            return Ok(kernel.clone());
        }
        check(launch, &gpu.caps)?;
        let begun = Instant::now();
        let kernel = Arc::new(self.compile(gpu, launch, params, writes, module_key)?);
        log::debug!("kernel {} compiled in {:.1} ms", launch.kernel, begun.elapsed().as_secs_f64() * 1e3);
        self.kernels.insert(self.key.clone().into(), kernel.clone());
        Ok(kernel)
    }

    fn compile(
        &mut self,
        gpu: &Gpu,
        launch: &Launch,
        params: ParamsIn,
        writes: u64,
        module_key: usize,
    ) -> Result<Kernel> {
        let device = &gpu.device;
        let refused = |error| kernel_error(launch.kernel, &error);
        let module = match self.modules.get(&self.key[..module_key]) {
            Some(module) => module.clone(),
            None => {
                let filled = Filled::of(launch.kernel);
                let find = |name: &str| match name {
                    "common/fragments" if gpu.options.emulated_units => self.source("common/fragments_emulated"),
                    _ => filled.and_then(|filled| filled.text(name)).or_else(|| self.source(name)),
                };
                let kernel = filled.map_or(launch.kernel, |filled| filled.kernel);
                let text = specialise(kernel, launch.elems, params, &find)?;
                let module = caught(device, || module(device, launch.kernel, text, &gpu.options)).map_err(refused)?;
                self.modules.insert(self.key[..module_key].into(), module.clone());
                module
            }
        };
        let next_id = self.layouts.len() as u64;
        let (layout_id, group) = self.layouts.entry((launch.bind.len(), writes)).or_insert_with(|| {
            let types: Vec<_> = launch.bind.iter().map(Bind::layout).collect();
            (next_id, layout(device, &types, false))
        });
        let (layout_id, layout) = (*layout_id, group.clone());
        let pipeline = caught(device, || {
            let uniform = (params == ParamsIn::Uniform).then_some(Some(&self.params_layout));
            let groups: Vec<_> = [Some(&layout)].into_iter().chain(uniform).collect();
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(launch.kernel),
                bind_group_layouts: &groups,
                immediate_size: if params == ParamsIn::Immediates { launch.params.len() as u32 } else { 0 },
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(launch.kernel),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: launch.constants,
                    // Kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: gpu.disk_cache.as_ref().map(|disk| &disk.cache),
            })
        })
        .map_err(refused)?;
        if let Some(disk) = &gpu.disk_cache {
            disk.compiled();
        }
        Ok(Kernel { pipeline, params, layout_id, layout })
    }

    fn source(&self, name: &str) -> Option<&'static str> {
        #[cfg(test)]
        if let Some(text) = self.extra.get(name) {
            return Some(text);
        }
        wgrad_shaders::source(name).or_else(|| crate::kernel::source(name))
    }
}

/// Which bindings are written, as bits.
fn writes(bind: &[Bind]) -> u64 {
    bind.iter().enumerate().filter(|(_, b)| b.is_write()).fold(0, |set, (i, _)| set | 1 << (i & 63))
}

/// What of a launch is a mistake of the caller, whichever buffers it has.
fn check(launch: &Launch, caps: &Caps) -> Result<()> {
    let fail = |message: String| Err(Error::Kernel { kernel: launch.kernel.to_string(), message });
    if launch.bind.len() > caps.max_bindings as usize {
        return fail(format!("{} bindings, this device has {}", launch.bind.len(), caps.max_bindings));
    }
    if launch.params.len() > MAX_PARAMS as usize || !launch.params.len().is_multiple_of(4) {
        return fail(format!("{} bytes of params, not a multiple of 4 up to {MAX_PARAMS}", launch.params.len()));
    }
    Ok(())
}

fn layout(device: &wgpu::Device, types: &[BufferBindingType], has_dynamic_offset: bool) -> BindGroupLayout {
    let entry = |(binding, ty): (usize, &BufferBindingType)| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty: *ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let entries: Vec<_> = types.iter().enumerate().map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn module(device: &wgpu::Device, kernel: &str, text: String, options: &GpuOptions) -> ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(kernel), source: wgpu::ShaderSource::Wgsl(text.into()) };
    // Of texts of the user nothing is known.
    if options.checked || crate::kernel::source(kernel).is_some() || Filled::of(kernel).is_some() {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the kernels of this crate compare every index with sizes that the host checked against the buffers bound,
    // their loops have bounds from the same sizes, and the tests run them with guard words behind every buffer.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
