//! Options of a GPU, and the environment variables behind them.

use std::env;
use std::str::FromStr;

/// How to open a GPU. The default reads the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Compile kernels with the checks of wgpu for indices, loops and divisions (`WGRAD_CHECKED=1`). Default: off.
    pub checked: bool,
    /// Pass kernel parameters as immediates where the device can (`WGRAD_IMMEDIATES=0` forbids it). Default: on.
    pub immediates: bool,
    /// Compute products and attention of f16 on matrix units where the device has them and they pass a test (`WGRAD_MATRIX_UNITS=0` forbids it).
    /// Default: on.
    pub matrix_units: bool,
    /// Compute by ordinary instructions what matrix units would: to test their kernels where there are none.
    #[doc(hidden)]
    pub emulated_units: bool,
    /// Fill new memory with NaN and put guard words behind each buffer (`WGRAD_GUARDS=1`). Default: off.
    pub guards: bool,
    /// Bytes that live and pooled buffers may take together (`WGRAD_MEMORY_LIMIT`). Default: what the driver gives.
    pub memory_limit: Option<u64>,
    /// Bytes that a kernel may see of one tensor, where that is to be less than the device's own limit (`WGRAD_BINDING_LIMIT`; at
    /// least 4096): to test how larger tensors are cut up. Default: the device's limit.
    pub binding_limit: Option<u64>,
    /// Turns that all loops of an invocation may take together (`WGRAD_LOOP_LIMIT`); attention that would take more goes in parts, which is
    /// tested by that. Default: 65,535 where the driver is llvmpipe, else no limit.
    pub loop_limit: Option<u64>,
    /// Ask only for what every browser has: default limits, no optional feature (`WGRAD_PORTABLE=1`). Default: off.
    pub portable: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions {
            checked: flag("WGRAD_CHECKED", false),
            immediates: flag("WGRAD_IMMEDIATES", true),
            matrix_units: flag("WGRAD_MATRIX_UNITS", true),
            emulated_units: false,
            guards: flag("WGRAD_GUARDS", false),
            memory_limit: number("WGRAD_MEMORY_LIMIT"),
            binding_limit: number("WGRAD_BINDING_LIMIT"),
            loop_limit: number("WGRAD_LOOP_LIMIT"),
            portable: flag("WGRAD_PORTABLE", false),
        }
    }
}

fn flag(name: &str, default: bool) -> bool {
    match env::var(name) {
        Ok(value) => !matches!(value.as_str(), "" | "0" | "false" | "off"),
        Err(_) => default,
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        log::warn!("{name}={value} is not a number and is ignored");
    }
    parsed
}
