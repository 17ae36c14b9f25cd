//! The devices that tests run on.

use std::env;
use std::io::{Write, stderr};
use std::sync::OnceLock;

use wgrad::{Device, GpuOptions, Select, adapters};

const INSTALL: &str = "\
No Vulkan adapter for the tests of the GPU kernels. Mesa's software driver is enough:
  Debian, Ubuntu:  apt-get install libvulkan1 mesa-vulkan-drivers
  Fedora:          dnf install vulkan-loader mesa-vulkan-drivers
  Arch:            pacman -S vulkan-icd-loader vulkan-swrast
`./tests/run.sh` installs it. To test the CPU device alone, set WGRAD_SKIP_GPU=1.";

/// A CPU device, on which no other test draws random numbers, and, unless `WGRAD_SKIP_GPU=1`, the GPU.
pub fn devices() -> Vec<Device> {
    [Some(Device::new_cpu()), gpu().cloned()].into_iter().flatten().collect()
}

/// Runs a test on each of [`devices`], and checks after it that no kernel wrote beyond a buffer.
pub fn each_device(test: impl Fn(&Device)) {
    for device in devices() {
        test(&device);
        device.check_guards().unwrap_or_else(|damage| panic!("{device}: {damage}"));
    }
}

/// The GPU under test, opened once a process with guards, with random numbers of the calling test's own; None if `WGRAD_SKIP_GPU=1`. Shaders are those that users run, without the driver's
/// checks of indices, which would only hide what the guards find, and triple the time of compiling, unless `WGRAD_TEST_CHECKED=1`.
pub fn gpu() -> Option<&'static Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    thread_local! {
        static HERE: Option<&'static Device> = own(&GPU, || open(false));
    }
    HERE.with(|gpu| *gpu)
}

/// The same GPU with no more than what every browser has: default limits, parameters through the uniform ring.
pub fn portable_gpu() -> Option<&'static Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    thread_local! {
        static HERE: Option<&'static Device> = own(&GPU, || open(true));
    }
    HERE.with(|gpu| *gpu)
}

/// A handle on a shared device that draws random numbers of its own, opening the device first. Each test runs on a thread of its own, and keeps
/// one such handle until the end of the process.
pub fn own(shared: &OnceLock<Option<Device>>, open: impl FnOnce() -> Option<Device>) -> Option<&'static Device> {
    let device = shared.get_or_init(open).as_ref()?;
    Some(Box::leak(Box::new(device.with_seed(0))))
}

/// As [`gpu`], a device that no other test waits on; None if `WGRAD_SKIP_GPU=1`.
pub fn fresh_gpu() -> Option<Device> {
    open(false)
}

/// As [`fresh_gpu`], with kernels that may see no more than `bytes` of a tensor.
pub fn gpu_with_bindings_of(bytes: u64) -> Option<Device> {
    open_with(false, |options| options.binding_limit = Some(bytes))
}

/// As [`fresh_gpu`], or with no more than what every browser has, with kernels whose loops may take no more than so many turns.
pub fn gpu_with_turns_of(turns: u64, portable: bool) -> Option<Device> {
    open_with(portable, |options| options.loop_limit = Some(turns))
}

/// A GPU that computes without matrix units what kernels on them compute, shared like [`gpu`]; None where it has no f16 or no subgroups.
pub fn gpu_with_emulated_units() -> Option<&'static Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    thread_local! {
        static HERE: Option<&'static Device> = own(&GPU, || {
            let name = gpu()?.to_string();
            let tiers = adapters().into_iter().find(|a| a.name == name)?.features;
            let able = ["f16", "subgroups"].iter().all(|tier| tiers.iter().any(|has| has == tier));
            if !able {
                say(&format!("{name} has no f16 or no subgroups: kernels for matrix units are not tested"));
            }
            if able { open_with(false, |options| options.emulated_units = true) } else { None }
        });
    }
    HERE.with(|gpu| *gpu)
}

fn open(portable: bool) -> Option<Device> {
    open_with(portable, |_| ())
}

fn open_with(portable: bool, set: impl FnOnce(&mut GpuOptions)) -> Option<Device> {
    if env::var("WGRAD_SKIP_GPU").is_ok_and(|v| v == "1") {
        say("WGRAD_SKIP_GPU=1: the GPU kernels are not tested");
        return None;
    }
    let software = adapters().iter().any(|a| a.kind == "software");
    let select = match env::var("WGRAD_TEST_DEVICE").as_deref() {
        Err(_) | Ok("") if software => Select::Software,
        Err(_) | Ok("") => Select::Best,
        Ok("software") => Select::Software,
        Ok("gpu") => Select::Best,
        Ok(name) => match name.strip_prefix("gpu:").and_then(|n| n.parse().ok()) {
            Some(index) => Select::Index(index),
            None => panic!("WGRAD_TEST_DEVICE={name} is not one of software, gpu, gpu:N"),
        },
    };
    let mut options = GpuOptions::default();
    (options.checked, options.guards) = (env::var("WGRAD_TEST_CHECKED").is_ok_and(|v| v == "1"), true);
    options.portable = portable;
    let plain = options;
    set(&mut options);
    let is_plain = options == plain;
    if portable {
        options.immediates = false;
    }
    let device = Device::open(select, options).unwrap_or_else(|why| panic!("{why}\n{INSTALL}"));
    if !portable && is_plain {
        let name = device.to_string();
        let driver = adapters().into_iter().find(|a| a.name == name).map(|a| a.driver).unwrap_or_default();
        say(&format!("GPU under test: {name}, {driver}"));
    }
    Some(device)
}

/// Past the capture of the test harness: what is tested, and what is not, has to be seen.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
