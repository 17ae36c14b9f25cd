//! The buffers behind tensors, and the element types a host can hand over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::{bf16, f16};

use crate::cpu::pool;
use crate::device::gpu::GpuBuffer;
use crate::{DType, Error, Result};

/// A buffer, shared by all views of it.
#[derive(Clone)]
pub(crate) enum Storage {
    Cpu(Arc<CpuBuffer>),
    Gpu(Arc<GpuBuffer>),
}

/// Elements in host memory.
pub(crate) enum CpuData {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    Bool(Vec<bool>),
}

impl CpuData {
    pub fn len(&self) -> usize {
        match self {
            CpuData::F32(v) => v.len(),
            CpuData::F16(v) => v.len(),
            CpuData::BF16(v) => v.len(),
            CpuData::F64(v) => v.len(),
            CpuData::I32(v) => v.len(),
            CpuData::U32(v) => v.len(),
            CpuData::Bool(v) => v.len(),
        }
    }

    pub fn capacity_bytes(&self) -> usize {
        match self {
            CpuData::F32(v) => v.capacity() * 4,
            CpuData::F16(v) => v.capacity() * 2,
            CpuData::BF16(v) => v.capacity() * 2,
            CpuData::F64(v) => v.capacity() * 8,
            CpuData::I32(v) => v.capacity() * 4,
            CpuData::U32(v) => v.capacity() * 4,
            CpuData::Bool(v) => v.capacity(),
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            CpuData::F32(_) => DType::F32,
            CpuData::F16(_) => DType::F16,
            CpuData::BF16(_) => DType::BF16,
            CpuData::F64(_) => DType::F64,
            CpuData::I32(_) => DType::I32,
            CpuData::U32(_) => DType::U32,
            CpuData::Bool(_) => DType::Bool,
        }
    }
}

/// What the CPU device counts.
#[derive(Default)]
pub(crate) struct CpuMemory {
    pub live: AtomicU64,
    pub peak: AtomicU64,
    pub allocations: AtomicU64,
    /// Bytes that live tensors may take; 0 for no limit.
    pub limit: AtomicU64,
}

/// Bytes from which an allocation is tried before it is made.
const PROBED: usize = 1 << 28;

impl CpuMemory {
    fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
        self.allocations.fetch_add(1, Ordering::Relaxed);
    }

    /// Errs if `bytes` more would pass the limit, or cannot be had at all. Where an operation's output is not about as large
    /// as its inputs, it asks here first: a failed allocation of a `Vec` would end the process.
    pub fn check(&self, op: &'static str, bytes: u64) -> Result<()> {
        let limit = self.limit.load(Ordering::Relaxed);
        let in_use = self.live.load(Ordering::Relaxed);
        let too_much = limit > 0 && in_use.saturating_add(bytes) > limit;
        let refused = || {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            bytes > PROBED && Vec::<u8>::new().try_reserve_exact(bytes).is_err()
        };
        if too_much || refused() {
            return Err(Error::OutOfMemory { op, requested: bytes, in_use, limit });
        }
        Ok(())
    }
}

/// Host memory that is counted by its device.
pub(crate) struct CpuBuffer {
    pub data: CpuData,
    bytes: u64,
    memory: Arc<CpuMemory>,
}

impl CpuBuffer {
    pub fn new(data: CpuData, memory: &Arc<CpuMemory>) -> Self {
        let bytes = (data.len() * data.dtype().size()) as u64;
        memory.add(bytes);
        CpuBuffer { data, bytes, memory: memory.clone() }
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        let live = self.memory.live.fetch_sub(self.bytes, Ordering::Relaxed).saturating_sub(self.bytes);
        let data = std::mem::replace(&mut self.data, CpuData::Bool(Vec::new()));
        // What is kept and what lives take together little more than what once lived at a time.
        let peak = self.memory.peak.load(Ordering::Relaxed);
        pool::give(data, (peak + peak / 8).saturating_sub(live));
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A host type that tensors can be made from and read into.
pub trait Element: Copy + Default + Send + Sync + sealed::Sealed + 'static {
    /// The tensor dtype of this type.
    const DTYPE: DType;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn wrap(values: Vec<Self>) -> CpuData;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn owned(data: CpuData) -> Option<Vec<Self>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn slice(data: &CpuData) -> Option<&[Self]>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn slice_mut(data: &mut CpuData) -> Option<&mut [Self]>;
    /// The words of a GPU buffer.
    #[doc(hidden)]
    fn to_gpu(values: &[Self]) -> Vec<u8>;
    /// The inverse of `to_gpu`, for `count` elements.
    #[doc(hidden)]
    fn from_gpu(bytes: &[u8], count: usize) -> Vec<Self>;
}

macro_rules! element {
    ($type:ty, $variant:ident, $to:expr, $from:expr) => {
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[allow(private_interfaces)]
            fn wrap(values: Vec<Self>) -> CpuData {
                CpuData::$variant(values)
            }
            #[allow(private_interfaces)]
            fn owned(data: CpuData) -> Option<Vec<Self>> {
                if let CpuData::$variant(v) = data { Some(v) } else { None }
            }
            #[allow(private_interfaces)]
            fn slice(data: &CpuData) -> Option<&[Self]> {
                if let CpuData::$variant(v) = data { Some(v) } else { None }
            }
            #[allow(private_interfaces)]
            fn slice_mut(data: &mut CpuData) -> Option<&mut [Self]> {
                if let CpuData::$variant(v) = data { Some(v) } else { None }
            }
            fn to_gpu(values: &[Self]) -> Vec<u8> {
                $to(values)
            }
            fn from_gpu(bytes: &[u8], count: usize) -> Vec<Self> {
                $from(bytes, count)
            }
        }
    };
}

fn plain<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// Halves fill 32-bit words; an odd one leaves half a word of zeros.
fn halves<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    let mut bytes = plain(values);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn read<T: bytemuck::AnyBitPattern>(bytes: &[u8], count: usize) -> Vec<T> {
    let size = std::mem::size_of::<T>();
    bytes.chunks_exact(size).take(count).map(bytemuck::pod_read_unaligned).collect()
}

element!(f32, F32, plain, read);
element!(f64, F64, plain, read);
element!(i32, I32, plain, read);
element!(u32, U32, plain, read);
element!(f16, F16, halves, read);
element!(bf16, BF16, halves, read);
element!(
    bool,
    Bool,
    |values: &[bool]| values.iter().flat_map(|&v| u32::from(v).to_le_bytes()).collect(),
    |bytes: &[u8], count| read::<u32>(bytes, count).into_iter().map(|v| v != 0).collect()
);
