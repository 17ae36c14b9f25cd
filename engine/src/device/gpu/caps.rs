//! What a device can do, as far as kernels choose by it.

use wgpu::{DeviceType, Features};

use super::GpuOptions;

/// Turns after which Mesa's llvmpipe ends the loops of an invocation, all together, without a word.
const LLVMPIPE_TURNS: u64 = 65_535;

/// Bytes of kernel parameters that immediates must hold to be used.
pub(super) const MAX_PARAMS: u32 = 128;

/// Features and limits of an open device.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "kernels of later tiers (f16, subgroups, cooperative matrices) choose by them")]
pub(crate) struct Caps {
    /// Name of the adapter, such as `NVIDIA GeForce RTX 4070`.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Graphics interface: `vulkan`, `metal`, `dx12`, `webgpu`.
    pub backend: wgpu::Backend,
    /// Discrete, integrated, virtual, or a CPU.
    pub device_type: DeviceType,
    /// Whether it is a software driver on the CPU.
    pub software: bool,
    /// Whether parameters go as immediates rather than through the uniform ring.
    pub immediates: bool,
    /// Whether WGSL may say `enable f16;`.
    pub f16: bool,
    /// Whether subgroup operations exist.
    pub subgroups: bool,
    /// The smallest subgroup this device may run.
    pub subgroup_min: u32,
    /// The largest.
    pub subgroup_max: u32,
    /// Whether the device says that it multiplies 16 x 16 x 16 matrices of f16 with sums in f32, in subgroups of 32.
    pub coop: bool,
    /// Whether passes can be timed.
    pub timestamp: bool,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Workgroups along one dimension of the grid.
    pub max_groups: u32,
    /// Storage buffers of a kernel.
    pub max_bindings: u32,
    /// Bytes of one binding: all that a kernel sees of a tensor.
    pub max_binding_bytes: u64,
    /// Bytes of one buffer, and so of one tensor.
    pub max_buffer_bytes: u64,
    /// Turns that all loops of an invocation may take together.
    pub max_turns: Option<usize>,
}

impl Caps {
    pub(super) fn of(device: &wgpu::Device, options: &GpuOptions) -> Self {
        let info = device.adapter_info();
        let limits = device.limits();
        let features = device.features();
        Caps {
            name: info.name.clone(),
            driver: driver(&info),
            backend: info.backend,
            device_type: info.device_type,
            software: info.device_type == DeviceType::Cpu,
            immediates: options.immediates
                && features.contains(Features::IMMEDIATES)
                && limits.max_immediate_size >= MAX_PARAMS,
            f16: features.contains(Features::SHADER_F16),
            subgroups: features.contains(Features::SUBGROUP),
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            coop: features.contains(Features::SHADER_F16 | Features::SUBGROUP)
                && (options.emulated_units || options.matrix_units && has_units(&info, features))
                && limits.max_compute_workgroup_storage_size >= 16 << 10,
            timestamp: features.contains(Features::TIMESTAMP_QUERY),
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_bindings: limits.max_storage_buffers_per_shader_stage,
            // Sizes of buffers are multiples of 16.
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) & !15,
            max_buffer_bytes: limits.max_buffer_size & !15,
            max_turns: options
                .loop_limit
                .or(driver(&info).contains("llvmpipe").then_some(LLVMPIPE_TURNS))
                .map(|turns| usize::try_from(turns).unwrap_or(usize::MAX)),
        }
    }

    /// The size of all subgroups of a software driver.
    pub fn software_lanes(&self) -> Option<u32> {
        let fixed = self.subgroups && self.subgroup_min == self.subgroup_max;
        (self.software && fixed).then_some(self.subgroup_min)
    }
}

fn has_units(info: &wgpu::AdapterInfo, features: Features) -> bool {
    let widths = (info.subgroup_min_size, info.subgroup_max_size);
    features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) && widths == (32, 32)
}

/// Driver name and version in one string.
pub(super) fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_string()
}
