//! The one error type of the engine.

use crate::DType;

/// Result of every fallible function of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in which operation, with what was given and what was expected.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes that do not fit the operation or each other.
    #[error("{op}: {message}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What came and what was expected.
        message: String,
    },
    /// A dtype the operation does not take, or dtypes that do not fit each other.
    #[error("{op}: got dtype {got}, expected {expected}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The dtype that came.
        got: DType,
        /// The dtypes that the operation takes.
        expected: &'static str,
    },
    /// Operands that live on different devices.
    #[error("{op}: tensors are on different devices, {left} and {right}")]
    DeviceMismatch {
        /// The operation.
        op: &'static str,
        /// Device of the first tensor.
        left: String,
        /// Device of the other tensor.
        right: String,
    },
    /// A dimension that the tensor does not have.
    #[error("{op}: dimension {dim} is out of range for a tensor of rank {rank}")]
    Dim {
        /// The operation.
        op: &'static str,
        /// The dimension that came; negative counts from the end.
        dim: isize,
        /// The rank of the tensor.
        rank: usize,
    },
    /// An index beyond the end.
    #[error("{op}: index {index} is out of range for size {size}")]
    Index {
        /// The operation.
        op: &'static str,
        /// The index that came.
        index: i64,
        /// The size it must be below.
        size: usize,
    },
    /// Any other argument outside its domain.
    #[error("{op}: {message}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// What came and what was expected.
        message: String,
    },
    /// A gradient was asked of an operation that has none.
    #[error("{op} has no backward: use detach() on its input, or no_grad, if no gradient is wanted")]
    NoBackward {
        /// The operation.
        op: &'static str,
    },
    /// `backward` was called on something that no recorded operation made, or asked for what it cannot give.
    #[error("backward: {message}")]
    Autograd {
        /// What came and what was expected.
        message: String,
    },
    /// No device of the wanted kind.
    #[error("no device: {message}")]
    NoDevice {
        /// What was looked for and what was found.
        message: String,
    },
    /// The device's memory, or the limit set for it, is exhausted. The process can go on.
    #[error("{op}: out of memory: {requested} bytes wanted, {in_use} in use, limit {limit}")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
        /// Bytes of the allocation that failed.
        requested: u64,
        /// Bytes in use by live tensors.
        in_use: u64,
        /// The limit in force in bytes.
        limit: u64,
    },
    /// A tensor larger than a buffer of this device, or than what a kernel can bind of it where it cannot work in pieces.
    #[error("{op}: {bytes} bytes exceed what this device takes at once, {limit} bytes")]
    TooLarge {
        /// The operation.
        op: &'static str,
        /// Bytes wanted.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// The device went away; every tensor on it is lost.
    #[error("device lost: {message}")]
    DeviceLost {
        /// What the driver said.
        message: String,
    },
    /// A kernel that the driver refused, to compile or to run.
    #[error("kernel {kernel}: {message}")]
    Kernel {
        /// The kernel's name.
        kernel: String,
        /// What the driver said.
        message: String,
    },
    /// A file that could not be read or written, or does not hold what it should.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// A shape error of `op`.
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Error::Shape { op, message: message.into() }
    }

    /// An argument error of `op`.
    pub fn argument(op: &'static str, message: impl Into<String>) -> Self {
        Error::Argument { op, message: message.into() }
    }

    /// A file error.
    pub fn file(path: impl AsRef<std::path::Path>, message: impl ToString) -> Self {
        Error::File { path: path.as_ref().display().to_string(), message: message.to_string() }
    }
}
