//! Errors that arrive outside a call: kept until the next call that waits.

use std::sync::{Arc, Mutex};

use super::lock;
use crate::{Error, Result};

/// The first error that no call has reported yet, and whether the device is gone.
#[derive(Default)]
pub(super) struct Status {
    lost: Mutex<Option<String>>,
    stored: Mutex<Option<Error>>,
}

impl Status {
    /// Has wgpu report here. Only for a device of our own: handlers of an application's device are left alone.
    pub fn watch(self: &Arc<Self>, device: &wgpu::Device) {
        let status = self.clone();
        device.on_uncaptured_error(Arc::new(move |error| status.store(kernel_error("stream", &error))));
        let status = self.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the last handle of a device also reports it as lost; nobody is left to see that.
            lock(&status.lost).get_or_insert_with(|| format!("{reason:?}: {message}"));
        });
    }

    /// Keeps `error` if it is the first.
    pub fn store(&self, error: Error) {
        log::error!("{error}");
        lock(&self.stored).get_or_insert(error);
    }

    /// Whether the device is still there.
    pub fn alive(&self) -> Result<()> {
        match &*lock(&self.lost) {
            Some(message) => Err(Error::DeviceLost { message: message.clone() }),
            None => Ok(()),
        }
    }

    /// Reports and forgets the stored error.
    pub fn take(&self) -> Result<()> {
        self.alive()?;
        lock(&self.stored).take().map_or(Ok(()), Err)
    }
}

/// What wgpu said about `kernel`.
pub(super) fn kernel_error(kernel: impl Into<String>, error: &wgpu::Error) -> Error {
    Error::Kernel { kernel: kernel.into(), message: error.to_string().trim().to_string() }
}

/// Runs `make`, and returns the error that wgpu raised in it. A browser reports later, through [`Status::watch`].
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn caught<T>(device: &wgpu::Device, make: impl FnOnce() -> T) -> std::result::Result<T, wgpu::Error> {
    use wgpu::ErrorFilter;
    let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Internal, ErrorFilter::Validation];
    let scopes = filters.map(|filter| device.push_error_scope(filter));
    let made = make();
    let mut first = None;
    for scope in scopes.into_iter().rev() {
        // Natively the error is there already; nothing waits.
        first = first.or(pollster::block_on(scope.pop()));
    }
    first.map_or(Ok(made), Err)
}

/// Runs `make`. A browser reports errors later, through [`Status::watch`].
#[cfg(target_arch = "wasm32")]
pub(super) fn caught<T>(_: &wgpu::Device, make: impl FnOnce() -> T) -> std::result::Result<T, wgpu::Error> {
    Ok(make())
}
