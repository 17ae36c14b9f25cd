//! Which device to take.

use std::sync::{Mutex, PoisonError};

use super::gpu::{self, GpuOptions, Select};
use super::{Device, Kind};
use crate::{Error, Result};

/// Devices opened so far: every `Device::gpu(1)` of a process is the same device.
static OPENED: Mutex<Vec<(Select, Device)>> = Mutex::new(Vec::new());

impl Device {
    /// The best device of this machine: a discrete GPU, else an integrated one, else the CPU. One log line says which.
    ///
    /// The environment variable `WGRAD_DEVICE` overrides it: `cpu`, `gpu` (the best GPU, no fallback), `gpu:N` (the
    /// N-th adapter of `wgrad devices`) or `software` (a software Vulkan driver).
    ///
    /// # Errors
    /// If the device that `WGRAD_DEVICE` names is not there.
    pub fn best() -> Result<Device> {
        let device = match std::env::var("WGRAD_DEVICE") {
            Ok(name) if !name.is_empty() => Device::by_name(&name)?,
            _ => Device::opened(Select::Best).unwrap_or_else(|why| {
                log::debug!("no GPU taken: {why}");
                Device::cpu()
            }),
        };
        log::info!("device: {device}");
        Ok(device)
    }

    /// The device called `cpu`, `gpu`, `gpu:N` or `software`.
    ///
    /// # Errors
    /// If the name is none of these or no such device is there.
    pub fn by_name(name: &str) -> Result<Device> {
        match name {
            "cpu" => Ok(Device::cpu()),
            "gpu" => Device::opened(Select::Best),
            "software" => Device::software(),
            _ => match name.strip_prefix("gpu:").and_then(|n| n.parse().ok()) {
                Some(index) => Device::gpu(index),
                None => Err(Error::NoDevice { message: format!("{name:?} is not one of cpu, gpu, gpu:N, software") }),
            },
        }
    }

    /// The GPU with this index in [`crate::adapters`].
    ///
    /// # Errors
    /// If there is no such adapter or it cannot be opened.
    pub fn gpu(index: usize) -> Result<Device> {
        Device::opened(Select::Index(index))
    }

    /// A software Vulkan driver, such as Mesa's llvmpipe or SwiftShader: slow, but it runs the very GPU kernels.
    ///
    /// # Errors
    /// If none is installed.
    pub fn software() -> Result<Device> {
        Device::opened(Select::Software)
    }

    /// Opens a device of its own with explicit options.
    ///
    /// # Errors
    /// If there is no such adapter or it cannot be opened.
    pub fn open(select: Select, options: GpuOptions) -> Result<Device> {
        Ok(Device::new(Kind::Gpu(gpu::open(select, options)?)))
    }

    /// As [`open`](Self::open), also in a browser, which has one adapter whatever `select` says.
    ///
    /// # Errors
    /// If there is no such adapter or it cannot be opened.
    pub async fn open_async(select: Select, options: GpuOptions) -> Result<Device> {
        Ok(Device::new(Kind::Gpu(gpu::open_async(select, options).await?)))
    }

    /// A device on top of an application's own wgpu device and queue, for example one that also renders.
    ///
    /// # Errors
    /// If its limits are below what every WebGPU device has.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue, options: GpuOptions) -> Result<Device> {
        Ok(Device::new(Kind::Gpu(gpu::from_wgpu(device, queue, options)?)))
    }

    /// The wgpu device and queue underneath, unless this is the CPU device. Submit own work after a [`Device::flush`].
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        self.gpu_ref().map(|gpu| (gpu.device(), gpu.queue()))
    }

    fn opened(select: Select) -> Result<Device> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = opened.iter().find(|(s, _)| *s == select) {
            return Ok(device.clone());
        }
        let device = Device::open(select, GpuOptions::default())?;
        opened.push((select, device.clone()));
        Ok(device)
    }
}
