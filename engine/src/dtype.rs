//! Element types.

use std::fmt;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: the type of arithmetic on every device.
    F32,
    /// IEEE half: a storage type; arithmetic is done in f32.
    F16,
    /// bfloat16: a storage type; arithmetic is done in f32.
    BF16,
    /// 64-bit float, on the CPU device only: for gradient checks.
    F64,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer: the type of indices.
    U32,
    /// Truth values; one byte on the host and the CPU device, one 32-bit word on a GPU.
    Bool,
}

impl DType {
    /// Whether it is one of the float types.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
    }

    /// Whether it is f16 or bf16: stored in 16 bits, computed in f32.
    pub fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// Whether it is one of the integer types (bool is not).
    pub fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }

    /// Bytes of one element on the host and in files.
    pub fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Bool => 1,
        }
    }

    /// Bytes that `elements` take in a GPU buffer: two halves a word, a bool a word.
    pub(crate) fn gpu_bytes(self, elements: usize) -> u64 {
        let n = elements as u64;
        match self {
            DType::F64 => n * 8,
            DType::F32 | DType::I32 | DType::U32 | DType::Bool => n * 4,
            DType::F16 | DType::BF16 => n.div_ceil(2) * 4,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
        })
    }
}
