//! stub
use crate::{DType, Error, Result};
use std::sync::Arc;
/// Stats.
#[derive(Default, Debug, Clone)]
#[allow(missing_docs)]
pub struct MemoryStats {
    pub live_bytes: u64,
    pub pooled_bytes: u64,
    pub peak_bytes: u64,
    pub allocations: u64,
    pub dispatches: u64,
    pub submits: u64,
    pub pipelines: u64,
    pub bind_groups_created: u64,
}
pub(crate) struct Gpu;
pub(crate) struct GpuBuffer;
pub(crate) struct Caps {
    pub name: String,
    pub software: bool,
}
#[allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    Best,
    Index(usize),
    Software,
}
#[allow(missing_docs)]
#[derive(Clone, Default)]
pub struct GpuOptions;
pub(crate) enum Bind<'a> {
    Read(&'a GpuBuffer),
    Write(&'a GpuBuffer),
}
pub(crate) struct Launch<'a> {
    pub kernel: &'static str,
    pub elems: &'a [(&'static str, DType)],
    pub constants: &'a [(&'static str, f64)],
    pub bind: &'a [Bind<'a>],
    pub params: &'a [u8],
    pub groups: u64,
}
pub(crate) fn open(_: Select, _: GpuOptions) -> Result<Arc<Gpu>> {
    Err(Error::NoDevice { message: "stub".into() })
}
fn no<T>() -> Result<T> {
    Err(Error::NoDevice { message: "stub".into() })
}
impl Gpu {
    pub fn alloc(self: &Arc<Self>, _op: &'static str, _bytes: u64) -> Result<Arc<GpuBuffer>> {
        no()
    }
    pub fn upload(self: &Arc<Self>, _op: &'static str, _bytes: &[u8]) -> Result<Arc<GpuBuffer>> {
        no()
    }
    pub fn copy(&self, _s: &GpuBuffer, _so: u64, _d: &GpuBuffer, _do: u64, _b: u64) -> Result<()> {
        no()
    }
    pub fn run(&self, _l: Launch) -> Result<()> {
        no()
    }
    pub fn read(&self, _op: &'static str, _b: &GpuBuffer, _o: u64, _n: u64) -> Result<Vec<u8>> {
        no()
    }
    pub async fn read_async(&self, _op: &'static str, _b: &GpuBuffer, _o: u64, _n: u64) -> Result<Vec<u8>> {
        no()
    }
    pub fn flush(&self) -> Result<()> {
        no()
    }
    pub fn sync(&self) -> Result<()> {
        no()
    }
    pub fn caps(&self) -> &Caps {
        unimplemented!()
    }
    pub fn memory(&self) -> MemoryStats {
        MemoryStats::default()
    }
    pub fn set_memory_limit(&self, _b: Option<u64>) {}
}
