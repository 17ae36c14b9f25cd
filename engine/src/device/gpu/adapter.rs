//! Finding and opening adapters.

use std::sync::Arc;

use wgpu::{
    Backends, CooperativeScalarType, DeviceType, ExperimentalFeatures, Features, Instance, InstanceDescriptor,
    InstanceFlags, Limits,
};

use super::caps::{Caps, MAX_PARAMS, driver};
use super::{Gpu, GpuOptions};
use crate::{Error, Result};

/// The optional features that kernels know to use.
const WANTED: Features = Features::IMMEDIATES
    .union(Features::SHADER_F16)
    .union(Features::SUBGROUP)
    .union(Features::TIMESTAMP_QUERY)
    .union(Features::PIPELINE_CACHE);

/// Which adapter to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The best real GPU: discrete, then integrated, then virtual; never a software driver.
    Best,
    /// The adapter at this place of [`adapters`].
    Index(usize),
    /// A software driver, such as Mesa's llvmpipe.
    Software,
}

/// An adapter of this machine, as `wgrad devices` shows it.
#[derive(Debug, Clone)]
pub struct AdapterDescription {
    /// Its number, as in `WGRAD_DEVICE=gpu:N`.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Driver and version.
    pub driver: String,
    /// Graphics interface: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The features that the engine uses and this adapter has.
    pub features: Vec<&'static str>,
    /// The limits from which the engine chooses tiles and grids, by name.
    pub limits: Vec<(&'static str, u64)>,
}

/// The adapters of this machine; none in a browser, where [`Device`](crate::Device)'s asynchronous constructor asks for one.
pub fn adapters() -> Vec<AdapterDescription> {
    #[cfg(target_arch = "wasm32")]
    return Vec::new();
    #[cfg(not(target_arch = "wasm32"))]
    pollster::block_on(list(&instance())).iter().enumerate().map(|(index, adapter)| describe(index, adapter)).collect()
}

#[cfg_attr(target_arch = "wasm32", allow(dead_code))] // A browser does not list its adapters.
fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterDescription {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let has = adapter.features();
    let features = [
        ("immediates", Features::IMMEDIATES),
        ("f16", Features::SHADER_F16),
        ("subgroups", Features::SUBGROUP),
        ("timestamps", Features::TIMESTAMP_QUERY),
        ("cooperative-matrix", Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
    ];
    AdapterDescription {
        index,
        driver: driver(&info),
        backend: info.backend.to_string(),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        },
        name: info.name,
        features: features.into_iter().filter(|(_, feature)| has.contains(*feature)).map(|(name, _)| name).collect(),
        limits: vec![
            ("buffer bytes", limits.max_buffer_size),
            ("binding bytes", limits.max_storage_buffer_binding_size),
            ("storage buffers", u64::from(limits.max_storage_buffers_per_shader_stage)),
            ("workgroup memory", u64::from(limits.max_compute_workgroup_storage_size)),
            ("workgroup invocations", u64::from(limits.max_compute_invocations_per_workgroup)),
            ("subgroup min", u64::from(info.subgroup_min_size)),
            ("subgroup max", u64::from(info.subgroup_max_size)),
        ],
    }
}

/// Opens an adapter of this machine and waits for it.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn open(select: Select, options: GpuOptions) -> Result<Arc<Gpu>> {
    pollster::block_on(open_async(select, options))
}

/// A browser does not let a function wait.
#[cfg(target_arch = "wasm32")]
pub(crate) fn open(_: Select, _: GpuOptions) -> Result<Arc<Gpu>> {
    Err(Error::NoDevice { message: "a browser opens its GPU only through the asynchronous constructor".to_string() })
}

