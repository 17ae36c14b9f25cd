//! Compiled pipelines kept between runs, in a file of the user's cache folder for each adapter and driver. Only Vulkan has this, and most
//! of its drivers keep such a cache by themselves; those that do not compile every kernel anew in every process.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use wgpu::{Features, PipelineCache, PipelineCacheDescriptor};

use super::{Gpu, lock};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::write_atomic;
use crate::profile::Instant;

/// Seconds between two writes while kernels are still being compiled.
const PAUSE: f32 = 10.0;
/// At the start of a file, before the checksum of what follows.
const MAGIC: &[u8; 8] = b"wgradpl1";

/// Browsers have neither files nor this feature.
#[cfg(target_arch = "wasm32")]
fn write_atomic(_: &Path, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

pub(super) struct DiskCache {
    pub cache: PipelineCache,
    file: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Pipelines compiled since the last look.
    compiled: u64,
    /// When that was.
    looked: Instant,
    /// Bytes of what the file holds.
    kept: usize,
}

impl DiskCache {
    /// The cache of a device that has the feature; `WGRAD_PIPELINE_CACHE` is `off`, or another folder.
    pub fn open(device: &wgpu::Device) -> Option<Self> {
        if !device.features().contains(Features::PIPELINE_CACHE) {
            return None;
        }
        let file = folder()?.join(name(&device.adapter_info()));
        let data = fs::read(&file).ok().and_then(|bytes| content(&file, bytes));
        let descriptor = PipelineCacheDescriptor { label: Some("wgrad"), data: data.as_deref(), fallback: true };
        // SAFETY: the data are what `get_data` gave for this adapter and driver, whole as their checksum says; wgpu and the driver
        // compare their own headers as well, and begin an empty cache where they differ.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        let kept = data.map_or(0, |data| data.len());
        Some(DiskCache { cache, file, state: Mutex::new(State { compiled: 0, looked: Instant::now(), kept }) })
    }

    /// Counts a pipeline that was compiled.
    pub fn compiled(&self) {
        lock(&self.state).compiled += 1;
    }

    /// Writes the file if there is something new. A failure costs time in the next run, no more.
    fn save(&self, at_once: bool) {
        let mut state = lock(&self.state);
        if state.compiled == 0 || !at_once && state.looked.elapsed().as_secs_f32() < PAUSE {
            return;
        }
        (state.compiled, state.looked) = (0, Instant::now());
        // Some drivers keep nothing here.
        let Some(data) = self.cache.get_data().filter(|data| data.len() > state.kept) else { return };
        state.kept = data.len();
        let bytes = [&MAGIC[..], &checksum(&data).to_le_bytes(), &data].concat();
        let written = self.file.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| e.to_string());
        match written.and_then(|()| write_atomic(&self.file, &bytes).map_err(|e| e.to_string())) {
            Ok(()) => log::debug!("{} bytes of compiled pipelines in {}", bytes.len(), self.file.display()),
            Err(why) => log::debug!("compiled pipelines are not kept: {why}"),
        }
    }
}

impl Gpu {
    /// Keeps what was compiled since the last time, if that was a while ago.
    pub(super) fn keep_pipelines(&self) {
        if let Some(cache) = &self.disk_cache {
            cache.save(false);
        }
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        self.save(true);
    }
}

/// Where the files are, if they are wanted.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match set("WGRAD_PIPELINE_CACHE") {
        Some(off) if ["off", "0"].iter().any(|word| off == Path::new(word)) => None,
        Some(folder) => Some(folder),
        None => {
            let home = || set("HOME").map(|home| home.join(".cache"));
            set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(home).map(|cache| cache.join("wgrad"))
        }
    }
}

/// Another driver, or another wgpu, has another file.
fn name(info: &wgpu::AdapterInfo) -> String {
    let driver = checksum(format!("{} {} {}", info.name, info.driver, info.driver_info).as_bytes());
    format!("pipelines-{:x}-{:x}-{driver:016x}.bin", info.vendor, info.device)
}

/// What stands behind magic and checksum, if both are right.
fn content(file: &Path, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let split = bytes.split_at_checked(16);
    let whole = split.filter(|(head, data)| head[..8] == MAGIC[..] && head[8..] == checksum(data).to_le_bytes());
    if whole.is_none() {
        log::debug!("{} is damaged or of another version, and is not used", file.display());
    }
    whole.map(|(_, data)| data.to_vec())
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_not_used() {
        let data = b"compiled".to_vec();
        let file = [&MAGIC[..], &checksum(&data).to_le_bytes(), &data].concat();
        assert_eq!(content(Path::new("x"), file.clone()), Some(data));
        for (i, _) in file.iter().enumerate() {
            let mut wrong = file.clone();
            wrong[i] ^= 1;
            assert_eq!(content(Path::new("x"), wrong), None);
            assert_eq!(content(Path::new("x"), file[..i].to_vec()), None);
        }
    }
}