/// Opens an adapter, natively or in a browser (which has one, whatever `select` says).
pub(crate) async fn open_async(select: Select, options: GpuOptions) -> Result<Arc<Gpu>> {
    let adapter = choose(&instance(), select).await?;
    let mut required_features = Features::empty();
    let mut required_limits = Limits::default();
    let mut experimental_features = ExperimentalFeatures::disabled();
    if !options.portable {
        required_features = adapter.features() & WANTED;
        if options.matrix_units && has_matrix_units(&adapter) {
            required_features |= Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: kernels use the feature only after a test of what they compute on this very device.
            experimental_features = unsafe { ExperimentalFeatures::enabled() };
        }
        let max_immediate_size = if required_features.contains(Features::IMMEDIATES) { MAX_PARAMS } else { 0 };
        required_limits = Limits { max_immediate_size, ..adapter.limits() };
    }
    if let Some(most) = options.binding_limit {
        let limit = &mut required_limits.max_storage_buffer_binding_size;
        *limit = most.clamp(4096, *limit);
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("wgrad"),
        required_features,
        required_limits,
        experimental_features,
        // The pool keeps what it gets, so large speculative blocks would only take memory from others.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = adapter
        .request_device(&descriptor)
        .await
        .map_err(|e| Error::NoDevice { message: format!("{} does not open: {e}", adapter.get_info().name) })?;
    let caps = Caps::of(&device, &options);
    let gpu = Gpu::new(device, queue, caps, options);
    gpu.status.watch(&gpu.device);
    Ok(gpu)
}

/// Whether the adapter multiplies f16 matrices of 16 x 16 x 16 with sums in f32, as `shaders/common/fragments.wgsl` wants it.
fn has_matrix_units(adapter: &wgpu::Adapter) -> bool {
    let fits = |p: &wgpu::CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
            && (p.ab_type, p.cr_type) == (CooperativeScalarType::F16, CooperativeScalarType::F32)
    };
    let features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16 | Features::SUBGROUP;
    adapter.features().contains(features) && adapter.cooperative_matrix_properties().iter().any(fits)
}

/// Takes over an application's device and queue. Its error and lost handlers stay the application's.
pub(crate) fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue, options: GpuOptions) -> Result<Arc<Gpu>> {
    let limits = device.limits();
    let base = Limits::default();
    if limits.max_storage_buffers_per_shader_stage < base.max_storage_buffers_per_shader_stage
        || limits.max_compute_invocations_per_workgroup < base.max_compute_invocations_per_workgroup
        || limits.max_compute_workgroup_storage_size < base.max_compute_workgroup_storage_size
    {
        let message = format!(
            "the given wgpu device has {} storage buffers, {} invocations and {} bytes of workgroup memory; kernels need {}, {} and {}",
            limits.max_storage_buffers_per_shader_stage,
            limits.max_compute_invocations_per_workgroup,
            limits.max_compute_workgroup_storage_size,
            base.max_storage_buffers_per_shader_stage,
            base.max_compute_invocations_per_workgroup,
            base.max_compute_workgroup_storage_size
        );
        return Err(Error::NoDevice { message });
    }
    let caps = Caps::of(&device, &options);
    Ok(Gpu::new(device, queue, caps, options))
}

fn instance() -> Instance {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::VULKAN | Backends::METAL | Backends::DX12 | Backends::BROWSER_WEBGPU;
    // Grids are computed on the host; checking indirect ones would cost a hidden dispatch each.
    descriptor.flags = InstanceFlags::default().difference(InstanceFlags::VALIDATION_INDIRECT_CALL).with_env();
    Instance::new(descriptor)
}

/// Every adapter in a stable order.
#[cfg(not(target_arch = "wasm32"))]
async fn list(instance: &Instance) -> Vec<wgpu::Adapter> {
    instance.enumerate_adapters(Backends::all()).await
}

#[cfg(not(target_arch = "wasm32"))]
async fn choose(instance: &Instance, select: Select) -> Result<wgpu::Adapter> {
    let mut adapters = list(instance).await;
    let kinds = adapters.iter().map(|a| a.get_info().device_type);
    let found = match select {
        Select::Best => {
            let order = [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu, DeviceType::VirtualGpu, DeviceType::Other];
            let rank = |kind: DeviceType| order.iter().position(|k| *k == kind);
            kinds.enumerate().filter_map(|(i, kind)| Some((rank(kind)?, i))).min().map(|(_, i)| i)
        }
        Select::Index(index) => Some(index).filter(|i| *i < adapters.len()),
        Select::Software => kinds.enumerate().find(|(_, kind)| *kind == DeviceType::Cpu).map(|(i, _)| i),
    };
    match found {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => {
            let names: Vec<_> = adapters.iter().map(|a| a.get_info().name).collect();
            let wanted = match select {
                Select::Best => "a GPU".to_string(),
                Select::Index(index) => format!("adapter {index}"),
                Select::Software => "a software driver".to_string(),
            };
            Err(Error::NoDevice {
                message: format!("{wanted} was asked for, found {} adapters {names:?}", names.len()),
            })
        }
    }
}

#[cfg(target_arch = "wasm32")]
async fn choose(instance: &Instance, _: Select) -> Result<wgpu::Adapter> {
    let options =
        wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    let adapter = instance.request_adapter(&options).await;
    adapter.map_err(|e| Error::NoDevice { message: format!("the browser gives no adapter: {e}") })
}
